"""Key of a trial: the digest that identifies it, the paths of its files, and its state by these files."""

import hashlib
from dataclasses import dataclass
from typing import Literal

from hemo.config.trial import TrialConfig
from hemo.digest import digest_of
from hemo.models.weight_files import find_weights, unreadable_weights
from hemo.shards.embeddings import read_card as read_embeddings_card
from hemo.storage import filesystem, join
from hemo.trials.progress import TrialProgress, read_progress
from hemo.trials.record import RECORD_SCHEMA_VERSION, TrialRecord, has_record, read_record, write_record

TrialState = Literal["absent", "running", "failed", "pruned", "complete"]


@dataclass(frozen=True)
class TrialKey:
    """A trial on one training set. It pickles: workers need not compute the digest again."""

    config: TrialConfig
    records: str  # folder of records, a path or URI
    digest: str  # 16 hexadecimal digits
    weights: str = "none"  # `none`, `imagenet`, or the fingerprint of the starting weights

    @property
    def folder(self) -> str:
        """Folder of the trial's record."""
        return join(self.records, self.digest)

    @property
    def checkpoint(self) -> str:
        """Folder of its checkpoint."""
        return checkpoint_folder(self.records, self.digest)

    @property
    def state_path(self) -> str:
        """State of training while the trial runs, from which an interrupted one resumes."""
        return join(self.checkpoint, "state.pt")

    def state(self) -> TrialState:
        """Return how far the trial is, by its files."""
        return trial_state(self.record(), read_progress(self.records, self.digest))

    def record(self) -> TrialRecord | None:
        """Return the trial's record, None where there is none."""
        return read_record(self.records, self.digest) if has_record(self.records, self.digest) else None

    def finished_record(self, *, pruned_counts: bool = False) -> TrialRecord | None:
        """Return the record of a trial that need not run again, None of one that must.

        The name is not part of a trial's digest: where the trial was renamed, its record is written anew.

        Args:
            pruned_counts: Whether a pruned trial is finished too: in a search that stops trials itself.
        """
        record = self.record()
        if record is None or not (record.status == "complete" or (pruned_counts and record.status == "pruned")):
            return None
        if record.config.name != self.config.name:
            record = record.model_copy(update={"config": self.config})
            write_record(self.records, record, None)
        return record


class TrialKeys:
    """Makes the keys of trials that share a training set and a folder of records; hashes each weights file once."""

    def __init__(self, records: str, training_set: str) -> None:
        """Take the folder of records and the training set's digest."""
        self._records, self._training_set = records, training_set
        self._fingerprints: dict[str, str] = {}

    def key(self, config: TrialConfig) -> TrialKey:
        """Return the key of one trial.

        Raises:
            ConfigError: If the starting weights cannot be read.
        """
        embeddings = config.model.series.embeddings
        if embeddings:
            return TrialKey(config, self._records, self._sequence_digest(config, embeddings))
        weights = config.model.weights
        if weights not in ("none", "imagenet"):
            if weights not in self._fingerprints:
                self._fingerprints[weights] = weights_fingerprint(weights)
            weights = self._fingerprints[weights]
        return TrialKey(config, self._records, _digest(config, self._training_set, weights), weights)

    def _sequence_digest(self, config: TrialConfig, embeddings: str) -> str:
        """Return the digest of a sequence model's trial.

        Raises:
            SourceError: If there are no finished embeddings.
        """
        if embeddings not in self._fingerprints:
            self._fingerprints[embeddings] = embeddings_fingerprint(embeddings)
        return _digest(config, self._training_set, "none", self._fingerprints[embeddings])


def _digest(config: TrialConfig, training_set: str, weights: str, embeddings: str = "") -> str:
    """Return the name of a trial's folder: it covers all that decides the result, and nothing else.

    Of starting weights in a file or checkpoint, the content decides, not the path; of embeddings what made them.
    """
    trial = config.deciding()
    trial["model"]["weights"] = weights
    trial["model"]["series"]["embeddings"] = embeddings
    return digest_of({"schema": RECORD_SCHEMA_VERSION, "trial": trial, "training_set": training_set})


def weights_fingerprint(location: str) -> str:
    """Return the SHA-256 of a file of weights, `sha256:` and 64 hexadecimal digits; of a checkpoint, also of its card.

    Raises:
        ConfigError: If it cannot be read.
    """
    try:
        return "+".join(_sha256(file) for file in find_weights(location).deciding)
    except OSError as error:
        raise unreadable_weights(location, error) from error


def embeddings_fingerprint(location: str) -> str:
    """Return the digest of what made embeddings, 16 hexadecimal digits.

    Raises:
        SourceError: If there are no finished embeddings.
    """
    return digest_of(read_embeddings_card(location).inputs)


def _sha256(location: str) -> str:
    fs, path = filesystem(location)
    with fs.open(path, "rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def checkpoint_folder(records: str, digest: str) -> str:
    """Return the folder of a trial's checkpoint."""
    return join(records, digest, "checkpoint")


def trial_state(record: TrialRecord | None, progress: TrialProgress | None) -> TrialState:
    """Return how far a trial is: by its record, or running where its progress was written after that.

    A complete trial does not run again; the progress of one that failed or was pruned may be of a new attempt.
    """
    if record and (progress is None or record.status == "complete" or record.finished >= progress.updated):
        return record.status
    return "running" if progress else "absent"
