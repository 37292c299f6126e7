"""`card.json` of a training set: counts after each step, findings on splits, audit, classes, channels, shape."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field

from hemo.config.curate import DatasetConfig
from hemo.config.types import Config, load_card
from hemo.errors import first_names
from hemo.stats import MIN_PATIENTS, MIN_PATIENTS_EACH
from hemo.synthetic import MANUFACTURER, MODEL

CARD_SCHEMA_VERSION = 4
"""4: counts of the conversion, reasons of steps, files of the parts, description of the set, digest of the split."""

LEVELS = ("patient", "study", "series", "image")
"""Identifiers by which the patient of an image is found, the first that is not blank."""


class Count(Config):
    """Rows at one point, in all and by what they are."""

    rows: int
    patients: int
    positives: dict[str, int] = Field(description="class -> rows that show it")
    blanks: dict[str, int] = Field(description="class -> rows whose label is blank: neither positive nor negative")
    patients_with: dict[str, int] = Field(description="class -> patients with positive rows")
    patients_without: dict[str, int] = Field(description="class -> patients with negative rows")
    grouped_by: dict[str, int] = Field(
        description="patient, study, series, image -> rows whose patient this identifier gave, the first not blank"
    )
    pixel_formats: dict[str, int] = Field({}, description="pixel format -> rows")

    def labelled(self, name: str) -> int:
        """Return the rows with a label of a class."""
        return self.rows - self.blanks[name]

    def varies(self, name: str) -> bool:
        """Return whether a class has positive and negative rows."""
        return 0 < self.positives[name] < self.labelled(name)


class SplitFinding(Config):
    """Why a split supports no conclusion: too few patients, or a class that too few of them show or do not show."""

    split: str
    patients: int | None = Field(description="null: enough")
    patients_with: dict[str, int] = Field(description="class -> patients with positive rows, where they are too few")
    patients_without: dict[str, int] = Field(description="class -> patients with negative rows, likewise")

    @property
    def one_sided(self) -> tuple[str, ...]:
        """Classes that all images of the split show, or none."""
        counts = (*self.patients_with.items(), *self.patients_without.items())
        return tuple(dict.fromkeys(name for name, count in counts if not count))

    @property
    def text(self) -> str:
        """The finding as a sentence."""
        if self.split == "train":
            return f"train: all images are alike in {first_names(self.one_sided)}: that cannot be learned"
        few = [] if self.patients is None else [f"{self.patients} (of at least {MIN_PATIENTS})"]
        for word, counts in (("with", self.patients_with), ("without", self.patients_without)):
            if counts:
                listed = first_names([f"{name} {count}" for name, count in counts.items()])
                few.append(f"{word} {listed} (of at least {MIN_PATIENTS_EACH})")
        use = "choose an epoch, a threshold or a model by" if self.split == "val" else "tell models apart by"
        return f"{self.split} has too few patients to {use}: {', '.join(few)}"

    def of_classes(self, classes: Collection[str]) -> "SplitFinding | None":
        """Return what concerns these classes; None if nothing does."""
        fields = {
            name: {key: count for key, count in getattr(self, name).items() if key in classes}
            for name in ("patients_with", "patients_without")
        }
        concerns = self.patients is not None or any(fields.values())
        return self.model_copy(update=fields) if concerns else None


class Step(Config):
    """One step of curation, with the rows that were left after it."""

    name: str
    removed: int
    left: Count
    detail: str = ""
    reasons: dict[str, int] = Field(
        {}, description="of `clean`: flag -> images removed that have it; one with two flags counts in both"
    )


class ConversionCounts(Config):
    """What `convert` made of the files of a corpus, from its card. Each file became rows, rejects, or both."""

    files: int
    ignored_files: int = Field(description="other files of the source, whose ending is not one of the corpus")
    rows: int
    rejects: int
    reject_reasons: dict[str, int]
    flags: dict[str, int] = Field(description="flag -> rows that have it")


class PartFile(Config):
    """One file of a training set."""

    path: str = Field(description="below the training set")
    rows: int
    size_bytes: int
    sha256: str = Field(description="64 hexadecimal digits")


class BaseSet(Config):
    """The training set that has the images of another split of them, see `hemo.curation.resplit`."""

    location: str
    digest: str = Field(description="of its card")


class TrainingSetCard(Config):
    """`SET/card.json`.

    The parts are `SET/{train,val,test}/part-*.parquet`: the row schema and a `label_NAME` column a class.
    """

    schema_version: int = CARD_SCHEMA_VERSION
    digest: str = Field(
        pattern="^[0-9a-f]{16}$",  # a folder of records is named by it
        description="covers ids, patients, labels, splits, pixels, image config; part of trial digests",
    )
    inputs_digest: str = Field(
        description="covers curate's config and the content of the shards' card and index and of the label file: "
        "a stage with this digest is complete"
    )
    config: dict[str, Any] = Field(description="curate's config as it was run; its locations are for information only")
    image: dict[str, Any] = Field(
        description="how the images were made: what `predict` needs to make the same from a raw file"
    )
    classes: tuple[str, ...] = Field(description="in order; columns are `label_NAME`")
    channels: tuple[str, ...]
    dtype: str = Field(description="of a pixel: uint8 or int16")
    height_px: int
    width_px: int
    base: BaseSet | None = Field(None, description="whose images this set splits otherwise; null: it has its own")
    split: str = Field(
        description="by_patient, by_patient_stratified, by_image or by_study (leaky), official, or fold k of K by "
        "patient; of `hemo leaks` also by_patient_id (leaky)"
    )
    splits: dict[str, Count] = Field(description="train, val, test")
    split_digest: str = Field("", description="SHA-256 of `split_manifest.csv`: equal if images and splits are")
    conversion: ConversionCounts
    before_balance: Count | None = Field(
        None,
        description="train before `balance` left out negatives, with the prevalence of the corpus; null: not balanced",
    )
    balanced_by: str = Field("", description="class whose negatives `balance` left out of train; empty: none were")
    steps: tuple[Step, ...]
    findings: tuple[SplitFinding, ...] = Field(
        description="splits that are too small, or in which a class is one-sided, to choose or compare models by"
    )
    audit: dict[str, Any] = Field(
        {},
        description="linked patients, conflicts, labels without images and images without labels",
    )
    reductions: tuple[str, ...] = Field(
        (), description="sentences for table headings, such as `train limited to 900 of 4,707 images`"
    )
    synthetic_images: int = Field(0, description="images of `hemo phantom`, known by their scanner")
    parts: tuple[PartFile, ...] = ()
    dataset: DatasetConfig = Field(DatasetConfig(), description="name, licence and source, as the user gave them")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape of each stored image: (channels, height_px, width_px)."""
        return len(self.channels), self.height_px, self.width_px

    @property
    def image_size(self) -> str:
        """The same as a text: `3 x 256 x 256`."""
        return " x ".join(map(str, self.image_shape))

    @property
    def ids_are_public(self) -> bool:
        """Whether ids and paths are those of the corpus; else they are pseudonyms under a key."""
        return not self.image.get("key_fingerprint")

    @property
    def grouped_by(self) -> dict[str, int]:
        """Level of `LEVELS` -> images of all splits whose patient it gave."""
        counts = [count.grouped_by for count in self.splits.values()]
        return {level: sum(count.get(level, 0) for count in counts) for level in LEVELS}

    def findings_of(self, classes: Collection[str]) -> list[SplitFinding]:
        """Return the findings that concern these classes."""
        return [found for finding in self.findings if (found := finding.of_classes(classes))]


def read_card(training_set: str) -> TrainingSetCard:
    """Return the card of a training set.

    Raises:
        SourceError: If the folder is no finished training set, or of another version.
    """
    return load_card(training_set, TrainingSetCard, stage="training set", job="curate")


def without_examples(card: TrainingSetCard) -> TrainingSetCard:
    """Return a card for people who do not have the training set: without the examples of ids, and without locations."""
    audit = {name: value for name, value in card.audit.items() if not name.endswith("_examples")}
    config = {name: value for name, value in card.config.items() if name not in ("shards", "labels", "embeddings")}
    base = card.base and card.base.model_copy(update={"location": ""})
    return card.model_copy(update={"audit": audit, "config": config, "base": base})


def label_counts(
    classes: Sequence[str], labels: NDArray[np.uint8], patient: NDArray[np.int64]
) -> dict[str, dict[str, int]]:
    """Return the fields of `Count` by class.

    Args:
        classes: Name of each column.
        labels: Shape (rows, classes), 0 or 1, any other number where the label is blank.
        patient: Number of each row's patient, shape (rows,).
    """
    by_class = list(zip(classes, labels.T, strict=True))
    return {
        "positives": {name: int((column == 1).sum()) for name, column in by_class},
        "blanks": {name: int((column > 1).sum()) for name, column in by_class},
        "patients_with": {name: len(np.unique(patient[column == 1])) for name, column in by_class},
        "patients_without": {name: len(np.unique(patient[column == 0])) for name, column in by_class},
    }


def split_finding(split: str, patients: int, counts: Mapping[str, Mapping[str, int]]) -> SplitFinding | None:
    """Return why a split supports no conclusion; None if it has enough patients.

    Of train only classes that do not vary: a split to learn from has no least size.

    Args:
        split: `train`, `val` or `test`.
        patients: In it.
        counts: See `label_counts`.
    """
    least, each = (0, 1) if split == "train" else (MIN_PATIENTS, MIN_PATIENTS_EACH)
    few = {
        kind: {name: count for name, count in counts[kind].items() if count < each}
        for kind in ("patients_with", "patients_without")
    }
    if patients >= least and not any(few.values()):
        return None
    return SplitFinding(split=split, patients=patients if patients < least else None, **few)


def synthetic_images(scanners: "pa.Array[Any] | pa.ChunkedArray") -> int:
    """Return how many images name `hemo phantom` as their scanner."""
    return int(pc.sum(pc.equal(scanners, f"{MANUFACTURER} {MODEL}")).as_py() or 0)


def synthetic_text(images: int) -> str:
    """Return a sentence on images of `hemo phantom`; empty if there are none."""
    meaning = "the metrics show that the steps work, and nothing about patients"
    return f"{images:,} images are synthetic, made by `hemo phantom`: {meaning}" if images else ""


def grouping_text(grouped_by: Mapping[str, int]) -> str:
    """Return a sentence on images without patient id; empty if all have one.

    Args:
        grouped_by: Level of `LEVELS` -> images whose patient it gave.
    """
    others = {level: grouped_by.get(level, 0) for level in LEVELS[1:]}
    if not any(others.values()):
        return ""
    taken = ", ".join(f"{level} ({count:,})" for level, count in others.items() if count)
    unknown, images = sum(others.values()), sum(grouped_by.values())
    caution = "; images of one patient may count as several patients" if others["image"] else ""
    return f"{unknown:,} of {images:,} images have no patient id, their patient is their {taken}{caution}"
