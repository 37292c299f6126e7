"""The exceptions that hemo raises.

Context is added with `add_note`; none has an `__init__` of its own, so that each survives pickling between processes.
"""

import errno
import importlib.util
import re
from collections.abc import Sequence
from typing import TypeGuard

DISK_FULL = "free some, or give a folder on a larger disk"
"""What to do about it; see `is_disk_full`."""

_PASSWORD_OF_USER = re.compile(r"(//|\b)([^\s:/@'\"]*):(?!//)[^\s'\"&]*@")
_PASSWORD_IN_QUERY = re.compile(r"([?&](?:password|passwd|pwd)=)[^\s'\"&]+")


class HemoError(Exception):
    """Any error that hemo raises. The job ends with code 1 and is safe to run again."""


class UserError(HemoError):
    """The input is wrong: the message is one line that states the remedy; exit code 2."""


class ConfigError(UserError):
    """A config file or flag has an unknown key, a wrong type or a value out of range."""


class SourceError(UserError):
    """A corpus, shard folder, training set, checkpoint or record folder is missing, empty or unreadable."""


class SourceChangedError(HemoError):
    """A file has changed since the corpus was listed. It is not converted; a new run lists the corpus again."""


class StorageError(HemoError, ConnectionError):
    """A storage cannot be reached or denies access: no such host, no credentials. An OSError as well."""


class LabelError(UserError):
    """The label table contradicts itself or does not fit the images."""


class OutputError(UserError):
    """The output folder cannot be written, or belongs to another configuration."""


class LockedError(OutputError):
    """Another run is writing in the output folder."""


class SplitError(HemoError):
    """A patient would be in two of the splits that hemo makes. The message names the images."""


class RejectLimitError(HemoError):
    """More inputs were rejected than `max_reject_fraction` allows. What was written is kept."""


class TrialError(HemoError):
    """One trial cannot continue (loss is NaN, out of memory). It is recorded as failed with this reason."""


class SliceError(HemoError):
    """One input or frame cannot become an image: `SliceError(code, detail)`.

    `code` is one of `hemo.imaging.image.REASONS`; `detail` a sentence for a radiology engineer, without identifiers.
    """


def require_extra(extra: str, *packages: str) -> None:
    """Refuse what needs packages of one of hemo's extras.

    Raises:
        ConfigError: If one is not installed, naming the extra.
    """
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise ConfigError(f"{extra} needs {', '.join(missing)}, not installed here; `pip install 'hemo[{extra}]'`")


def is_disk_full(error: BaseException) -> TypeGuard[OSError]:
    """Return whether a file could not be written because a disk, or what one may use of it, is full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def reason_of(error: OSError) -> str:
    """Return why a file cannot be used, without its name: the system's words, or the kind of error if it has none."""
    return error.strerror or type(error).__name__


def without_passwords(text: str) -> str:
    """Return a text in which the passwords of database URLs are `***`."""
    return _PASSWORD_OF_USER.sub(r"\1\2:***@", _PASSWORD_IN_QUERY.sub(r"\1***", text))


def first_names(names: Sequence[str], at_most: int = 5) -> str:
    """Return the first names for a message, and how many there are beyond: `a, b and 3 more`."""
    more = f" and {len(names) - at_most} more" if len(names) > at_most else ""
    return f"{', '.join(names[:at_most])}{more}"
