"""The validation metric of a chosen trial, corrected for having been chosen by it, from the predictions of records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hemo.reporting.table_format import metric
from hemo.stats.bootstrap import corrected_choice, patient_draws, resampled_means, resampled_ranking
from hemo.stats.intervals import too_few
from hemo.trials.predictions import Scores, log_loss_weights, split_scores
from hemo.trials.record import TrialRecord, read_predictions, title_of

NAMES = {"val_loss": "loss", "val_accuracy": "accuracy at 0.5", "val_auroc": "AUROC"}


@dataclass(frozen=True, eq=False)
class Resampled:
    """A metric of a trial on validation."""

    values: NDArray[np.float64]  # (1 + 2 x samples,): as it is, of each resample, and of the patients left out of it
    images: str  # digest of the images


@dataclass(frozen=True)
class Choice:
    """A trial chosen on validation: by which metric, among how many, and what that metric is after correction."""

    record: TrialRecord
    metric: str  # val_loss, val_accuracy, val_auroc
    trials: int
    images: int
    patients: int
    value: float | None  # as it was selected; None where predictions do not give the metric
    corrected: float | None
    reason: str = ""  # why it was not corrected
    resampled: Mapping[str, Resampled] = field(default_factory=dict, compare=False, repr=False)  # digest -> resamples


def choice_among(
    records: Sequence[TrialRecord],
    by: str,
    folder: str,
    *,
    samples: int,
    seed: int,
    known: Mapping[str, Resampled] | None = None,
) -> Choice | None:
    """Return a choice with its correction; None where there was none to make.

    Metrics are those of an epoch: not calibrated, at a threshold of 0.5. The choice of the best epoch within a trial is
    not repeated: predictions are those of the best epoch.

    Args:
        records: The trial that was chosen, then those it was chosen among, perhaps itself again; only complete ones
            count.
        by: `val_loss`, `val_accuracy` or `val_auroc`.
        folder: Folder of records with the predictions.
        samples: Resamples of patients.
        seed: Of the resampling.
        known: Digest -> resamples of this metric, with the same samples and seed, of trials whose files have not
            changed since: their predictions are not read again.

    Raises:
        SourceError: If the predictions of a complete trial cannot be read.
    """
    complete = list({record.digest: record for record in records if record.status == "complete"}.values())
    if len(complete) < 2:
        return None
    known, chosen = known or {}, complete[0]
    unread = {record.digest: record for record in complete if record.digest not in known} | {chosen.digest: chosen}
    scores = {digest: _validation(record, folder) for digest, record in unread.items()}
    first = scores[chosen.digest]
    if first is None or None in scores.values():
        return Choice(chosen, by, len(complete), 0, 0, None, None, "not all trials have predictions on validation")
    patients = int(first.patients.max()) + 1
    images = {each.images for each in scores.values() if each} | {
        known[each.digest].images for each in complete if each.digest in known
    }
    if reason := _obstacle(chosen, first, len(images), by, patients):
        return Choice(chosen, by, len(complete), len(first.labels), patients, None, None, reason)
    draws = patient_draws(patients, samples, seed)
    weights = np.hstack([np.ones((patients, 1)), draws, draws == 0])
    new = {
        digest: Resampled(_weighted_metric(each, unread[digest], by, weights), each.images)
        for digest, each in scores.items()
        if each
    }
    resampled = {record.digest: {**known, **new}[record.digest] for record in complete}
    values = np.stack([resampled[record.digest].values for record in complete], axis=1)
    corrected = corrected_choice(values[1 : 1 + samples], values[1 + samples :], less_is_better=by == "val_loss")
    value = float(resampled[chosen.digest].values[0])
    return Choice(chosen, by, len(complete), len(first.labels), patients, value, corrected, resampled=resampled)


def _validation(record: TrialRecord, folder: str) -> Scores | None:
    return split_scores(read_predictions(folder, record.digest), "val", record, calibrated=False)


def _obstacle(chosen: TrialRecord, scores: Scores, sets_of_images: int, by: str, patients: int) -> str:
    """Return why a choice cannot be repeated; empty if it can."""
    loss = chosen.config.training.loss
    if by == "val_loss" and loss not in ("default", "rsna"):
        return f"predictions do not give the loss {loss}"
    if sets_of_images > 1:
        return f"trials were validated on different {chosen.config.row_noun.many}"
    if by == "val_auroc" and all(fraction in (0, 1) for fraction in scores.labels.mean(axis=0)):
        return f"all {chosen.config.row_noun.many} have one label"
    return too_few(patients)


def _weighted_metric(scores: Scores, record: TrialRecord, by: str, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a metric for each set of weights of patients, shape (patients, sets)."""
    if by == "val_auroc":
        return resampled_ranking(scores.scores, scores.labels, scores.patients, weights)[0]
    if by == "val_accuracy":
        correct = scores.predicted == scores.labels
        right = correct.all(axis=1) if scores.exclusive else correct.mean(axis=1)
        return resampled_means(right.astype(np.float64), scores.patients, weights)
    columns = log_loss_weights(record) if record.config.training.loss == "rsna" else None
    return resampled_means(scores.image_log_loss(columns), scores.patients, weights)


def describe_choice(choice: Choice, samples: int) -> str:
    """Return a sentence with the validation metric of the chosen trial before and after correction."""
    name = title_of(choice.record)
    if choice.value is None or choice.corrected is None:
        return f"validation {NAMES[choice.metric]} of {name} not corrected: {choice.reason or 'not defined'}"
    value, corrected = (metric(each, choice.images) for each in (choice.value, choice.corrected))
    return (
        f"validation {NAMES[choice.metric]} {corrected} instead of {value}, for {name} is the best of {choice.trials} "
        f"trials on these {choice.patients} patients (bootstrap bias-corrected, Tsamardinos 2018, {samples:,} "
        "resamples of patients; the choice of the epoch is not corrected)"
    )
