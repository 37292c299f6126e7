"""Rows and labels of a task."""

from collections.abc import Callable

import pytest

from hemo.config.trial import TrialConfig
from hemo.errors import ConfigError, LabelError, SourceError
from hemo.training.data.dataset import read_training_set
from hemo.training.data.task_rows import select_splits


def test_binary_takes_the_target_and_leaves_out_rows_that_lack_it(make_training_set: Callable[..., str]) -> None:
    def label(number: int, name: str) -> int | None:
        return None if number < 3 and name == "sdh" else number % 2

    data = read_training_set(make_training_set(classes=("any", "sdh"), label=label))
    splits = select_splits(data, TrialConfig(target="sdh"))
    assert splits.classes == ("sdh",)
    assert splits.train.rows[:3].tolist() == [3, 4, 5]
    assert splits.train.labels[:3].tolist() == [[1], [0], [1]]
    assert (len(splits.train), splits.train.left_out) == (45, 3)


def test_multi_label_takes_all_classes(make_training_set: Callable[..., str]) -> None:
    data = read_training_set(make_training_set(classes=("any", "sdh"), label=lambda number, _: number % 2))
    assert select_splits(data, TrialConfig(task="multi_label")).classes == ("any", "sdh")


def test_multi_class_wants_exactly_one_class(make_training_set: Callable[..., str]) -> None:
    data = read_training_set(make_training_set(classes=("a", "b"), label=lambda number, name: int(number != 1)))
    with pytest.raises(LabelError, match="train-000 has none or several; use multi_label"):
        select_splits(data, TrialConfig(task="multi_class"))


def test_unknown_target_names_the_classes(make_training_set: Callable[..., str]) -> None:
    data = read_training_set(make_training_set())
    with pytest.raises(ConfigError, match=r"trial.target: 'PNEUMONIA' is no class .* it has any"):
        select_splits(data, TrialConfig(target="PNEUMONIA"))


def test_labelled_rows_that_are_all_alike_are_refused(make_training_set: Callable[..., str]) -> None:
    data = read_training_set(make_training_set(label=lambda number, _: None if number % 2 else 0))
    with pytest.raises(SourceError, match="train: all 24 labelled images are alike in any"):
        select_splits(data, TrialConfig())


def test_a_split_without_labels_is_refused(make_training_set: Callable[..., str]) -> None:
    data = read_training_set(make_training_set(rows={"train": 8, "val": 4, "test": 4}, label=lambda n, _: None))
    with pytest.raises(SourceError, match="train: no image has a label of any"):
        select_splits(data, TrialConfig())
