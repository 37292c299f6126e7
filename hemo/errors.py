"""Every error raised on purpose.

Context is added with `add_note`; none has an `__init__` of its own, so that each survives pickling between processes.
"""


class HemoError(Exception):
    """Something hemo noticed. The job ends with code 1 and is safe to run again."""


class UserError(HemoError):
    """The input is wrong and only the user can mend it: one line that names the cure, exit code 2."""


class ConfigError(UserError):
    """A config file or flag has an unknown key, a wrong type or a value out of range."""


class SourceError(UserError):
    """A corpus, shard folder, training set, checkpoint or record folder is missing, empty or unreadable."""


class SourceChangedError(HemoError):
    """A file is not what it was when the corpus was listed. Nothing was made of it; a new run lists again."""


class StorageError(HemoError, ConnectionError):
    """A storage did not answer, or not hemo: no such host, no credentials. An OSError as well, and handled as such."""


class LabelError(UserError):
    """The label table contradicts itself or does not fit the images."""


class OutputError(UserError):
    """The output folder cannot be written, or belongs to another configuration."""


class SplitError(HemoError):
    """A patient would stand in two of hemo's own splits. The message carries the evidence."""


class RejectLimitError(HemoError):
    """More inputs were rejected than `max_reject_fraction` allows. What was written is kept."""


class TrialError(HemoError):
    """One trial cannot go on (loss not a number, out of memory). It is recorded as failed with this reason."""


class SliceError(HemoError):
    """One input or frame cannot become an image: `SliceError(code, detail)`.

    `code` is one of `hemo.imaging.image.REASONS`; `detail` a sentence for a radiology engineer, without identifiers.
    """
