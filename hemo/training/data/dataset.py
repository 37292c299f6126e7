"""A training set: its splits in memory or streamed, and the rows of each split that have a task's labels."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hemo.config.curate import SPLITS
from hemo.config.trial import TrialConfig
from hemo.curation.card import TrainingSetCard, read_card
from hemo.curation.resplit import read_base_card, read_resplit
from hemo.errors import ConfigError, LabelError, SourceError
from hemo.training.data.balance import balanced_rows
from hemo.training.data.streaming import StreamedImages, read_parts

UNKNOWN = 255
"""Label of a row whose class nobody annotated (null in the Parquet file)."""


class Images(Protocol):
    """The images of one split, wherever they are, or their features. They lie in blocks, each read at once."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of all: (rows, channels, height_px, width_px), of features (rows, positions, features)."""
        ...

    @property
    def block_ends(self) -> NDArray[np.intp]:
        """Row after the last of each block, ascending, shape (blocks,)."""
        ...

    @property
    def is_study(self) -> NDArray[np.bool_] | None:
        """Which rows stand for a whole study, behind those of its slices, shape (rows,); None: all rows are images."""
        ...

    def batches(self, wanted: Sequence[NDArray[np.intp]]) -> Iterator[NDArray[Any]]:
        """Yield the images of these rows, batch by batch; each batch is a new array that may be written to.

        Pixels are uint8, features float32.

        Args:
            wanted: Rows of each batch, shape (images,).

        Raises:
            SourceError: If images that are read only now are gone or damaged.
        """
        ...


@dataclass(frozen=True)
class ResidentImages:
    """Images in one array, which processes can share without a copy."""

    pixels: NDArray[np.uint8]  # (rows, channels, height_px, width_px), contiguous
    block_ends: NDArray[np.intp]  # (blocks,), see `Images`: the order of training must not depend on the kind of feed
    is_study: ClassVar[None] = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of all: (rows, channels, height_px, width_px)."""
        return self.pixels.shape

    def batches(self, wanted: Sequence[NDArray[np.intp]]) -> Iterator[NDArray[np.uint8]]:
        """Yield the images of these rows, batch by batch."""
        for rows in wanted:
            yield self.pixels[rows]


@dataclass(frozen=True)
class ImageSet:
    """All rows of one split. Every array can be shared between processes without a copy."""

    images: Images
    labels: NDArray[np.uint8]  # (rows, classes of the set): 0, 1 or UNKNOWN
    image_id: NDArray[np.str_]  # (rows,)
    patient: NDArray[np.str_]  # (rows,); where none is known `study S`, `series S` or `image I`
    pixel_format: NDArray[np.str_]  # (rows,)


@dataclass(frozen=True)
class TrialData:
    """A whole training set, which every trial on it can share."""

    card: TrainingSetCard
    train: ImageSet
    val: ImageSet
    test: ImageSet | None  # None: held back, as in a search until it has selected


def read_training_set(training_set: str, *, streaming: bool = False) -> TrialData:
    """Read all three splits.

    Args:
        training_set: Output folder of `curate`, a path or URI.
        streaming: Leave the pixels where they are, to be read batch by batch; else they are read into memory.

    Raises:
        SourceError: If the folder is no finished training set or a part does not fit its card.
    """
    card = read_card(training_set)
    splits = (read_split(training_set, split, card, streaming=streaming) for split in ("train", "val", "test"))
    return TrialData(card, *splits)


def read_split(training_set: str, split: str, card: TrainingSetCard, *, streaming: bool = False) -> ImageSet:
    """Read one split.

    Args:
        training_set: Output folder of `curate`, or another split of its images; a path or URI.
        split: `train`, `val` or `test`; of another split also those that its card has besides.
        card: The set's card.
        streaming: Leave the pixels where they are.

    Raises:
        SourceError: If pixels are not uint8, parts are missing or damaged, or an image has another size than the card
            says; with `streaming`, an image's bytes are checked only when they are read.
    """
    streamed, rows = stored_rows(training_set, split, card)
    images: Images = streamed if streaming else ResidentImages(streamed.read_all(), streamed.block_ends)
    return ImageSet(
        images=images,
        labels=known_labels(rows, card),
        image_id=strings(rows.column("image_id")),
        patient=strings(rows.column("patient")),
        pixel_format=strings(rows.column("pixel_format")),
    )


def known_labels(rows: pa.Table, card: TrainingSetCard) -> NDArray[np.uint8]:
    """Return the labels of rows, (rows, classes of the set): 0, 1 or `UNKNOWN`."""
    columns = [rows.column(f"label_{name}").fill_null(pa.scalar(UNKNOWN, pa.uint8())) for name in card.classes]
    return np.stack([column.to_numpy() for column in columns], axis=1).astype(np.uint8)


def stored_rows(
    training_set: str, split: str, card: TrainingSetCard, more: Sequence[str] = ()
) -> tuple[StreamedImages, pa.Table]:
    """Return where the images of a split are, and their rows as `read_parts` does, with `more` columns."""
    shape = card.image_shape
    if card.base is None:
        parts, rows = read_parts(training_set, split, card, more)
        return StreamedImages(tuple(parts), shape), rows
    base, chosen = read_base_card(training_set, card), read_resplit(training_set, split, card)
    read = [read_parts(card.base.location, name, base, more) for name in SPLITS]
    rows = pa.concat_tables([table for _, table in read]).take(chosen["row"])
    for name in chosen.column_names[1:]:  # labels
        rows = rows.set_column(rows.schema.get_field_index(name), name, chosen[name])
    numbers: NDArray[np.intp] = chosen["row"].to_numpy().astype(np.intp)
    return StreamedImages(tuple(part for parts, _ in read for part in parts), shape, numbers), rows


def strings(column: Any) -> NDArray[np.str_]:
    """Return text as a fixed-width array: unlike an object array it is shared between processes without a copy."""
    return np.asarray(column.fill_null("").to_pylist(), dtype=np.str_)


@dataclass(frozen=True)
class Examples:
    """The rows of a split with every label the task needs; images are shared with the set they come from."""

    source: ImageSet
    rows: NDArray[np.intp]  # (examples,) into the source's arrays
    labels: NDArray[np.uint8]  # (examples, classes of the task): 0 or 1; multi_class: exactly one 1 a row
    unlabelled: int  # rows without a label of the task

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.rows)

    def take(self, indices: NDArray[np.intp]) -> "Examples":
        """Return the examples at `indices`, ascending; some may be repeated."""
        return replace(self, rows=self.rows[indices], labels=self.labels[indices])

    def of_studies(self, wanted: bool) -> "Examples":
        """Return the examples that are studies, or those that are slices; of images all are slices."""
        is_study = self.source.images.is_study
        if is_study is None:
            return self if not wanted else self.take(np.empty(0, np.intp))
        kept = self.take(np.flatnonzero(is_study[self.rows] == wanted))
        return replace(kept, unlabelled=int(np.count_nonzero(is_study == wanted)) - len(kept))

    @property
    def block_of(self) -> NDArray[np.intp]:
        """Block each example is read with, ascending, shape (examples,)."""
        return np.searchsorted(self.source.images.block_ends, self.rows, side="right")


@dataclass(frozen=True)
class Splits:
    """Training, validation and test examples of one trial."""

    classes: tuple[str, ...]  # of the task, in order
    train: Examples
    val: Examples
    test: Examples | None  # None: held back
    population: NDArray[np.float64]  # (classes,), prevalence before anything was sampled, of train and validation
    curated_by: str  # class by whose label `curate` sampled train; empty: by none
    epoch: Examples  # what is trained on in each epoch: train, or with `training.balance` fewer or repeated ones
    studies: dict[str, Examples] = field(default_factory=dict)  # train, val, test, of a sequence model of slices

    @property
    def trained_on(self) -> Examples:
        """Examples of an epoch: the class weights of a loss are theirs. Of a sequence model of slices also studies."""
        return with_studies(self.epoch, self.studies.get("train"))

    @property
    def by_name(self) -> dict[str, Examples]:
        """Split -> examples, without what is held back."""
        splits = {"train": self.train, "val": self.val}
        return splits if self.test is None else {**splits, "test": self.test}


def with_studies(slices: Examples, studies: Examples | None) -> Examples:
    """Return slices and studies of one split together, in the order of their rows."""
    if studies is None:
        return slices
    rows = np.concatenate([slices.rows, studies.rows])
    order = np.argsort(rows)
    labels = np.concatenate([slices.labels, studies.labels])[order]
    return Examples(slices.source, rows[order], labels, slices.unlabelled)


def with_target(config: TrialConfig, card: TrainingSetCard) -> TrialConfig:
    """Return a trial whose target `any` is the only class of the set, where no class has that name.

    Digests and records are of the trial that this returns: they state the class.
    """
    if config.target == "any" and "any" not in card.classes and len(card.classes) == 1:
        return config.model_copy(update={"target": card.classes[0]})
    return config


def task_classes(config: TrialConfig, card: TrainingSetCard) -> tuple[str, ...]:
    """Return the classes of the logits, in order: the one target of a binary task, else all classes of the set.

    Raises:
        ConfigError: If the target is no class of the set.
    """
    if config.task != "binary":
        return card.classes
    if config.target not in card.classes:
        raise ConfigError(
            f"trial.target: {config.target!r} is no class of the training set; it has {', '.join(card.classes)}"
        )
    return (config.target,)


def select_examples(source: ImageSet, config: TrialConfig, card: TrainingSetCard) -> Examples:
    """Keep the rows that have all labels of the task.

    Raises:
        LabelError: If a row of a `multi_class` task has no class or several.
    """
    columns = [card.classes.index(name) for name in task_classes(config, card)]
    labels = source.labels[:, columns]
    rows = np.flatnonzero((labels != UNKNOWN).all(axis=1))
    kept = np.ascontiguousarray(labels[rows])
    if config.task == "multi_class" and np.any(kept.sum(axis=1) != 1):
        first = source.image_id[rows[np.flatnonzero(kept.sum(axis=1) != 1)[0]]]
        raise LabelError(
            f"trial.task: multi_class needs exactly one class an image, {first} has none or several; use multi_label"
        )
    return Examples(source, rows, kept, len(labels) - len(rows))


def select_splits(data: TrialData, config: TrialConfig) -> Splits:
    """Keep, in each split, the rows that have all labels of the task.

    Raises:
        ConfigError: If the target is no class of the set.
        LabelError: If a row of a `multi_class` task has no class or several.
        SourceError: If a split has no labelled rows, or the training split has one class only.
    """
    card = data.card
    sources = {"train": data.train, "val": data.val, **({} if data.test is None else {"test": data.test})}
    labelled = {name: select_examples(source, config, card) for name, source in sources.items()}
    of_studies = config.model.is_sequence and config.model.series.labels == "study"
    selected = {name: examples.of_studies(of_studies) for name, examples in labelled.items()}
    train, val, test = selected["train"], selected["val"], selected.get("test")
    studies = {name: examples.of_studies(True) for name, examples in labelled.items()}
    splits = Splits(
        task_classes(config, card),
        train,
        val,
        test,
        _population(train, val, config, card),
        card.balanced_by,
        _epoch_examples(train, config, card),
        studies if config.model.is_sequence and not of_studies else {},
    )
    for name, examples in splits.by_name.items():
        if not len(examples):
            raise SourceError(f"{name}: no image has a label of {', '.join(splits.classes)}; see card.json for counts")
    fractions = train.labels.mean(axis=0)
    if not np.any((fractions > 0) & (fractions < 1)):
        raise SourceError(f"train: all {len(train)} labelled images are alike in {', '.join(splits.classes)}")
    return splits


def _population(train: Examples, val: Examples, config: TrialConfig, card: TrainingSetCard) -> NDArray[np.float64]:
    """Return the prevalence of each class before anything was sampled, of train and validation; test is not looked at.

    Which images `curate` left out is known by their counts only.
    """
    positives, images = train.labels.sum(axis=0), np.full(train.labels.shape[1], len(train))
    if card.balanced_by and card.before_balance is not None:
        classes = task_classes(config, card)
        positives = np.array([card.before_balance.positives[name] for name in classes])
        images = np.array([card.before_balance.labelled(name) for name in classes])
    return np.asarray((positives + val.labels.sum(axis=0)) / np.maximum(images + len(val), 1))


def _epoch_examples(train: Examples, config: TrialConfig, card: TrainingSetCard) -> Examples:
    """Return what an epoch trains on."""
    if config.training.balance == "none" or not len(train):
        return train
    if config.task == "multi_class":
        label = train.labels.argmax(axis=1)
    else:
        label = train.labels[:, task_classes(config, card).index(config.target)]
    image_ids, patients = train.source.image_id[train.rows], train.source.patient[train.rows]
    return train.take(balanced_rows(config.training, label, image_ids, patients, config.seed))
