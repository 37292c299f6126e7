"""Split the images of one training set by four rules, cleaner and cleaner, beside a hold-out that is clean for all.

Pure functions of names, labels and a seed. The rules differ in what they keep together; fractions, strata and numbers
of images are the same, so that what differs between two models is what they saw of the patients they are tested on.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, cast, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hemo.config.curate import SPLITS
from hemo.corpus.labels import NULL_LABEL
from hemo.curation.hash_order import hash_texts, smallest, uniform
from hemo.curation.labelled_index import text_column
from hemo.curation.leak_audit import equal_pixels, group_names, link_patients
from hemo.curation.split import TEST, TRAIN, VAL

Rule = Literal["by_image", "by_study", "by_patient_id", "by_patient"]

RULES: tuple[Rule, ...] = get_args(Rule)
"""What a rule keeps together is kept together by all rules after it; the last one is that of `curate`."""

HOLDOUT, UNUSED = len(SPLITS), len(SPLITS) + 1
"""Parts beside `TRAIN`, `VAL` and `TEST`: patients whom no model meets before it is tested, and surplus images."""

POOL_COLUMNS = ("study", "series", "position_mm", "flags", "pixel_digest")
"""What a pool has beside identities and labels."""


@dataclass(frozen=True)
class Pool:
    """The images of a training set, whatever its own splits. The first axis of all arrays is the image."""

    table: pa.Table  # image_id, patient, pixel_format, `POOL_COLUMNS`, label_NAME
    labels: NDArray[np.uint8]  # (images, classes of the task): 0, 1 or `NULL_LABEL`
    patient: NDArray[np.int64]  # number of the patient by id
    group: NDArray[np.int64]  # number of the linked patient: patients with an image in common are one
    group_names: pa.StringArray
    pixels: NDArray[np.int64]  # number of the pixels, equal for equal images; -1: not compared

    @property
    def image_ids(self) -> pa.StringArray:
        """Names of the images."""
        return text_column(self.table, "image_id")


def read_pool(table: pa.Table, audit: pa.Table, classes: tuple[str, ...]) -> Pool:
    """Link the patients of a training set and keep the images with all labels of the task.

    Patients are linked by equal pixels here, and by what `curate` found: a link may be an image that it left out.

    Args:
        table: All images, columns as of `Pool.table`.
        audit: `audit.parquet` of the training set.
        classes: Of the task.
    """
    labels = np.stack([_label(table, name) for name in classes], axis=1)
    known = (labels != NULL_LABEL).all(axis=1)
    table, labels = table.filter(pa.array(known)).combine_chunks(), labels[known]
    names = text_column(table, "patient").dictionary_encode()
    patient, pixels = names.indices.to_numpy().astype(np.int64), equal_pixels(table)
    linked, link = _links_of_audit(table, names, audit)
    more = np.concatenate([patient, linked]), np.concatenate([pixels, link + int(pixels.max()) + 1])
    groups = link_patients(*more)
    return Pool(table, labels, patient, groups[patient], group_names(groups, names.dictionary), pixels)


def _label(table: pa.Table, name: str) -> NDArray[np.uint8]:
    column: Any = table[f"label_{name}"].fill_null(pa.scalar(NULL_LABEL, pa.uint8()))
    labels: NDArray[np.uint8] = column.to_numpy()
    return labels


def _links_of_audit(
    table: pa.Table, names: "pa.DictionaryArray[Any, Any]", audit: pa.Table
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return patients of the pool and the number of the linked patient each belongs to, both of shape (links,)."""
    row = pc.index_in(text_column(audit, "image_id"), value_set=text_column(table, "image_id"))
    by_image = names.indices.take(row)
    patient = pc.coalesce(by_image, pc.index_in(text_column(audit, "patient"), value_set=names.dictionary))
    linked = text_column(audit, "linked_patient").dictionary_encode().indices
    found = patient.is_valid().to_numpy(zero_copy_only=False)
    numbers = [column.fill_null(0).to_numpy().astype(np.int64)[found] for column in (patient, linked)]
    return numbers[0], numbers[1]


def units_of(pool: Pool, rule: Rule) -> tuple[NDArray[np.int64], pa.StringArray]:
    """Return what a rule keeps together: a number for each image, shape (images,), and the name of each number.

    By study an image without study goes with its patient.
    """
    if rule == "by_patient":
        return pool.group, pool.group_names
    joined: Any = pc.binary_join_element_wise  # its stubs lack scalars
    patient, study = text_column(pool.table, "patient"), pc.fill_null(text_column(pool.table, "study"), "")
    names = {"by_image": pool.image_ids, "by_patient_id": patient, "by_study": joined(patient, study, "\n")}[rule]
    encoded = names.dictionary_encode()
    return encoded.indices.to_numpy().astype(np.int64), encoded.dictionary


def nothing_to_leak(pool: Pool) -> dict[Rule, str]:
    """Return the rules that split as the next one does, and why."""
    units = {rule: len(np.unique(units_of(pool, rule)[0])) for rule in RULES}
    studies = text_column(pool.table, "study").null_count < len(pool.table)
    reasons: dict[Rule, str] = {
        "by_image": "each study has one image" if studies else "each patient has one image",
        "by_study": "each patient has one study" if studies else "no image has a study",
        "by_patient_id": "no two patients have an image in common",
    }
    return {rule: reasons[rule] for rule, after in pairwise(RULES) if units[rule] == units[after]}


@dataclass(frozen=True)
class Fractions:
    """Fractions of all images, which leave the rest to train."""

    holdout: float
    val: float
    test: float


def split_alike(pool: Pool, rules: tuple[Rule, ...], fractions: Fractions, seed: int) -> dict[Rule, NDArray[np.int8]]:
    """Split the images by each rule: one hold-out of whole linked patients for all, and equal numbers to learn from.

    Units are cut in the order of a hash, separately those with and without a positive image, so that prevalences are
    alike. The rule with the fewest images in train (or val) decides how many all have: from the others surplus images
    are left out by their hash.

    Args:
        pool: The images.
        rules: Those to split by.
        fractions: Of the images.
        seed: Of the hashes.

    Returns:
        Rule -> part of each image: `TRAIN`, `VAL`, `TEST`, `HOLDOUT` or `UNUSED`, shape (images,).
    """
    positive = (pool.labels == 1).any(axis=1)
    held_out = cut_units(pool.group, pool.group_names, positive, (fractions.holdout,), seed, "leaks hold-out") == 0
    open_rows = np.flatnonzero(~held_out)
    rest = 1 - fractions.holdout
    splits = {}
    for rule in rules:
        unit, names = units_of(pool, rule)
        parts = (fractions.test / rest, fractions.val / rest)
        cut = cut_units(unit[open_rows], names, positive[open_rows], parts, seed, "leaks split")
        splits[rule] = np.full(len(held_out), HOLDOUT, np.int8)
        splits[rule][open_rows] = np.array([TEST, VAL, TRAIN], np.int8)[cut]
    for part in (TRAIN, VAL):
        fewest = min(int((split == part).sum()) for split in splits.values())
        for split in splits.values():
            members = np.flatnonzero(split == part)
            kept = smallest(pool.image_ids.take(pa.array(members)), fewest, "leaks equal numbers", seed)
            split[np.delete(members, kept)] = UNUSED
    return splits


def cut_units(
    unit: NDArray[np.int64],
    names: pa.StringArray,
    positive: NDArray[np.bool_],
    fractions: tuple[float, ...],
    seed: int,
    purpose: str,
) -> NDArray[np.int8]:
    """Cut whole units into parts of about these fractions of the images, positive and negative units separately.

    A unit belongs where the middle of its images lies, when the units are laid side by side in the order of their
    hashes: the images of a part differ from its fraction by half a unit in each of the two at most.

    Args:
        unit: Of each image, an index in `names`, shape (images,).
        names: Of all units; some may have no image.
        positive: Of each image, shape (images,); a unit is positive if it has a positive image.
        fractions: Of the parts 0, 1, ...; the last part is what they leave.
        seed: Of the hashes.
        purpose: Of the hashes.

    Returns:
        Part of each image, shape (images,).
    """
    images = np.bincount(unit, minlength=len(names))
    has_positive = np.bincount(unit, weights=positive, minlength=len(names)) > 0
    hashed = uniform(hash_texts(names, purpose, seed))
    part = np.zeros(len(names), np.int8)
    for stratum in (True, False):
        members = np.flatnonzero((images > 0) & (has_positive == stratum))
        members = members[np.argsort(hashed[members], kind="stable")]
        ends = np.cumsum(images[members])
        middle = (ends - images[members] / 2) / max(1, int(images[members].sum()))
        part[members] = np.searchsorted(np.cumsum(fractions), middle, side="right")
    return part[unit]


def shuffle_labels(pool: Pool, seed: int) -> NDArray[np.uint8]:
    """Give each linked patient the labels of another one: what is left to learn is to recognise patients.

    The labels of the donor's images, in the order of series and position, are stretched to the number of the
    recipient's images and turned round by a random number of images. So labels stay as alike within a patient as they
    were, and say nothing about a slice's position, which other patients' images show as well. Equal images keep equal
    labels.

    Args:
        pool: The images, of two linked patients at least.
        seed: Of donors and turns.

    Returns:
        Shape of `pool.labels`.
    """
    generator = np.random.default_rng([seed, *b"shuffled labels"])
    position = cast(Any, pool.table["position_mm"].combine_chunks()).fill_null(np.nan).to_numpy()
    series = text_column(pool.table, "series").dictionary_encode().indices.fill_null(-1).to_numpy()
    names = pc.rank(pool.image_ids).to_numpy()
    order = np.lexsort((names, position, series, pool.group))
    starts = np.searchsorted(pool.group[order], np.arange(len(pool.group_names) + 1))
    circle = generator.permutation(len(pool.group_names))
    shuffled = np.empty_like(pool.labels)
    for donor, recipient in zip(circle, np.roll(circle, 1), strict=True):
        given = pool.labels[order[starts[donor] : starts[donor + 1]]]
        rows = order[starts[recipient] : starts[recipient + 1]]
        turned = np.arange(len(rows)) * len(given) // len(rows) + generator.integers(len(given))
        shuffled[rows] = given[turned % len(given)]
    compared = np.flatnonzero(pool.pixels >= 0)
    first = np.unique(pool.pixels[compared], return_index=True)
    shuffled[compared] = shuffled[compared[first[1][np.searchsorted(first[0], pool.pixels[compared])]]]
    return shuffled
