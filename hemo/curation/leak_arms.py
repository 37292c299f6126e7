"""The arms of `leaks`: a rule and labels each, as rows and card of another split of one training set."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hemo.config.leaks import LeaksConfig
from hemo.curation.card import LEVELS, BaseSet, Count, TrainingSetCard, label_counts, split_finding
from hemo.curation.labelled_index import text_column
from hemo.curation.leak_audit import in_two_splits
from hemo.curation.leak_splits import HOLDOUT, RULES, UNUSED, Fractions, Pool, Rule, shuffle_labels, split_alike
from hemo.curation.split import TEST, TRAIN, VAL
from hemo.digest import digest_of
from hemo.errors import ConfigError

PARTS = {"train": TRAIN, "val": VAL, "test": TEST, "holdout": HOLDOUT}
"""Splits of an arm: `holdout` has the patients that no arm uses."""

CLEAN: Rule = "by_patient"


@dataclass(frozen=True, eq=False)
class Arm:
    """One way to split, with true or shuffled labels."""

    rule: Rule
    shuffled: bool
    split: NDArray[np.int8]  # part of each image of the pool, shape (images,)
    labels: NDArray[np.uint8]  # (images, classes of the task)

    @property
    def name(self) -> str:
        """Folder of the arm, and name of its trials."""
        return f"{self.rule}_shuffled" if self.shuffled else self.rule

    def images(self, part: str) -> NDArray[np.int64]:
        """Return the images of a split, ascending."""
        return np.flatnonzero(self.split == PARTS[part])


def require_splittable(card: TrainingSetCard) -> None:
    """Refuse a training set whose images cannot be split anew by patient.

    Raises:
        ConfigError: If it is official, balanced, or itself another split, or most patients are unknown.
    """
    cure = "curate another set for this"
    problem = ""
    if card.base is not None:
        problem = f"it is itself a split of {card.base.location}; give that one"
    elif card.split == "official":
        problem = (
            "patients of its official splits may have the same numbers and be others; curate one by_patient if numbers "
            "are of the whole corpus"
        )
    elif card.before_balance is not None:
        problem = f"its train is balanced and its test is not; {cure} without balance, and give trial.training.balance"
    elif card.grouped_by["image"] > sum(card.grouped_by.values()) / 2:
        problem = (
            f"the patient of {card.grouped_by['image']:,} of {sum(card.grouped_by.values()):,} images is not known; "
            "convert with a patient_pattern that matches the file names, or with a manifest that has a column patient"
        )
    if problem:
        raise ConfigError(f"training_set: {card.digest} cannot be split anew: {problem}")


def make_arms(config: LeaksConfig, pool: Pool, skipped: Sequence[Rule]) -> list[Arm]:
    """Split the pool by each rule, leakiest first, then the leakiest and the clean one with shuffled labels.

    With those a model can remember all there is to remember of a patient, or nothing.

    Args:
        config: Fractions, seed, and whether labels are shuffled too.
        pool: The images.
        skipped: Rules that split as the next one does.

    Raises:
        ConfigError: If all rules but the clean one are skipped, or a test has too few patients for an interval.
    """
    rules = tuple(rule for rule in RULES if rule not in skipped)
    if rules == (CLEAN,):
        raise ConfigError(
            "training_set: there is nothing to leak: each patient has one image, and no two have one in common"
        )
    fractions = Fractions(config.holdout_fraction, config.val_fraction, config.test_fraction)
    splits = split_alike(pool, rules, fractions, config.split_seed)
    arms = [Arm(rule, False, splits[rule], pool.labels) for rule in rules]
    if config.shuffled_labels:
        labels = shuffle_labels(pool, config.split_seed)
        arms += [Arm(rule, True, splits[rule], labels) for rule in (rules[0], CLEAN)]
    return arms


def require_patients(pool: Pool, arm: Arm, classes: tuple[str, ...]) -> None:
    """Refuse an arm whose tests have too few linked patients for an interval.

    Raises:
        ConfigError: Which, how many there are, and how many are needed.
    """
    for part in ("holdout", "test"):
        rows = arm.images(part)
        counts = label_counts(classes, arm.labels[rows], pool.group[rows])
        if finding := split_finding(part, len(np.unique(pool.group[rows])), counts):
            raise ConfigError(
                f"training_set: {finding.text} ({arm.rule}); take more patients, or a larger {part}_fraction"
            )


def arm_rows(pool: Pool, arm: Arm, classes: tuple[str, ...]) -> pa.Table:
    """Return what `write_resplit` takes; images that an arm does not use are left out."""
    names = pa.array([*PARTS, None], pa.string())
    columns = {"split": names.take(pa.array(np.minimum(arm.split, len(PARTS)))), "row": pool.table["row"]}
    labels = {f"label_{name}": pa.array(column) for name, column in zip(classes, arm.labels.T, strict=True)}
    return pa.table(columns | labels).filter(pa.array(arm.split != UNUSED))


def arm_card(
    base: TrainingSetCard, config: LeaksConfig, pool: Pool, arm: Arm, classes: tuple[str, ...]
) -> TrainingSetCard:
    """Return the card of an arm.

    Args:
        base: Of the training set that has the images.
        config: Of the job.
        pool: The images.
        arm: The arm.
        classes: Of the task.
    """
    content = {"base": base.digest, "classes": classes, "split": arm.split.tobytes().hex()}
    digest = digest_of(content | {"labels": arm.labels.tobytes().hex()})
    counts = {part: _count(pool, arm, arm.images(part), classes) for part in PARTS}
    findings = [split_finding(part, counts[part].patients, counts[part].model_dump()) for part in ("val", "test")]
    fields = config.model_dump(mode="json", include={"holdout_fraction", "val_fraction", "test_fraction", "split_seed"})
    held_out = f"{counts['holdout'].rows:,} of {len(pool.group):,} images are held out of all splits"
    return base.model_copy(
        update={
            "digest": digest,
            "inputs_digest": digest,
            "config": {"split": arm.rule, "shuffled_labels": arm.shuffled, **fields},
            "classes": classes,
            "base": BaseSet(location=config.training_set, digest=base.digest),
            "split": arm.rule,
            "splits": counts,
            "split_digest": "",
            "findings": tuple(finding for finding in findings if finding),
            "audit": {**base.audit, **_torn(pool, arm)},
            "parts": (),
            "reductions": (*base.reductions, held_out, *(["labels are shuffled between patients"] * arm.shuffled)),
        }
    )


def _torn(pool: Pool, arm: Arm) -> dict[str, Any]:
    """Return what an arm has on both sides, under the names that `curate` has for it."""
    used = np.flatnonzero(arm.split < HOLDOUT)
    counts = [len(in_two_splits(kind[used], arm.split[used])) for kind in (pool.group, pool.pixels)]
    names = ("linked_patients_in_two_splits", "equal_pixels_in_two_splits")
    return {**dict(zip(names, counts, strict=True)), "equal_pixels_in_two_splits_examples": []}


def _count(pool: Pool, arm: Arm, rows: NDArray[np.int64], classes: tuple[str, ...]) -> Count:
    """Count images and patients by id of one split of an arm."""
    formats = text_column(pool.table, "pixel_format").take(pa.array(rows)).value_counts().to_pylist()
    return Count(
        rows=len(rows),
        patients=len(np.unique(pool.patient[rows])),
        **label_counts(classes, arm.labels[rows], pool.patient[rows]),
        grouped_by=_levels(pool.table.take(rows)),
        pixel_formats=dict(sorted((entry["values"], entry["counts"]) for entry in formats)),
    )


def _levels(table: pa.Table) -> dict[str, int]:
    """Return how many images have each level of `LEVELS` as their patient."""
    patient = text_column(table, "patient")
    counts = {}
    for level in LEVELS[1:]:
        column = "image_id" if level == "image" else level
        named = pc.binary_join_element_wise(level, text_column(table, column), " ")
        counts[level] = int(pc.sum(pc.equal(patient, named)).as_py() or 0)
    counts = {"patient": len(table) - sum(counts.values()), **counts}
    return {level: count for level, count in counts.items() if count}
