"""What each leak is worth: metrics on a split's own test minus those of the same models on patients nobody met."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import Field, ValidationError

from hemo.config.types import Config
from hemo.errors import ConfigError, SourceError
from hemo.reporting.table_format import MISSING, Table, csv_table, inline, markdown_table, number
from hemo.reporting.trial_row import estimate
from hemo.stats.auroc import auroc, mean_over_seeds
from hemo.stats.intervals import Interval, proportion_interval, unpaired_difference
from hemo.storage import join, read_json
from hemo.trials.predictions import Scores

LEAKS_SCHEMA_VERSION = 1

TABLE, VALUES = "leaks.md", "leaks.csv"

NAMES = {
    "by_image": "by image",
    "by_study": "by study",
    "by_patient_id": "by patient id",
    "by_patient": "by patient, duplicates linked",
}
"""Rule -> its name in tables."""

LEAKS = {
    "by_image": "images of one patient on both sides",
    "by_study": "studies of one patient on both sides",
    "by_patient_id": "equal images under two patient ids",
    "by_patient": "none",
}
"""Rule -> what it lets through that a cleaner one does not."""

CLEAN = "by_patient"
CHANCE = 0.5
MORE, LESS, NO_INTERVAL = "more than zero", "less than zero", "no interval"
EASIER = ": the unseen patients were easier"
"""Why a leak is less than zero."""
POINTS = 100
"""Points of a metric from 0 to 1."""


class Estimate(Config):
    """A value and the ends of its 95 % interval."""

    value: float
    low: float | None = Field(None, description="null: no interval")
    high: float | None = None
    reason: str = Field("", description="why it has no interval")

    @classmethod
    def of(cls, interval: Interval) -> "Estimate":
        """Make one of an interval."""
        low, high = interval.ends or (None, None)
        return cls(value=interval.value, low=low, high=high, reason=interval.reason)

    def holds(self, value: float) -> bool | None:
        """Return whether a value is within the interval; None without one."""
        return None if self.low is None or self.high is None else self.low <= value <= self.high

    def text(self) -> str:
        """Return `0.872 (0.81-0.93)`."""
        ends = None if self.low is None or self.high is None else (self.low, self.high)
        return estimate(Interval(self.value, ends, self.reason))

    def points(self) -> str:
        """Return a difference in points: `+4.1 (+2.0 to +6.3)`."""
        if self.low is None or self.high is None:
            return number(POINTS * self.value, 1, signed=True)
        value, low, high = (number(POINTS * each, 1, signed=True) for each in (self.value, self.low, self.high))
        return f"{value} ({low} to {high})"


class MetricLeak(Config):
    """One metric of a split: of its own test as published studies state it, and of patients whom no model met."""

    own: Estimate
    unseen: Estimate
    leak: Estimate = Field(description="own minus unseen; of several seeds the mean, with their variance")


class LeakRow(Config):
    """One way to split, with true labels or with labels shuffled between patients."""

    rule: str
    shuffled: bool = Field(False, description="labels of another patient: only memory of patients is of use")
    reason: str = Field("", description="why nothing was measured")
    seeds: tuple[int, ...] = Field((), description="of the trainings")
    records: tuple[str, ...] = Field((), description="folders of the trials, one a seed")
    images: dict[str, int] = Field({}, description="train, val, test, holdout -> images")
    patients: dict[str, int] = Field({}, description="the same -> linked patients")
    positives: dict[str, tuple[int, ...]] = Field({}, description="the same -> positive images, one count a class")
    patients_of_train: int = Field(0, description="linked patients of test with images in train or validation")
    equal_images: int = Field(0, description="images of test whose pixels an image of train or validation has too")
    auroc: MetricLeak | None = None
    accuracy: MetricLeak | None = Field(None, description="at the thresholds that each split's validation chose")

    @property
    def name(self) -> str:
        """Name in tables."""
        return NAMES[self.rule] + (", labels shuffled" if self.shuffled else "")


class LeaksCard(Config):
    """`OUT/card.json`: what was measured, written last."""

    schema_version: int = LEAKS_SCHEMA_VERSION
    digest: str = Field(description="covers training set, trial with its starting weights, splits and seeds")
    config: dict[str, Any] = Field(description="the job's deciding settings, dotted")
    training_set: str = Field(description="digest of the training set")
    trial: str = Field(description="name of the trial, or its settings")
    classes: tuple[str, ...] = Field(description="of the task")
    rows: tuple[LeakRow, ...] = Field(description="true labels, leakiest split first, then shuffled ones")
    conclusions: tuple[str, ...]
    versions: dict[str, str]
    finished: str = Field(description="UTC, ISO 8601")


def read_leaks(folder: str, training_set: str) -> LeaksCard:
    """Return what `hemo leaks` measured of a training set.

    Args:
        folder: Its output folder.
        training_set: Digest of the training set.

    Raises:
        SourceError: If the folder has no card of it, or a damaged one.
        ConfigError: If it is of another training set.
    """
    try:
        card = LeaksCard.model_validate(read_json(join(folder, "card.json")))
    except (SourceError, ValidationError) as error:
        raise SourceError(f"leaks: {folder} is no output of `hemo leaks`; give its `out`") from error
    if card.training_set != training_set:
        raise ConfigError(f"leaks: {folder} is of training set {card.training_set}, data of {training_set}")
    return card


@dataclass(frozen=True, eq=False)
class SeedScores:
    """Predictions of one training: of its own test, and of the hold-out; patients are linked ones."""

    own: Scores
    unseen: Scores


def measured(seeds: Sequence[SeedScores]) -> dict[str, MetricLeak | None]:
    """Return `auroc` and `accuracy` of a split; None where all images of one side have the same labels.

    Args:
        seeds: One a training, all of the same images.
    """
    sides = [[each.own for each in seeds], [each.unseen for each in seeds]]
    areas = [[auroc(scores.scores, scores.labels, scores.patients) for scores in side] for side in sides]
    found: dict[str, MetricLeak | None] = {"auroc": None, "accuracy": None}
    if all(area is not None for side in areas for area in side):
        defined = [[area for area in side if area is not None] for side in areas]
        values = [[area.value for area in side] for side in defined]
        found["auroc"] = _leak([mean_over_seeds(side).interval() for side in defined], values)
        found["accuracy"] = _leak(
            [_accuracy(side) for side in sides], [[float(scores.hits.mean()) for scores in side] for side in sides]
        )
    return found


def _accuracy(seeds: Sequence[Scores]) -> Interval:
    """Return the mean accuracy over seeds, of several classes over all of them."""
    hits = np.mean([scores.hits for scores in seeds], axis=0)
    return proportion_interval(hits.ravel(), seeds[0].patients.repeat(hits.shape[1]))


def _leak(sides: Sequence[Interval], by_seed: Sequence[Sequence[float]]) -> MetricLeak:
    own, unseen = sides
    differences = [first - second for first, second in zip(*by_seed, strict=True)]
    leak = unpaired_difference(own, unseen, differences)
    return MetricLeak(own=Estimate.of(own), unseen=Estimate.of(unseen), leak=Estimate.of(leak))


def leak_table(rows: Sequence[LeakRow]) -> Table:
    """Return a row for each way to split."""
    head = (
        *("split rule", "leak", "train images (patients)", "test images (patients)"),
        "tested patients in train or val",
    )
    metrics = [
        column
        for name in ("AUROC", "accuracy")
        for column in (f"{name}, own test", f"{name}, unseen patients", f"leak (points of {name})")
    ]
    return Table("What each leak is worth", (*head, *metrics), tuple(map(_cells, rows)), notes=tuple(_notes(rows)))


def _cells(row: LeakRow) -> tuple[str, ...]:
    if row.reason:
        return (row.name, LEAKS[row.rule], *[MISSING] * 9)
    counts = [f"{row.images[part]:,} ({row.patients[part]:,})" for part in ("train", "test")]
    met = f"{row.patients_of_train:,} of {row.patients['test']:,}"
    metrics = [
        text
        for each in (row.auroc, row.accuracy)
        for text in ((each.own.text(), each.unseen.text(), each.leak.points()) if each else [MISSING] * 3)
    ]
    return (row.name, LEAKS[row.rule], *counts, met, *metrics)


def _notes(rows: Sequence[LeakRow]) -> Iterator[str]:
    yield from (f"{row.name}: not measured, {row.reason}." for row in rows if row.reason)
    ran = [row for row in rows if not row.reason]
    if ran:
        one = ran[0]
        yield (
            f"Unseen patients: {one.images['holdout']:,} images of {one.patients['holdout']:,} linked patients, the "
            "same for all splits; no image of them, nor an equal one, was in train, validation or test of any."
        )
    without = {each.leak.reason for row in ran for each in (row.auroc, row.accuracy) if each and each.leak.reason}
    yield from (f"No interval: {reason}." for reason in sorted(without))
    yield (
        "Intervals are 95 %, each by itself, with linked patients as the unit; own test and unseen patients have no "
        "patient in common, and the limits of a leak are recovered from theirs (MOVER)."
    )
    if any(len(row.seeds) > 1 for row in ran):
        yield (
            "Metrics are means over seeds; a leak's interval includes their variance, the intervals of own test and "
            "unseen patients do not."
        )
    elif ran:
        yield "One training each: what another seed would give is in no interval."
    yield (
        "Accuracy is at the threshold that each split's own validation chose, and depends on the prevalence of the "
        "images it is measured on."
    )


def conclusions(rows: Sequence[LeakRow]) -> tuple[str, ...]:
    """Return a sentence for each leak, one for the clean split, and one for what shuffled labels show."""
    true = [row for row in rows if not row.shuffled and not row.reason]
    sentences = [_worth(row) for row in true if row.rule != CLEAN]
    sentences += [_clean(row) for row in true if row.rule == CLEAN]
    shuffled = [row for row in rows if row.shuffled and not row.reason]
    sentences += [_memory(row) for row in shuffled if row.auroc]
    return tuple(sentence for sentence in sentences if sentence)


def _worth(row: LeakRow) -> str:
    signs = {name: _sign(leak) for name, leak in _leaks(row)}
    if not signs:
        return ""
    verdict = ", ".join(f"{sign} for {name}" for name, sign in signs.items())
    if len(set(signs.values())) == 1:
        verdict = next(iter(signs.values()))
    reason = EASIER if LESS in signs.values() else ""
    return f"Split {row.name}, the metrics are off by {_in_points(row)} (95 %): {verdict}{reason}."


def _leaks(row: LeakRow) -> list[tuple[str, Estimate]]:
    """Return the leaks of a row that were measured, by the name of the metric."""
    known = (("AUROC", row.auroc), ("accuracy", row.accuracy))
    return [(name, each.leak) for name, each in known if each is not None]


def _in_points(row: LeakRow) -> str:
    return " and ".join(f"{leak.points()} points of {name}" for name, leak in _leaks(row))


def _sign(leak: Estimate) -> str:
    """Return on which side of 0 the interval of a leak is."""
    if leak.low is None or leak.high is None:
        return NO_INTERVAL
    if leak.low > 0:
        return MORE
    return LESS if leak.high < 0 else "not shown to differ from zero"


def _clean(row: LeakRow) -> str:
    within = [leak.holds(0) for _, leak in _leaks(row)]
    if not within:
        return ""
    found = "no leak is left that this can show"
    if False in within:
        found = "its own test differs from other patients, look why"
    elif None in within:
        found = NO_INTERVAL
    return f"Split {row.name}, which should be off by nothing: {_in_points(row)}: {found}."


def _memory(row: LeakRow) -> str:
    assert row.auroc is not None
    own = row.auroc.own
    if row.rule == CLEAN:
        verdict = {
            None: NO_INTERVAL,
            True: "0.5 is within",
            False: "0.5 is NOT within: something beside labels leaks",
        }[own.holds(CHANCE)]
        return f"With labels shuffled between patients a clean split has AUROC {own.text()}: {verdict}."
    leak = row.auroc.leak
    known = {MORE: "the model remembers patients", LESS: f"{LESS}{EASIER}", NO_INTERVAL: NO_INTERVAL}
    verdict = known.get(_sign(leak), "no memory of patients is shown")
    return (
        f"With labels shuffled, split {NAMES[row.rule]}: AUROC {own.text()}, {leak.points()} points from that of "
        f"unseen patients: {verdict}."
    )


def markdown(title: str, facts: Sequence[tuple[str, str]], rows: Sequence[LeakRow]) -> str:
    """Return sentences, facts and table as a Markdown page."""
    table = leak_table(rows)
    parts = [
        f"# {inline(title)}",
        "\n".join(f"- {inline(text)}" for text in conclusions(rows)),
        "\n".join(f"- {name}: {inline(text)}" for name, text in facts),
        markdown_table(table),
        "\n".join(f"- {inline(note)}" for note in table.notes),
    ]
    return "\n\n".join(parts) + "\n"


def csv_text(rows: Sequence[LeakRow]) -> str:
    """Return a row for each way to split, in full precision; empty where there is nothing."""
    return csv_table([_csv_row(row) for row in rows])


def _csv_row(row: LeakRow) -> dict[str, Any]:
    values: dict[str, Any] = {
        "split": row.rule,
        "labels": "shuffled" if row.shuffled else "true",
        "not_measured": row.reason,
        "seeds": " ".join(map(str, row.seeds)),
        **{f"{part}_images": row.images.get(part) for part in ("train", "val", "test", "holdout")},
        **{f"{part}_patients": row.patients.get(part) for part in ("train", "val", "test", "holdout")},
        "test_patients_in_train_or_val": row.patients_of_train,
        "test_images_equal_in_train_or_val": row.equal_images,
    }
    for name, each in (("auroc", row.auroc), ("accuracy", row.accuracy)):
        for side in ("own", "unseen", "leak"):
            found = getattr(each, side) if each else None
            values[f"{name}_{side}"] = found.value if found else None
            values[f"{name}_{side}_low"] = found.low if found else None
            values[f"{name}_{side}_high"] = found.high if found else None
    return values
