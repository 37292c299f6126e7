"""Select the rows of a training set: audit, clean, split, balance, limit; digest of the result."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hemo.config.curate import LEAKY, SPLITS, CurateConfig
from hemo.corpus.labels import LabelTable
from hemo.curation.card import LEVELS, Count, SplitFinding, Step, split_finding
from hemo.curation.hash_order import smallest
from hemo.curation.labelled_index import Rows, has_flag, join_labels, text_column
from hemo.curation.leak_audit import (
    audit,
    equal_pixel_table,
    equal_pixels,
    group_names,
    in_two_splits,
    link_examples,
    link_patients,
    require_apart,
    split_examples,
)
from hemo.curation.split import TRAIN, assign_splits, official_splits, target_column
from hemo.digest import digest_of
from hemo.errors import ConfigError, LabelError
from hemo.imaging.image import FLAGS

BY_PATIENT = ("by_patient", "by_patient_stratified", "folds")
"""Splits that promise whole patients."""

NO_PIXELS = bytes(16)
"""An unknown pixel digest."""


@dataclass(frozen=True)
class Selection:
    """The rows of a training set.

    Attributes:
        rows: All images of the conversion.
        chosen: Numbers of the rows that are used, ascending, shape (chosen,).
        splits: Index in `SPLITS` of each chosen row, shape (chosen,).
        before_balance: Train before `balance` removed rows; None where nothing is balanced.
        steps: Rows left after each step.
        findings: Splits that are too small to choose or compare models by.
        audit: Leaks and labels, for the card.
        evidence: Every image of equal pixels, see `equal_pixel_table`.
        reductions: Sentences for the headings of tables.
    """

    rows: Rows
    chosen: NDArray[np.int64]
    splits: NDArray[np.int8]
    before_balance: Count | None
    steps: tuple[Step, ...]
    findings: tuple[SplitFinding, ...]
    audit: dict[str, Any]
    evidence: pa.Table
    reductions: tuple[str, ...]


class _Remaining:
    """The rows that are kept, and the counts after every step that removed some."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.kept = np.arange(len(rows.patient))
        self.steps = [Step(name="converted", removed=0, left=rows.count(self.kept))]

    def keep(self, name: str, stay: NDArray[np.bool_], detail: str, reasons: Mapping[str, int] | None = None) -> None:
        """Keep the rows of `kept` where `stay`, shape (kept,), is true; record the step."""
        self.kept = self.kept[stay]
        removed, left = int((~stay).sum()), self.rows.count(self.kept)
        self.steps.append(Step(name=name, removed=removed, left=left, detail=detail, reasons=dict(reasons or {})))


def select(config: CurateConfig, index: pa.Table, table: LabelTable) -> Selection:
    """Audit, clean, split, balance and reduce.

    Args:
        config: What to do.
        index: As `read_index` returns it.
        table: Labels of its images.

    Raises:
        UserError: If nothing is left, a split is empty, or train shows one class only.
        SplitError: If a linked patient would be in two splits.
    """
    unflagged_rows = unflagged(index, config.drop_flags)
    official = official_splits(index) if config.split == "official" else None
    names = None if official is None else pa.array(np.array([f"{split} patient" for split in SPLITS])[official])
    rows = join_labels(index, table, within=names)
    pixels = equal_pixels(index)
    patient_group = link_patients(rows.patient, _apart(pixels, official))
    groups = patient_group[rows.patient], group_names(patient_group, rows.patient_names)
    remaining = _Remaining(rows)
    remaining.keep("labelled", rows.labelled, "images with a row in the label table")
    if config.drop_flags:
        counts = {flag: int(has_flag(index, (flag,))[remaining.kept].sum()) for flag in config.drop_flags}
        remaining.keep("clean", unflagged_rows[remaining.kept], f"without {', '.join(config.drop_flags)}", counts)
    if not len(remaining.kept):
        raise ConfigError(f"drop_flags: {', '.join(config.drop_flags)} leaves none of the labelled images; drop fewer")
    _require_patients(config, rows, remaining.kept)
    splits = assign_splits(config, rows, remaining.kept, groups)
    before = rows.count(remaining.kept[splits == TRAIN]) if config.balance.mode != "none" else None
    labels_of_split, group_of_split = rows.labels[remaining.kept], groups[0][remaining.kept]
    splits = _balance(config, remaining, splits, group_of_split)
    splits, reductions = _limit(config, remaining, splits)
    _require_two_classes(config, rows, remaining.kept[splits == TRAIN], (labels_of_split, group_of_split))
    evidence = equal_pixel_table(rows, pixels, groups, (remaining.kept, splits))
    audited = {
        **audit(rows, patient_group, pixels),
        "link_examples": link_examples(evidence),
        **_label_findings(rows, table),
        **_split_findings(config, rows, (remaining.kept, splits), (groups[0], pixels)),
    }
    if official is not None:
        audited["note"] = "patients are compared within each official split only: across splits they are not known"
    findings = _findings(rows, remaining.kept, splits)
    return Selection(
        rows, remaining.kept, splits, before, tuple(remaining.steps), findings, audited, evidence, reductions
    )


def _require_patients(config: CurateConfig, rows: Rows, kept: NDArray[np.int64]) -> None:
    """Refuse a split by patient of images most of which have nothing by which their patient is known."""
    unknown = int((rows.level[kept] == LEVELS.index("image")).sum())
    if config.split in BY_PATIENT and unknown > len(kept) / 2:
        raise ConfigError(
            f"split: {config.split} needs patients, but {unknown:,} of {len(kept):,} images have no patient, study "
            "or series; give --split by_image if no two images are of one patient, else run `hemo convert` with a "
            "patient_pattern that matches the file names, or with a manifest that has a column patient"
        )


def _apart(pixels: NDArray[np.int64], official: NDArray[np.int8] | None) -> NDArray[np.int64]:
    """Make equal pixels in two official splits different: patients are not linked across them."""
    if official is None:
        return pixels
    apart = np.where(pixels < 0, -1, pixels * len(SPLITS) + official)
    return np.unique(apart, return_inverse=True)[1].astype(np.int64) - int((apart < 0).any())


def _balance(
    config: CurateConfig, remaining: _Remaining, splits: NDArray[np.int8], group: NDArray[np.int64]
) -> NDArray[np.int8]:
    """Leave negatives of train out; `group` is the linked patient of each kept row."""
    if config.balance.mode == "none":
        return splits
    target = target_column(remaining.rows.classes, config.balance.target)
    name = remaining.rows.classes[target]
    train = np.flatnonzero(splits == TRAIN)
    image_ids = text_column(remaining.rows.index, "image_id").take(remaining.kept[train])
    labels = remaining.rows.labels[remaining.kept[train], target]
    if not (labels == 1).any():
        too_few = _too_few_to_stratify(config, {name: remaining.rows.labels[remaining.kept, target]}, group)
        raise LabelError(f"balance: {too_few or f'train has no positive of {name!r}; take another target or seed'}")
    stay = np.ones(len(splits), bool)
    stay[train] = undersample(labels, image_ids, config.balance.negatives_per_positive, config.seed)
    ratio = f"{config.balance.negatives_per_positive:g} : 1"
    remaining.keep("balance", stay, f"train: negatives to positives of {name} at most {ratio}")
    return splits[stay]


def _limit(
    config: CurateConfig, remaining: _Remaining, splits: NDArray[np.int8]
) -> tuple[NDArray[np.int8], tuple[str, ...]]:
    """Cut each split down to its subset."""
    stay, sentences = np.ones(len(splits), bool), []
    for number, name in enumerate(SPLITS):
        limit, members = getattr(config.subset, name), np.flatnonzero(splits == number)
        if limit == "all" or limit >= len(members):
            continue
        image_ids = text_column(remaining.rows.index, "image_id").take(remaining.kept[members])
        stay[members] = False
        stay[members[smallest(image_ids, limit, "subset", config.seed)]] = True
        sentences.append(f"{name} limited to {limit:,} of {len(members):,} images")
    if sentences:
        remaining.keep("subset", stay, "; ".join(sentences))
    return splits[stay], tuple(sentences)


def _require_two_classes(
    config: CurateConfig,
    rows: Rows,
    train: NDArray[np.int64],
    kept: tuple[NDArray[np.uint8], NDArray[np.int64]],
) -> None:
    """Refuse a train split in which no class has both values: nothing could be learned from it.

    Args:
        config: `split` is used.
        rows: All images.
        train: Numbers of the rows of train.
        kept: Labels, shape (kept, classes), and linked patient, shape (kept,), of the rows that were split.
    """
    labels = rows.labels[train]
    if ((labels == 0).any(axis=0) & (labels == 1).any(axis=0)).any():
        return
    if too_few := _too_few_to_stratify(config, dict(zip(rows.classes, kept[0].T, strict=True)), kept[1]):
        raise LabelError(f"labels: {too_few}")
    stratified = config.split == "by_patient_stratified"
    cure = "or another seed" if stratified else "another seed, or by_patient_stratified"
    raise LabelError(
        f"labels: the {len(train):,} images of train are all alike ({', '.join(rows.classes)}: each always 0 or "
        f"always 1); take more images, a larger subset{' ' if stratified else ', '}{cure}"
    )


def _too_few_to_stratify(
    config: CurateConfig, labels: Mapping[str, NDArray[np.uint8]], group: NDArray[np.int64]
) -> str:
    """Return which label a stratified split cannot put into each split for want of patients; empty if it can.

    Args:
        config: `split` is used.
        labels: Class -> labels, shape (rows,).
        group: Linked patient of each row, shape (rows,).
    """
    if config.split != "by_patient_stratified":
        return ""
    for name, values in labels.items():
        for value in (1, 0):
            patients = len(np.unique(group[values == value]))
            if patients < len(SPLITS):
                return (
                    f"patients with images of {name} = {value}: {patients}; three are needed, one for each split "
                    "(linked ones count as one); take more images"
                )
    return ""


def _findings(rows: Rows, chosen: NDArray[np.int64], splits: NDArray[np.int8]) -> tuple[SplitFinding, ...]:
    """Return the splits that are too small to choose or compare models by."""
    findings = []
    for number, name in enumerate(SPLITS):
        count = rows.count(chosen[splits == number])
        findings.append(split_finding(name, count.patients, count.model_dump()))
    return tuple(finding for finding in findings if finding)


def _label_findings(rows: Rows, table: LabelTable) -> dict[str, Any]:
    without = int((~rows.labelled).sum())
    return {
        "images_without_labels": without,
        "labels_without_images": len(table.keys) - rows.matched_keys,
        "repeated_label_rows": table.repeated,
    }


def _split_findings(
    config: CurateConfig,
    rows: Rows,
    placed: tuple[NDArray[np.int64], NDArray[np.int8]],
    kinds: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> dict[str, Any]:
    """Count the linked patients and equal pixels in two splits, and refuse them where hemo made the splits.

    Args:
        config: Leaky splits may split both; `official` may have equal pixels in two splits.
        rows: All images.
        placed: Rows that are used, shape (chosen,), and the split of each.
        kinds: Group, and equal pixels, of each image; shape (rows,) both.

    Raises:
        SplitError: If a split that should keep them apart does not.
    """
    chosen, splits = placed
    image_ids = text_column(rows.index, "image_id").take(chosen)
    group, pixels = (kind[chosen] for kind in kinds)
    if config.split not in LEAKY:
        require_apart(group, splits, image_ids, "linked patients")
    if config.split not in (*LEAKY, "official"):
        require_apart(pixels, splits, image_ids, "groups of equal pixels")
    return {
        "linked_patients_in_two_splits": len(in_two_splits(group, splits)),
        "equal_pixels_in_two_splits": len(in_two_splits(pixels, splits)),
        "equal_pixels_in_two_splits_examples": split_examples(pixels, splits, image_ids),
    }


def unflagged(index: pa.Table, drop_flags: tuple[str, ...]) -> NDArray[np.bool_]:
    """Return for each row whether it has none of `drop_flags`; shape (rows,).

    Raises:
        ConfigError: If a flag is none that `convert` sets.
    """
    unknown = [flag for flag in drop_flags if flag not in FLAGS]
    if unknown:
        raise ConfigError(f"drop_flags: {', '.join(unknown)} is no flag of an image; known are {', '.join(FLAGS)}")
    return ~has_flag(index, drop_flags)


def undersample(labels: NDArray[np.uint8], image_ids: pa.StringArray, ratio: float, seed: int) -> NDArray[np.bool_]:
    """Choose rows so that negatives are at most `ratio` times the positives.

    Which negatives stay depends on their ids and the seed only. Rows of unknown label stay.

    Args:
        labels: Of the target class, shape (rows,), 0, 1 or `NULL_LABEL`.
        image_ids: Shape (rows,).
        ratio: Negatives a positive.
        seed: Of the choice.

    Returns:
        Shape (rows,), bool: which rows stay.
    """
    negative = np.flatnonzero(labels == 0)
    at_most = round(ratio * int((labels == 1).sum()))
    stay: NDArray[np.bool_] = labels != 0
    stay[negative[smallest(image_ids.take(negative), at_most, "balance", seed)]] = True
    return stay


def training_set_digest(selection: Selection, image: dict[str, Any]) -> str:
    """Return 16 hexadecimal digits of ids, patients, labels, splits and pixels, in any order, and the image settings.

    Pixels are part of it: a file that was replaced under the same name is another training image. So are patients: the
    intervals of a trial depend on them.

    Args:
        selection: Rows, labels and splits.
        image: The image settings in the card.
    """
    image_ids = text_column(selection.rows.index, "image_id").take(selection.chosen)
    order = pc.sort_indices(image_ids).to_numpy()
    content = hashlib.sha256()
    for names in (image_ids, selection.rows.patient_ids.take(selection.chosen)):
        content.update("\n".join(str(name) for name in names.take(order).to_pylist()).encode())
    content.update(selection.rows.labels[selection.chosen[order]].tobytes())
    content.update(selection.splits[order].tobytes())
    pixels = selection.rows.index["pixel_digest"].take(selection.chosen[order]).fill_null(NO_PIXELS).combine_chunks()
    content.update(memoryview(pixels.buffers()[1])[: len(NO_PIXELS) * len(pixels)])
    return digest_of({"rows": content.hexdigest(), "classes": list(selection.rows.classes), "image": image})
