"""Slices in the order of their series, with embeddings and labels of studies, and batches of whole studies."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
import torch

from hemo.config.trial import SeriesConfig, TrialConfig
from hemo.training.data.dataset import select_splits
from hemo.training.data.examples import UNKNOWN, ImageSet, with_studies
from hemo.training.data.read_studies import read_studies
from hemo.training.data.studies import StudyBatches, studies_in_order
from hemo.training.distributed import Worker
from tests.series_sets import SLICES, SeriesSet

Maker = Callable[..., SeriesSet]


def _four_slices() -> ImageSet:
    """Return a study of two series, the first of two slices, and one of a single slice."""
    rows = pa.table(
        {
            "image_id": ["d", "c", "b", "a"],
            "patient": ["q", "p", "p", "p"],
            "pixel_format": ["u12"] * 4,
            "study_name": ["T", "S", "S", "S"],
            "series_name": ["t", "s1", "s2", "s1"],
            "position_mm": pa.array([0.0, -5.0, 1.0, 5.0], pa.float32()),
        }
    )
    labels = np.array([[0, UNKNOWN], [0, 0], [1, UNKNOWN], [0, 0]], np.uint8)
    return studies_in_order(rows, labels, np.array([[4.0], [3.0], [2.0], [1.0]], np.float32), 0)


def test_slices_are_ordered_by_series_and_position_and_a_study_follows_its_slices() -> None:
    found = _four_slices()
    assert found.image_id.tolist() == ["c", "a", "b", "S", "d", "T"]
    assert found.patient.tolist() == ["p", "p", "p", "p", "q", "q"]
    assert found.images.is_study.tolist() == [False, False, False, True, False, True]
    assert found.images.block_ends.tolist() == [4, 6]
    assert found.images.shape == (6, 1)
    # S is positive in the first class by one slice; in the second nobody knows of one slice, which may be positive
    assert found.labels.tolist() == [[0, 0], [0, 0], [1, 255], [1, 255], [0, 255], [0, 255]]


def test_studies_numbered_within_each_patient_are_apart() -> None:
    """Patients p and q each have a study 1 of a series 1; only q's has the class."""
    rows = pa.table(
        {
            "image_id": ["a", "b", "c", "d"],
            "patient": ["q", "p", "q", "p"],
            "pixel_format": ["u12"] * 4,
            "study_name": ["1"] * 4,
            "series_name": ["1"] * 4,
            "position_mm": pa.array([0.0, 1.0, 2.0, 3.0], pa.float32()),
        }
    )
    found = studies_in_order(rows, np.array([[1], [0], [0], [0]], np.uint8), np.zeros((4, 1), np.float32), 0)
    assert found.image_id.tolist() == ["b", "d", "1", "a", "c", "1"]
    assert found.patient.tolist() == ["p", "p", "p", "q", "q", "q"]
    assert found.labels[:, 0].tolist() == [0, 0, 0, 1, 0, 1]
    assert found.images.series.tolist() == [0, 0, 1, 1]


def test_a_batch_has_all_slices_of_its_studies_and_slots_in_the_order_wanted() -> None:
    found = _four_slices()
    (one, both) = found.images.batches([np.array([1]), np.array([2, 3, 4])])
    assert one[:, :6].tolist() == [[0, 0, -5, -1, -1, 3], [0, 0, 5, 0, -1, 1], [0, 1, 1, -1, -1, 2]]
    assert both[:, :6].tolist() == [[0, 0, -5, -1, 1, 3], [0, 0, 5, -1, 1, 1], [0, 1, 1, 0, 1, 2], [1, 2, 0, 2, -1, 4]]


def test_slices_are_the_examples_and_studies_stand_beside_them(make_series_set: Maker) -> None:
    made = make_series_set(label=lambda number, _: None if number == 0 else int(number % 12 == 3))
    data = read_studies(made.training_set, SeriesConfig(embeddings=made.embeddings))
    splits = select_splits(data, made.trial())
    assert (len(splits.train), splits.train.unlabelled, len(splits.val)) == (24 * SLICES - 1, 1, 12 * SLICES - 1)
    assert {name: len(studies) for name, studies in splits.studies.items()} == {"train": 24, "val": 12, "test": 12}
    assert splits.studies["train"].labels.sum() == 12
    together = with_studies(splits.train, splits.studies["train"])
    assert together.rows.tolist() == [0, 1, *range(3, 24 * (SLICES + 1))]  # slice 2 of the first study is row 0
    alone = select_splits(data, made.trial(labels="study"))
    assert (len(alone.train), alone.studies) == (24, {})
    assert alone.train.source.images.is_study[alone.train.rows].all()


def test_steps_have_whole_studies_each_once_whatever_the_workers(make_series_set: Maker) -> None:
    made = make_series_set()
    splits = select_splits(read_studies(made.training_set, SeriesConfig(embeddings=made.embeddings)), made.trial())
    examples = with_studies(splits.train, splits.studies["train"])
    batches = StudyBatches(examples, torch.from_numpy(examples.labels).float(), 0, 1.0)
    alone = batches.order(1, Worker(), 5)
    halves = [batches.order(1, Worker(rank=rank, count=2), 5) for rank in (0, 1)]
    assert [step.images for step in alone] == [35, 35, 35, 35, 28]
    assert sorted(np.concatenate([step.rows for step in alone]).tolist()) == list(range(24 * 7))
    for whole, *parts in zip(alone, *halves, strict=True):
        assert sorted(np.concatenate([part.rows for part in parts]).tolist()) == whole.rows.tolist()
        assert [part.batch[part.worker_slice].tolist() for part in parts] == [part.rows.tolist() for part in parts]
        assert all(len(np.unique(part.rows // 7)) * 7 == len(part.rows) for part in parts)
    assert [step.rows.tolist() for step in batches.order(2, Worker(), 5)] != [step.rows.tolist() for step in alone]


def test_studies_weigh_as_much_as_slices_times_their_weight(make_series_set: Maker) -> None:
    made = make_series_set()
    splits = select_splits(read_studies(made.training_set, SeriesConfig(embeddings=made.embeddings)), made.trial())
    examples = with_studies(splits.train, splits.studies["train"])
    weights = StudyBatches(examples, torch.from_numpy(examples.labels).float(), 0, 0.5).weights()
    of_study = torch.from_numpy(examples.source.images.is_study[examples.rows])
    assert float(weights.mean()) == pytest.approx(1)
    assert float(weights[of_study].sum() / weights[~of_study].sum()) == pytest.approx(0.5)
    assert StudyBatches(splits.train, torch.zeros(len(splits.train), 1), 0, 0.5).weights() is None


def test_options_of_images_are_refused() -> None:
    base = {"model": {"backbone": "BiGRU(8)", "series": {"embeddings": "/e"}}}
    for change, message in [
        ({"augment": {"horizontal_flip": 0.5}}, "augment is for images"),
        ({"training": {"accumulation": 2}}, "training.accumulation is for models of images"),
        ({"task": "multi_class"}, "needs multi_label"),
        ({"model": {"backbone": "BiGRU(8)"}}, "give series.embeddings"),
        ({"model": {"backbone": "resnet18", "series": {"embeddings": "/e"}}}, "series is for BiGRU"),
        ({"model": {**base["model"], "side_px": 64}}, "side_px is for models of images"),
    ]:
        with pytest.raises(ValueError, match=message):
            TrialConfig.model_validate({**base, **change})
