"""Trial records to what can be compared: one comparison for each training set and target."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from hemo.config.digest import digest_of
from hemo.study.intervals import Interval, accuracy_interval, auroc_interval, patient_resamples
from hemo.study.record import TrialRecord, read_predictions
from hemo.study.scores import FormatFigures, Scores, figures_by_format, split_scores

STATUS_ORDER = ("complete", "pruned", "failed")


@dataclass(frozen=True)
class Row:
    """One trial, and what its predictions on test say; None where test was not read."""

    record: TrialRecord
    accuracy: Interval | None = None
    auroc: Interval | None = None
    majority_accuracy: float | None = None
    by_format: tuple[FormatFigures, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """Trials of one training set, task, target and loss; that with the lowest validation loss comes first."""

    rows: tuple[Row, ...]

    @property
    def first(self) -> TrialRecord:
        """A record that says what all have in common: one that ran, if any did."""
        return self.rows[0].record

    @property
    def key(self) -> str:
        """A short name for files and anchors."""
        return digest_of(_comparable(self.first))[:8]

    @property
    def ran(self) -> tuple[TrialRecord, ...]:
        """Records of the trials that gave figures: complete or pruned."""
        return tuple(row.record for row in self.rows if row.record.status != "failed")

    @property
    def selected(self) -> Row | None:
        """The trial a search chose, the last one if it went on and chose anew; None without a search."""
        chosen = [row for row in self.rows if row.record.selected_by]
        return max(chosen, key=lambda row: (row.record.selected_among, row.record.finished), default=None)

    @property
    def best(self) -> Row | None:
        """The trial to look at: the one a search chose, else the one with the lowest validation loss, if complete."""
        return self.selected or (self.rows[0] if self.first.status == "complete" else None)

    @property
    def majority_accuracy(self) -> float | None:
        """Accuracy on test of always giving the commonest answer; None if no trial read test."""
        known = [row.majority_accuracy for row in self.rows if row.majority_accuracy is not None]
        return known[0] if known else None


def compared(records: Sequence[TrialRecord], folder: str, *, samples: int, seed: int) -> list[Comparison]:
    """Group records that may be compared, with intervals from their predictions.

    Args:
        records: As `read_records` gives them.
        folder: Folder of records, where the predictions lie.
        samples: Resamples of patients behind each interval.
        seed: Of the resampling; the same for every trial, so that their intervals are paired.
    """
    groups: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for record in records:
        groups[_comparable(record)].append(_row(record, folder, samples, seed))
    return [Comparison(tuple(sorted(groups[key], key=_rank))) for key in sorted(groups)]


def title_of(record: TrialRecord) -> str:
    """Return what a trial is called: its name, or its digest if it has none."""
    return record.config.name or record.digest


def figures_of(record: TrialRecord, split: str) -> dict[str, float]:
    """Return metric -> value of a split: in the end, or of the best epoch for a trial that was stopped before it."""
    if split in record.metrics or split == "test" or not record.best_epoch:
        return record.metrics.get(split, {})
    best = record.epochs[record.best_epoch - 1]
    return best.train if split == "train" else best.val


def _comparable(record: TrialRecord) -> tuple[str, ...]:
    """Return what two records must share to stand in one table."""
    target = record.config.target if record.config.task == "binary" else ""
    return record.training_set, record.split, record.config.task, target, record.config.training.loss


def _rank(row: Row) -> tuple[int, float, str]:
    loss = figures_of(row.record, "val").get("loss", float("inf"))
    return STATUS_ORDER.index(row.record.status), loss, title_of(row.record)


def _row(record: TrialRecord, folder: str, samples: int, seed: int) -> Row:
    if "test" not in record.metrics:
        return Row(record)
    scores = split_scores(read_predictions(folder, record.digest), "test", record)
    return Row(record) if scores is None else _with_intervals(record, scores, samples, seed)


def _with_intervals(record: TrialRecord, test: Scores, samples: int, seed: int) -> Row:
    draws, column = patient_resamples(test.patients, samples, seed)
    return Row(
        record,
        accuracy_interval(test.correct, draws, column),
        auroc_interval(test.scores, test.labels, draws, column),
        test.majority_accuracy,
        figures_by_format(test),
    )
