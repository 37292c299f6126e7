"""Embeddings of a training set, joined with its slices and checked."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hemo.config.trial import SeriesConfig
from hemo.curation.card import read_card
from hemo.errors import ConfigError, SourceError
from hemo.training.data.read_studies import read_studies, require_embeddings
from tests.series_sets import SLICES, SeriesSet, write_embeddings

Maker = Callable[..., SeriesSet]


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
