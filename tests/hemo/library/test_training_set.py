"""A training set as torch datasets."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from hemo.errors import ConfigError, SourceError
from hemo.library.training_set import TrainingSet
from hemo.training.data.streaming import StreamedImages


def label(number: int, name: str) -> int | None:
    return None if number == 3 else (number + (name == "b")) % 2


def test_splits_are_torch_datasets(make_training_set) -> None:
    opened = TrainingSet(make_training_set(classes=("a", "b"), label=label))
    assert (opened.classes, opened.channels, opened.shape) == (("a", "b"), ("brain",), (1, 16, 16))
    image, labels = opened.train[2]
    assert (image.dtype, image.shape, labels.tolist()) == (torch.uint8, (1, 16, 16), [0, 1])
    assert opened.train[3][1].tolist() == [255, 255]
    assert opened.train[-1][1].tolist() == [1, 0]
    with pytest.raises(IndexError, match="train has 48 images"):
        opened.train[48]
    assert [len(opened.split(name)) for name in ("train", "val", "test")] == [48, 16, 16]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_data_loader_sees_every_image_once(make_training_set, workers: int) -> None:
    dataset = TrainingSet(make_training_set()).val
    batches = list(DataLoader(dataset, batch_size=5, shuffle=True, num_workers=workers))
    assert [tuple(images.shape) for images, _ in batches] == [(5, 1, 16, 16)] * 3 + [(1, 1, 16, 16)]
    seen = sorted(image.numpy().tobytes() for images, _ in batches for image in images)
    assert seen == sorted(dataset[row][0].numpy().tobytes() for row in range(16))
    assert len(set(seen)) == 16


def test_a_batch_may_be_written_to(make_training_set) -> None:
    dataset = TrainingSet(make_training_set()).val
    image, _ = dataset[0]
    before = image.clone()
    image += 1
    assert torch.equal(dataset[0][0], before)


def test_rows_and_labels_as_a_frame(make_training_set) -> None:
    frame = TrainingSet(make_training_set(classes=("a", "b"), label=label)).train.frame
    assert frame["image_id"].tolist()[:2] == ["train-000", "train-001"]
    assert frame["a"].isna().tolist()[:5] == [False, False, False, True, False]
    assert frame["b"].sum() == 24


def test_pickles_without_images(make_training_set) -> None:
    dataset = TrainingSet(make_training_set()).train
    assert len(dataset) == 48
    assert len(pickle.dumps(dataset)) < 4000
    assert torch.equal(pickle.loads(pickle.dumps(dataset))[5][0], dataset[5][0])


def test_counts_and_pictures(make_training_set) -> None:
    opened = TrainingSet(make_training_set())
    assert opened.counts.loc["train"].to_dict() == {"images": 48, "patients": 25, "any": 24}
    sheet = opened.show(2)
    (first, second) = (opened.train[row][0][0] for row in (0, 1))
    assert np.asarray(sheet)[:16, :16, 0].tolist() == first.tolist()
    assert np.asarray(sheet)[:16, 132:148, 0].tolist() == second.tolist()
    assert "by_patient" in opened._repr_html_()
    with pytest.raises(ConfigError, match="'vla' must be one of train, val, test"):
        opened.split("vla")


def test_what_needs_few_images_does_not_read_all(make_training_set, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = TrainingSet(make_training_set())
    read = []
    monkeypatch.setattr(StreamedImages, "read_all", lambda images: read.append(images.shape))
    assert "by_patient" in opened._repr_html_()
    assert opened.show(3, "val").size[0] == 3 * 132
    assert len(opened.train.frame) == len(opened.train.labels) == 48
    assert read == []


def test_a_data_loader_finds_all_images_read_before_it_forks(
    make_training_set, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = TrainingSet(make_training_set()).val
    DataLoader(dataset, batch_size=5, shuffle=True, num_workers=2)
    monkeypatch.setattr("hemo.library.training_set.read_split", None)
    assert [len(labels) for _, labels in DataLoader(dataset, batch_size=5, num_workers=2)] == [5, 5, 5, 1]


def test_labels_cannot_be_edited(make_training_set) -> None:
    dataset = TrainingSet(make_training_set()).train
    with pytest.raises(ValueError, match="read-only"):
        dataset.labels[0] = 1 - dataset.labels[0]
    assert [dataset[row][1].tolist() for row in range(3)] == dataset.labels[:3].tolist() == [[0], [1], [0]]


def test_a_folder_without_a_set_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"is no finished training set .*`hemo curate` makes one"):
        TrainingSet(str(tmp_path))
