"""One trial as a table row: its record, and its predictions on test evaluated with intervals."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from hemo.config.curate import LEAKY
from hemo.reporting.table_format import MISSING, decimals, number
from hemo.stats.auroc import Auroc, auroc
from hemo.stats.bootstrap import patient_draws, resampled_means, resampled_ranking
from hemo.stats.intervals import Interval, balanced_accuracy_interval, proportion_interval, rate_interval
from hemo.training.results import ANY_CLASS
from hemo.trials.predictions import Scores, log_loss_weights, split_scores
from hemo.trials.record import TrialRecord, read_predictions

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, eq=False)
class Ranking:
    """How a trial ranks the test images, as paired comparisons need it; not defined where all have one label."""

    auroc: Auroc
    average_precision: float  # of several classes the mean
    resampled_auroc: NDArray[np.float64]  # (samples,), in the same resamples of patients for all trials
    resampled_average_precision: NDArray[np.float64]  # (samples,)


@dataclass(frozen=True, eq=False)
class ResultOnTest:
    """Predictions of a trial on test, evaluated."""

    images: str  # digest of the images, their patients and labels
    image_count: int
    patient_count: int
    accuracy: Interval | None  # None where all images have the same labels
    balanced_accuracy: Interval | None  # None where classes exclude each other as well
    recall: Interval | None  # of a binary task; None without positives
    specificity: Interval | None  # of a binary task; None without negatives
    majority_accuracy: float
    ranking: Ranking | None
    log_loss: float
    resampled_log_loss: NDArray[np.float64]  # (samples,)

    @property
    def auroc(self) -> Interval | None:
        """AUROC with its interval; None where all images have one label."""
        return self.ranking.auroc.interval() if self.ranking else None


@dataclass(frozen=True, eq=False)
class Row:
    """One trial, with its evaluation on test if it was evaluated."""

    record: TrialRecord
    test: ResultOnTest | None = None


@dataclass(frozen=True)
class Prevalence:
    """How frequent what is to be predicted is in some images, as one number."""

    head: str  # of its column
    fraction: float  # of the images, 0 to 1
    name: str = ""  # of the class, where each image has exactly one

    @property
    def text(self) -> str:
        """`12.5%`, or with the class `viral 40.0%`."""
        return f"{self.name} {self.fraction:.1%}".strip()


@dataclass(frozen=True)
class SubsetMetrics:
    """Metrics of images of one pixel format or scanner: where that and label correlate, a model may use it."""

    name: str
    images: int
    prevalence: Prevalence
    accuracy: Interval | None  # None where all images have the same labels
    auroc: Interval | None  # None where no class has both labels


@dataclass(frozen=True)
class ClassMetrics:
    """Metrics of one class against all others."""

    name: str
    positives: int
    true_positives: int
    false_positives: int
    recall: Interval | None  # None without positives
    specificity: Interval | None  # None without negatives
    precision: float | None  # None without predicted positives
    auroc: Interval | None  # None with one label only
    average_precision: float | None  # None without positives


def read_row(record: TrialRecord, folder: str, samples: int, seed: int) -> Row:
    """Return a trial with the evaluation of its predictions on test, where it has any.

    Args:
        record: The trial.
        folder: Folder of records with the predictions.
        samples: Resamples of patients.
        seed: Of the resampling.

    Raises:
        SourceError: If test was evaluated and its predictions cannot be read.
    """
    test = read_test(record, folder)
    return Row(record, evaluate_scores(test, log_loss_weights(record), samples, seed) if test else None)


def read_test(record: TrialRecord, folder: str) -> Scores | None:
    """Return a trial's predictions on test; None where test was not evaluated."""
    if "test" not in record.metrics:
        return None
    return split_scores(read_predictions(folder, record.digest), "test", record)


def read_scores(record: TrialRecord, folder: str) -> tuple[Scores | None, Scores, Scores] | None:
    """Return a trial's calibrated predictions on validation and test, and those on test as trained.

    None where test was not predicted; that of validation is None where that was not.
    """
    predictions = read_predictions(folder, record.digest)
    val, test = split_scores(predictions, "val", record), split_scores(predictions, "test", record)
    trained = split_scores(predictions, "test", record, calibrated=False)
    return (val, test, trained) if test and trained else None


def evaluate_scores(test: Scores, weights: list[float], samples: int, seed: int) -> ResultOnTest:
    """Evaluate predictions, with intervals and resamples.

    Args:
        test: The predictions.
        weights: How often each class counts in the log loss.
        samples: Resamples of patients.
        seed: Of the resampling.
    """
    patients = int(test.patients.max()) + 1
    losses = test.image_log_loss(weights)
    binary = test.labels.shape[1] == 1
    return ResultOnTest(
        images=test.images,
        image_count=len(test.labels),
        patient_count=patients,
        accuracy=_accuracy(test),
        balanced_accuracy=None
        if test.exclusive
        else balanced_accuracy_interval(test.predicted, test.labels, test.patients),
        recall=_rate(test, 0, 1) if binary else None,
        specificity=_rate(test, 0, 0) if binary else None,
        majority_accuracy=test.majority_accuracy,
        ranking=_rank(test, patients, samples, seed),
        log_loss=float(losses.mean()),
        resampled_log_loss=resampled_means(losses, test.patients, patient_draws(patients, samples, seed)),
    )


def _rank(test: Scores, patients: int, samples: int, seed: int) -> Ranking | None:
    area = auroc(test.scores, test.labels, test.patients)
    if area is None:
        return None
    arrays = test.scores, test.labels, test.patients
    _, precision = resampled_ranking(*arrays, np.ones((patients, 1)))
    return Ranking(area, float(precision[0]), *resampled_ranking(*arrays, patient_draws(patients, samples, seed)))


def _accuracy(scores: Scores) -> Interval | None:
    """Return the accuracy, of several classes over all of them; None where all images have the same labels."""
    if (scores.labels == scores.labels[0]).all():
        return None
    return proportion_interval(scores.hits.ravel(), scores.patients.repeat(scores.hits.shape[1]))


def _rate(scores: Scores, column: int, label: int) -> Interval | None:
    """Return recall (label 1) or specificity (label 0) of a class."""
    labels, predicted = scores.labels[:, column], scores.predicted[:, column]
    return rate_interval(predicted == label, labels, scores.patients, label)


def image_of(record: TrialRecord) -> str:
    """Return the size of the images that a network received, `3 x 64 x 64`; empty if it is not recorded.

    Images that the network resizes have both sizes: `3 x 64 x 64 (resized from 3 x 224 x 224)`.
    """
    side_px = record.config.model.side_px
    if not record.image or not side_px:
        return record.image
    channels, _, _ = record.image.partition(" x ")
    received = f"{channels} x {side_px} x {side_px}"
    return received if received == record.image else f"{received} (resized from {record.image})"


def counts_text(record: TrialRecord, split: str) -> str:
    """Return `131 images of 10 patients` of a split, or of studies; without patients where they were not counted."""
    patients = f" of {record.patients[split]:,} patients" if split in record.patients else ""
    return f"{record.rows[split]:,} {record.config.row_noun.many}{patients}"


def split_name(record: TrialRecord) -> str:
    """Return how a training set was split, with a warning if the split is leaky."""
    return f"{record.split} (leaky: {LEAKY[record.split]})" if record.split in LEAKY else record.split


def estimate(interval: Interval | None, *, signed: bool = False) -> str:
    """Return a value with the ends of its interval, `0.872 (0.81-0.93)`, to two digits of the interval's half-width.

    Without an interval it has two decimals; `MISSING` for None.

    Args:
        interval: To be formatted.
        signed: Whether it is a difference: `+0.012 (-0.031 to +0.055)`.
    """
    if interval is None:
        return MISSING
    if interval.ends is None:
        return number(interval.value, 2, signed=signed)
    low, high = interval.ends
    digits = decimals((high - low) / 2)
    value, *ends = (number(each, digits, signed=signed) for each in (interval.value, low, high))
    return f"{value} ({(' to ' if signed else '-').join(ends)})"


def interval_ends(name: str, interval: Interval | None) -> dict[str, float | None]:
    """Return the columns `NAME_low` and `NAME_high` of a CSV file; None without an interval."""
    low, high = (interval.ends if interval else None) or (None, None)
    return {f"{name}_low": low, f"{name}_high": high}


def p_text(p: float | None) -> str:
    """Return a p-value with three decimals, `< 0.001` below; `MISSING` for None."""
    return "< 0.001" if p is not None and p < 0.001 else number(p, 3)


def join_with_counts(texts: Sequence[Sequence[str]]) -> str:
    """Return the texts of all trials joined, each once, with its count where not all trials have it.

    Args:
        texts: Of each trial.
    """
    counts = Counter(text for trial in texts for text in dict.fromkeys(trial) if text)
    return "; ".join(
        text if count == len(texts) else f"{text} ({count} of {len(texts)} trials)" for text, count in counts.items()
    )


def metrics_by_group(scores: Scores, groups: NDArray[np.str_], classes: Sequence[str]) -> tuple[SubsetMetrics, ...]:
    """Return metrics of each group of images, the most frequent first; empty if there is only one group.

    Args:
        scores: Predictions of a split.
        groups: Name of the group of each image, such as `scores.pixel_formats`, shape (rows,).
        classes: Name of each column.
    """
    names, counts = np.unique(groups, return_counts=True)
    if len(names) < 2:
        return ()
    ordered = [str(names[index]) for index in np.argsort(-counts, kind="stable")]
    return tuple(_of_subset(scores.where(groups == name), name, classes) for name in ordered)


def metrics_by_class(scores: Scores, classes: Sequence[str]) -> tuple[ClassMetrics, ...]:
    """Return metrics of each class, in the order of the columns; empty if there is only one class.

    Args:
        scores: Predictions of a split.
        classes: Name of each column.
    """
    if len(classes) < 2:
        return ()
    return tuple(_of_class(scores, column, name) for column, name in enumerate(classes))


def prevalence_of(scores: Scores, classes: Sequence[str]) -> Prevalence:
    """Return how frequent the class is; of several the class `any`, else the mean; of exclusive ones the commonest.

    The mean of exclusive classes is 1 / classes whatever the images are.

    Args:
        scores: Predictions of some images.
        classes: Name of each column.
    """
    fractions = scores.labels.mean(axis=0)
    if scores.exclusive:
        return Prevalence("commonest class", float(fractions.max()), classes[int(fractions.argmax())])
    if len(classes) == 1:
        return Prevalence("prevalence", float(fractions[0]))
    if ANY_CLASS in classes:
        return Prevalence(f"prevalence of {ANY_CLASS}", float(fractions[classes.index(ANY_CLASS)]))
    return Prevalence("mean prevalence", float(fractions.mean()))


def _of_subset(subset: Scores, name: str, classes: Sequence[str]) -> SubsetMetrics:
    area = auroc(subset.scores, subset.labels, subset.patients)
    return SubsetMetrics(
        name,
        len(subset.labels),
        prevalence_of(subset, classes),
        _accuracy(subset),
        area.interval() if area else None,
    )


def _of_class(scores: Scores, column: int, name: str) -> ClassMetrics:
    one = slice(column, column + 1)
    truth, predicted = scores.labels[:, column] == 1, scores.predicted[:, column]
    area = auroc(scores.scores[:, one], scores.labels[:, one], scores.patients)
    true_positives = int((truth & predicted).sum())
    return ClassMetrics(
        name,
        int(truth.sum()),
        true_positives,
        int(predicted.sum()) - true_positives,
        _rate(scores, column, 1),
        _rate(scores, column, 0),
        true_positives / int(predicted.sum()) if predicted.any() else None,
        area.interval() if area else None,
        float(average_precision_score(scores.labels[:, column], scores.scores[:, column])) if truth.any() else None,
    )
