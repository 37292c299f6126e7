"""Which rows of an image set a task learns from, and what it is to say about them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hemo.config.trial import TrialConfig
from hemo.curation.card import TrainingSetCard
from hemo.errors import ConfigError, LabelError, SourceError
from hemo.training.data.dataset import UNKNOWN, ImageSet, TrialData


@dataclass(frozen=True)
class Examples:
    """The rows of a split with every label the task needs; images are shared with the set they come from."""

    source: ImageSet
    rows: NDArray[np.intp]  # (examples,) into the source's arrays
    labels: NDArray[np.uint8]  # (examples, classes of the task): 0 or 1; multi_class: exactly one 1 a row
    left_out: int  # rows without a label of the task

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.rows)

    @property
    def block_of(self) -> NDArray[np.intp]:
        """Block each example is read with, ascending, shape (examples,)."""
        return np.searchsorted(self.source.images.block_ends, self.rows, side="right")


@dataclass(frozen=True)
class Splits:
    """What one trial learns from, is chosen on, and is judged by."""

    classes: tuple[str, ...]  # of the task, in order
    train: Examples
    val: Examples
    test: Examples | None  # None: held back

    @property
    def by_name(self) -> dict[str, Examples]:
        """Split -> examples, without what is held back."""
        splits = {"train": self.train, "val": self.val}
        return splits if self.test is None else {**splits, "test": self.test}


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
        SourceError: If the rows that are left cannot be learned from.
    """
    card = data.card
    train, val = (select_examples(source, config, card) for source in (data.train, data.val))
    test = None if data.test is None else select_examples(data.test, config, card)
    splits = Splits(task_classes(config, card), train, val, test)
    for name, examples in splits.by_name.items():
        if not len(examples):
            raise SourceError(f"{name}: no image has a label of {', '.join(splits.classes)}; see card.json for counts")
    shares = train.labels.mean(axis=0)
    if not np.any((shares > 0) & (shares < 1)):
        raise SourceError(f"train: all {len(train)} labelled images are alike in {', '.join(splits.classes)}")
    return splits
