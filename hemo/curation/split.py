"""Split rows into train, val and test: by patient, stratified, by study, by image, official, or in folds."""

import warnings
from collections.abc import Callable
from itertools import count
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from hemo.config.curate import SPLITS, CurateConfig
from hemo.corpus.labels import NULL_LABEL, RSNA_CLASSES
from hemo.curation.hash_order import hash_texts, uniform
from hemo.curation.labelled_index import Rows, text_column
from hemo.errors import ConfigError, SourceError

TRAIN, VAL, TEST = range(3)
"""Indices of the splits in `SPLITS`."""

OFFICIAL_SPLITS = {
    **dict.fromkeys(("train", "training", "val", "valid", "validation"), TRAIN),
    **dict.fromkeys(("test", "testing"), TEST),
}
"""Split folder -> split. The `val` of a corpus joins train before the split: the chest X-rays' holds 16 images."""

ANY_CLASS = RSNA_CLASSES[0]
"""The class by which a set of several is balanced by default: it summarises the others."""

Groups = tuple[NDArray[np.int64], pa.StringArray]
"""Group of each row, shape (rows,), and the name of each group, shape (groups,)."""


def assign_splits(config: CurateConfig, rows: Rows, kept: NDArray[np.int64], groups: Groups) -> NDArray[np.int8]:
    """Return the split of each kept row.

    Args:
        config: uses `split`, `seed`, `val_fraction`, `test_fraction` and `balance.target`.
        rows: All images.
        kept: Numbers of the rows to split, shape (kept,).
        groups: All rows of a group get the same split, except with `by_image` and `by_study`.

    Returns:
        `TRAIN`, `VAL` or `TEST` of each kept row, shape (kept,), int8.

    Raises:
        ConfigError: If a split is left without rows, or the fractions cannot be reached.
        SourceError: If `split` is `official` and the corpus has no splits, or `by_study` and no image has a study.
    """
    splits = _SPLITTERS[config.split](config, rows, kept, groups)
    rows_of = np.bincount(splits, minlength=len(SPLITS))
    empty = [SPLITS[number] for number in np.flatnonzero(rows_of == 0)]
    if empty:
        groups_left = len(np.unique(groups[0][kept]))
        shared = f" ({rows.shared_studies} studies and series have several patient ids: images without id link them)"
        raise ConfigError(
            f"split: {config.split_name} leaves nothing in {' and '.join(empty)} of {len(kept)} images in "
            f"{groups_left} groups{shared if rows.shared_studies else ''}; "
            "use larger fractions or another seed, by_patient_stratified, or fewer folds"
        )
    return splits


def _by_patient(config: CurateConfig, rows: Rows, kept: NDArray[np.int64], groups: Groups) -> NDArray[np.int8]:
    drawn = uniform(hash_texts(groups[1], "split", config.seed))
    return cut(drawn, config.val_fraction, config.test_fraction)[groups[0][kept]]


def _by_image(config: CurateConfig, rows: Rows, kept: NDArray[np.int64], groups: Groups) -> NDArray[np.int8]:
    image_ids = text_column(rows.index, "image_id").take(kept)
    return cut(uniform(hash_texts(image_ids, "split", config.seed)), config.val_fraction, config.test_fraction)


def _by_study(config: CurateConfig, rows: Rows, kept: NDArray[np.int64], groups: Groups) -> NDArray[np.int8]:
    """Keep a study of a patient together, and with the patient what has no study."""
    study = text_column(rows.index, "study")
    if study.null_count == len(study):
        raise SourceError("split: by_study needs studies, and no image has one; give by_patient or by_image")
    joined: Any = pc.binary_join_element_wise  # its stubs lack scalars
    names = joined(rows.patient_names.take(pa.array(rows.patient)), pc.fill_null(study, ""), " ").take(kept)
    return cut(uniform(hash_texts(names, "split", config.seed)), config.val_fraction, config.test_fraction)


def _official(config: CurateConfig, rows: Rows, kept: NDArray[np.int64], groups: Groups) -> NDArray[np.int8]:
    official = official_splits(rows.index)[kept]
    drawn = uniform(hash_texts(groups[1], "split", config.seed))
    by_patient = cut(drawn, config.val_fraction, 0.0)[groups[0][kept]]
    return np.where(official == TEST, official, by_patient).astype(np.int8)


def official_splits(index: pa.Table) -> NDArray[np.int8]:
    """Return `TRAIN` or `TEST` of each row, by the folders of the corpus; shape (rows,).

    Raises:
        SourceError: If a row is in no folder of `OFFICIAL_SPLITS`.
    """
    folders = text_column(index, "source_split")
    codes = pc.index_in(folders, value_set=pa.array(list(OFFICIAL_SPLITS)))
    if codes.null_count:
        others = sorted(str(name) for name in folders.filter(codes.is_null()).unique().to_pylist() if name is not None)
        has = f"the folders {', '.join(others)}" if others else "images outside of any split folder"
        raise SourceError(f"split: official needs the folders train, test and perhaps val, the corpus has {has}")
    splits: NDArray[np.int8] = np.array(list(OFFICIAL_SPLITS.values()), np.int8)[codes.to_numpy()]
    return splits


def cut(drawn: NDArray[np.float64], val_fraction: float, test_fraction: float) -> NDArray[np.int8]:
    """Give numbers below `test_fraction` to test, the next `val_fraction` to val, the rest to train."""
    val = np.where(drawn < test_fraction + val_fraction, VAL, TRAIN)
    return np.where(drawn < test_fraction, TEST, val).astype(np.int8)


def _stratified(config: CurateConfig, rows: Rows, kept: NDArray[np.int64], groups: Groups) -> NDArray[np.int8]:
    """Cut test, then val from the rest, each of whole folds of scikit-learn's `StratifiedGroupKFold`."""
    labels = labels_to_stratify(rows.classes, rows.labels[kept], config.balance.target)
    group = groups[0][kept]
    splits = np.full(len(kept), TRAIN, np.int8)
    splits[whole_folds(labels, group, config.test_fraction, config.seed)] = TEST
    rest = np.flatnonzero(splits == TRAIN)
    fraction = config.val_fraction / (1 - config.test_fraction)
    splits[rest[whole_folds(labels[rest], group[rest], fraction, config.seed)]] = VAL
    return splits


def _folds(config: CurateConfig, rows: Rows, kept: NDArray[np.int64], groups: Groups) -> NDArray[np.int8]:
    """Take one fold for test, the next for val and the others for train.

    Folds are stratified, not hashed: a fold of a small corpus might have no positives. All labelled images are dealt,
    kept or not, so that sets cleaned differently can be compared fold by fold.
    """
    labelled = np.flatnonzero(rows.labelled)
    labels, group = rows.labels[labelled], groups[0][labelled]
    if config.folds > (patients := len(np.unique(group))):
        raise ConfigError(f"folds {config.folds}: there are {patients} patients; give fewer folds")
    stratum = strata(labels_to_stratify(rows.classes, labels, config.balance.target), group, config.folds)
    folds = stratified_folds(stratum, group, config.folds, config.seed)
    splits = np.full(len(rows.labelled), TRAIN, np.int8)
    splits[labelled[folds[config.fold % config.folds]]] = VAL
    splits[labelled[folds[config.fold - 1]]] = TEST
    return splits[kept]


def labels_to_stratify(classes: tuple[str, ...], labels: NDArray[np.uint8], target: str) -> NDArray[np.uint8]:
    """Return the labels to spread evenly over the splits: those of the target if there is one, else of all classes.

    Args:
        classes: Name of each column.
        labels: Shape (rows, classes), 0, 1 or `NULL_LABEL`.
        target: Class to stratify by; empty: all of them.

    Returns:
        Shape (rows, 1) or (rows, classes).

    Raises:
        ConfigError: If there is no such class.
    """
    return labels[:, [target_column(classes, target)]] if target else labels


def target_column(classes: tuple[str, ...], target: str) -> int:
    """Return the column of the target class, without one that of the only class, else that of `any`.

    Raises:
        ConfigError: If there is no such class.
    """
    named = target or (classes[0] if len(classes) == 1 else ANY_CLASS)
    if named in classes:
        return classes.index(named)
    wrong = f"{target!r} is no class of the labels; they are" if target else "is needed to balance; the classes are"
    raise ConfigError(f"balance.target: {wrong} {', '.join(classes)}")


def whole_folds(labels: NDArray[np.uint8], group: NDArray[np.int64], fraction: float, seed: int) -> NDArray[np.int64]:
    """Return the rows of as many folds as make up `fraction`, with whole groups and labels in proportion.

    Folds with most strata are taken first, of these the ones nearest to the proportions: of seven folds of four
    positives, one with a positive.

    Args:
        labels: Shape (rows, columns), see `labels_to_stratify`.
        group: Shape (rows,).
        fraction: Of the rows, below 1.
        seed: Of the folds' shuffle.

    Raises:
        ConfigError: If there are too few groups, or rows of every stratum.
    """
    taken, folds = fold_counts(fraction)
    if folds > (groups := len(np.unique(group))):
        raise ConfigError(
            f"split: a fraction of {fraction:.3g} needs {folds} groups of patients, there are {groups}; give rounder "
            "fractions, such as 0.2, or by_patient"
        )
    stratum = strata(labels, group, folds)
    rows_of = np.bincount(stratum)
    members = stratified_folds(stratum, group, folds, seed)
    parts = np.stack([np.bincount(stratum[fold], minlength=len(rows_of)) for fold in members]) / rows_of
    distance = np.round(np.abs(parts - 1 / folds).sum(axis=1), 9)
    best = np.lexsort((distance, -(parts > 0).sum(axis=1)))
    return np.concatenate([members[fold] for fold in best[:taken]])


def strata(labels: NDArray[np.uint8], group: NDArray[np.int64], folds: int) -> NDArray[np.int64]:
    """Return the stratum of each row: its combination of labels.

    Combinations of fewer groups than there are folds cannot be in each of them. They are one stratum if they have a
    positive label, and one if they have none, so that at least the positives are spread.

    Args:
        labels: Shape (rows, columns).
        group: Shape (rows,), 0 or more.
        folds: How many.

    Returns:
        Shape (rows,), from 0 without gaps.
    """
    code = np.zeros(len(labels), np.int64)
    for column in labels.T.astype(np.int64):  # ten times faster than np.unique of the rows
        code = np.unique(code * (NULL_LABEL + 1) + column, return_inverse=True)[1]
    groups = int(group.max()) + 1
    groups_of = np.bincount(np.unique(code * groups + group) // groups)
    merged = np.where(groups_of[code] < folds, -1 - (labels == 1).any(axis=1), code)
    return np.unique(merged, return_inverse=True)[1].astype(np.int64)


def stratified_folds(
    stratum: NDArray[np.int64], group: NDArray[np.int64], folds: int, seed: int
) -> list[NDArray[np.int64]]:
    """Return the rows of each fold of scikit-learn's `StratifiedGroupKFold`: whole groups, strata in proportion.

    Args:
        stratum: Shape (rows,), from 0.
        group: Shape (rows,), at least `folds` different ones.
        folds: How many.
        seed: Of the shuffle of the groups.

    Raises:
        ConfigError: If every stratum has fewer rows than there are folds.
    """
    if (commonest := int(np.bincount(stratum).max())) < folds:
        raise ConfigError(
            f"split: {folds} stratified folds need {folds} images with the same labels, the most that have are "
            f"{commonest}; give fewer folds, rounder fractions, such as 0.2, or by_patient"
        )
    splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        return [fold.astype(np.int64) for _, fold in splitter.split(np.empty(len(stratum)), stratum, group)]


def fold_counts(fraction: float) -> tuple[int, int]:
    """Return how many folds of how many come close to `fraction`, as few as possible: 0.15 is 1 of 7, 0.4 is 2 of 5.

    Close is within 0.01, and within a tenth of a small fraction. `fraction` is between 0 and 1, both excluded.
    """
    for folds in count(2):  # ends at 5 / fraction at the latest: k / folds is never further away than 0.5 / folds
        taken = round(fraction * folds)
        if 0 < taken < folds and abs(taken / folds - fraction) <= min(0.01, fraction / 10):
            return taken, folds
    raise AssertionError


_SPLITTERS: dict[str, Callable[[CurateConfig, Rows, NDArray[np.int64], Groups], NDArray[np.int8]]] = {
    "by_patient": _by_patient,
    "by_patient_stratified": _stratified,
    "by_image": _by_image,
    "by_study": _by_study,
    "official": _official,
    "folds": _folds,
}
