"""A training set: its splits in memory or streamed, and the rows of each split that have a task's labels."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hemo.config.curate import SPLITS
from hemo.config.trial import TrialConfig
from hemo.curation.card import TrainingSetCard, read_card
from hemo.curation.resplit import read_base_card, read_resplit
from hemo.errors import ConfigError, LabelError, SourceError
from hemo.training.data.balance import balanced_rows
from hemo.training.data.examples import UNKNOWN, Examples, Images, ImageSet, Splits, strings
from hemo.training.data.streaming import StreamedImages, read_parts


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
