"""Slices of a training set in the order of their series, with embeddings and labels of studies."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from hemo.config.trial import SeriesConfig, TrialConfig
from hemo.curation.card import read_card
from hemo.errors import ConfigError, SourceError
from hemo.training.data.dataset import UNKNOWN, ImageSet, select_splits, with_studies
from hemo.training.data.studies import StudyBatches, read_studies, require_embeddings, studies_in_order
from hemo.training.distributed import Worker
from tests.series_sets import SLICES, SeriesSet, write_embeddings

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


def test_a_set_is_joined_with_its_embeddings_by_image(make_series_set: Maker) -> None:
    made = make_series_set()
    data = read_studies(made.training_set, SeriesConfig(embeddings=made.embeddings))
    assert len(data.train.labels) == 24 * (SLICES + 1)
    images = data.train.images
    assert images.position_mm[:SLICES].tolist() == [-40, -35, -30, -25, -20, -15]
    bright = (images.vectors[:, 0] > 0).reshape(24, SLICES)
    assert bright.sum() == 48
    assert bright[0].tolist() == [True, True, False, False, False, False]  # blood, in order of position
    labels = data.train.labels[~images.is_study, 0].reshape(24, SLICES)
    blood = labels.any(axis=1)
    assert blood.sum() == 12
    np.testing.assert_array_equal(labels[blood], bright[blood])
    np.testing.assert_array_equal(data.train.labels[images.is_study, 0], blood)


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


def test_images_without_a_vector_are_named(make_series_set: Maker, tmp_path: Path) -> None:
    made = make_series_set()
    write_embeddings(tmp_path / "few", ["train-000"], np.zeros((1, 2), np.float32))
    with pytest.raises(
        SourceError, match=r"no vector of 143 of 144 images of train \(train-001.*embed the training set"
    ):
        read_studies(made.training_set, SeriesConfig(embeddings=str(tmp_path / "few")))
    write_embeddings(tmp_path / "two", ["train-000", "train-000"], np.zeros((2, 2), np.float32))
    with pytest.raises(SourceError, match="several vectors of one image_id"):
        read_studies(made.training_set, SeriesConfig(embeddings=str(tmp_path / "two")))


@pytest.mark.parametrize(
    ("columns", "what"), [(("study", "series"), "study and series"), (("position_mm",), "position_mm")]
)
def test_slices_that_no_one_can_order_are_refused(make_series_set: Maker, columns: tuple[str, ...], what: str) -> None:
    made = make_series_set()
    part = Path(made.training_set, "val", "part-00001.parquet")
    table = pq.read_table(part)
    for name in columns:
        nothing = pa.nulls(len(table), table.schema.field(name).type)
        table = table.set_column(table.schema.get_field_index(name), name, nothing)
    pq.write_table(table, part, row_group_size=8, write_page_checksum=True)
    cure = r"by `hemo curate` with --drop_flags '\[localizer, secondary_capture\]'$"
    with pytest.raises(SourceError, match=f"val: 36 of 72 images have no {what}.*DICOM series.*{cure}"):
        read_studies(made.training_set, SeriesConfig(embeddings=made.embeddings))


def test_embeddings_and_sets_that_do_not_suit(make_series_set: Maker, tmp_path: Path) -> None:
    made = make_series_set()
    card = read_card(made.training_set)
    assert require_embeddings(SeriesConfig(embeddings=made.embeddings), card) == 4
    write_embeddings(tmp_path / "maps", ["a", "b"], np.zeros((2, 2), np.float32), pooling="flatten")
    with pytest.raises(ConfigError, match=r"whole feature maps.*--pooling gap"):
        require_embeddings(SeriesConfig(embeddings=str(tmp_path / "maps")), card)
    sampled = card.model_copy(update={"balanced_by": "any"})
    with pytest.raises(ConfigError, match=r"balanced by any.*curate without balance"):
        require_embeddings(SeriesConfig(embeddings=made.embeddings), sampled)


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
