"""Predictions of a sequence model on embeddings."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch

from hemo.cluster.predict import predict_corpus
from hemo.config.inference import PredictConfig
from hemo.errors import ConfigError, OutputError, SourceError
from hemo.inference.sequence import predict_studies, support
from hemo.models.checkpoint import load_sequence_checkpoint, write_checkpoint
from hemo.models.sequence import STUDY
from hemo.shards.schema import ID_COLUMNS
from hemo.trials.record import STUDY_PREDICTIONS, read_predictions
from tests.hemo.inference.test_predict import CARD, card
from tests.hemo.models.test_sequence import TWO_STUDIES, _model
from tests.series_sets import SLICES, SeriesSet
from tests.trial_runs import run_to_record

Maker = Callable[..., SeriesSet]


@pytest.mark.parametrize("study", ["attention", "noisy_or"])
def test_support_is_what_the_study_loses_without_a_slice(study: str) -> None:
    model = _model(study=study)
    with torch.no_grad():
        slices, studies, weights = model.logits(TWO_STUDIES)
        found = support(model, slices, studies, weights, TWO_STUDIES[:, STUDY].long())
    if study == "noisy_or":
        without = 1 - (1 - slices[[0, 2]].sigmoid()).prod(dim=0)  # of the first study, without its second slice
        expected = studies[0] - torch.log(without / (1 - without))
    else:
        mean = (weights[[0, 2]] * slices[[0, 2]]).sum(dim=0) / weights[[0, 2]].sum(dim=0)
        expected = studies[0] - mean  # scale 1, shift 0
    torch.testing.assert_close(found[1], expected)


def _trained(made: SeriesSet, out: Path, **series: object) -> str:
    return run_to_record(made.trial(epochs=1, **series), made.training_set, out).digest


def _with_ids(made: SeriesSet, nowhere: str = "") -> None:
    """Add to the embeddings the ids that `embed` writes; one image has no position."""
    parts = [
        pq.read_table(part) for split in ("train", "val", "test") for part in Path(made.training_set, split).iterdir()
    ]
    ids = pa.concat_tables(parts).select(ID_COLUMNS)
    for part in Path(made.embeddings, "embeddings").iterdir():
        table = pq.read_table(part)
        own = ids.take(pc.index_in(table["image_id"], value_set=ids["image_id"]))
        position = pc.if_else(pc.equal(own["image_id"], nowhere), pa.scalar(None, pa.float32()), own["position_mm"])
        own = own.set_column(own.schema.get_field_index("position_mm"), "position_mm", position)
        pq.write_table(own.append_column("embedding", table["embedding"]), part)


def test_slices_and_studies_have_the_recorded_probabilities(make_series_set: Maker, tmp_path: Path) -> None:
    made = make_series_set()
    digest = _trained(made, tmp_path)
    _with_ids(made)
    config = PredictConfig(source=made.embeddings, checkpoint=f"{tmp_path}/{digest}", out=str(tmp_path / "out"))
    folder = Path(predict_corpus(config))
    slices, studies = (pq.read_table(folder / f"{name}.parquet") for name in ("predictions", "studies"))
    assert (len(slices), len(studies)) == (48 * SLICES, 48)
    assert slices.column_names[-3:] == ["probability_any", "predicted_any", "support_any"]
    assert studies.column_names == ["study", "patient", "images", "max_any", "noisy_or_any", "probability_any"]
    for name, table, key in [("predictions.parquet", slices, "image_id"), (STUDY_PREDICTIONS, studies, "study")]:
        stored = read_predictions(str(tmp_path), digest, name)
        places = pc.index_in(stored["image_id"], value_set=table[key])
        expected = 1 / (1 + np.exp(-np.array(stored["logits"].to_pylist())[:, 0]))
        np.testing.assert_allclose(table["probability_any"].take(places).to_numpy(), expected, atol=1e-5)
    first = slices.filter(pc.equal(slices["study"], "study-test-0"))
    assert first["position_mm"].to_pylist() == [-40, -35, -30, -25, -20, -15]
    assert predict_corpus(config) == str(folder)  # which is complete


def test_predictions_of_another_checkpoint_or_operating_point_are_refused(
    make_series_set: Maker, tmp_path: Path
) -> None:
    made = make_series_set()
    checkpoint = tmp_path / _trained(made, tmp_path) / "checkpoint"
    _with_ids(made)
    config = PredictConfig(source=made.embeddings, checkpoint=str(checkpoint), out=str(tmp_path / "out"))
    predict_corpus(config)
    with pytest.raises(OutputError, match="holds other predictions"):
        predict_corpus(config.model_copy(update={"operating_point": "sensitivity=0.95"}))
    model, card, _ = load_sequence_checkpoint(str(checkpoint))
    torch.nn.init.zeros_(next(model.parameters()))
    write_checkpoint(str(tmp_path / "other"), model, card)
    with pytest.raises(OutputError, match="holds other predictions"):
        predict_corpus(config.model_copy(update={"checkpoint": str(tmp_path / "other")}))


def test_studies_numbered_within_each_patient_are_apart() -> None:
    """P1 and a patient without id have the same slices in a study 1, P2 has others."""
    of_p1 = np.array([[1, 2, 3], [5, 1, 0]], np.float32)
    vectors = np.concatenate([of_p1, -of_p1, of_p1])
    ids = pa.table(
        {
            "image_id": [f"ID_{number}" for number in range(6)],
            "patient": ["P1", "P1", "P2", "P2", None, None],
            "study": ["1"] * 6,
            "series": ["1"] * 6,
            "position_mm": pa.array([0.0, 5.0] * 3, pa.float32()),
            "source_path": [f"{number}.dcm" for number in range(6)],
            "flags": pa.array([[]] * 6, pa.list_(pa.string())),
        }
    )
    slices, studies, _ = predict_studies(_model(), card(), ids, vectors, 4)
    assert sorted(slices["image_id"].to_pylist()) == ids["image_id"].to_pylist()
    assert studies.select(["study", "patient", "images"]).to_pylist() == [
        {"study": "1", "patient": "P1", "images": 2},
        {"study": "1", "patient": "P2", "images": 2},
        {"study": "1", "patient": None, "images": 2},
    ]
    first, second, third = studies["probability_any"].to_pylist()
    assert first == pytest.approx(third)
    assert first != pytest.approx(second)


def test_a_localizer_is_no_slice_of_a_study() -> None:
    """Without it the study is what it is with it: its row is a reject."""
    ids = pa.table(
        {
            **{name: ["P"] * 3 for name in ("patient", "study", "series")},
            "image_id": ["a", "b", "scout"],
            "position_mm": pa.array([0.0, 5.0, 2.5], pa.float32()),
            "source_path": ["a.dcm", "b.dcm", "scout.dcm"],
            "flags": [[], ["padded"], ["localizer"]],
        }
    )
    vectors = np.array([[1, 2, 3], [5, 1, 0], [9, -9, 9]], np.float32)
    slices, studies, rejects = predict_studies(_model(), card(), ids, vectors, 4)
    assert slices["image_id"].to_pylist() == ["a", "b"]
    assert [(each["source_path"], each["reason"], each["detail"]) for each in rejects.to_pylist()] == [
        ("scout.dcm", "no_slice", "a localizer or a capture")
    ]
    without = predict_studies(_model(), card(), ids.slice(0, 2), vectors[:2], 4)[1]
    assert studies.to_pylist() == without.to_pylist()


def test_slices_of_which_none_has_a_place_are_refused() -> None:
    names = [f"ID_{number}" for number in range(3)]
    text = {name: pa.array(names) for name in ("image_id", "patient", "series", "source_path")}
    nowhere = {"study": pa.nulls(3, pa.string()), "position_mm": pa.nulls(3, pa.float32())}
    nowhere["flags"] = pa.array([[]] * 3, pa.list_(pa.string()))
    counts = "0 no study and series, 3 no position_mm, 0 localizers and captures"
    message = rf"^none of 3 images has a place in a series \({counts}\); a sequence model"
    with pytest.raises(SourceError, match=message):
        predict_studies(_model(), CARD, pa.table({**text, **nowhere}), np.zeros((3, 4), np.float32), 4)


def test_a_slice_without_a_position_is_a_reject(make_series_set: Maker, tmp_path: Path) -> None:
    made = make_series_set()
    digest = _trained(made, tmp_path, labels="study")
    _with_ids(made, nowhere="test-003")
    config = PredictConfig(source=made.embeddings, checkpoint=f"{tmp_path}/{digest}", out=str(tmp_path / "out"))
    folder = Path(predict_corpus(config))
    rejects = pq.read_table(folder / "rejects.parquet").to_pylist()
    assert [(row["source_path"], row["reason"]) for row in rejects] == [("test-003.dcm", "no_position")]
    slices, studies = (pq.read_table(folder / f"{name}.parquet") for name in ("predictions", "studies"))
    assert len(slices) == 48 * SLICES - 1
    assert "predicted_any" not in slices.column_names  # the model learned from labels of studies
    assert "predicted_any" in studies.column_names
    images = dict(zip(studies["study"].to_pylist(), studies["images"].to_pylist(), strict=True))
    assert (images["study-test-0"], images["study-test-1"]) == (SLICES - 1, SLICES)


def test_another_encoder_and_options_of_images_are_refused(make_series_set: Maker, tmp_path: Path) -> None:
    made = make_series_set()
    digest = _trained(made, tmp_path)
    config = PredictConfig(source=made.embeddings, checkpoint=f"{tmp_path}/{digest}", out=str(tmp_path / "out"))
    with pytest.raises(ConfigError, match=r"BiGRU\(8\) reads embeddings"):
        predict_corpus(config.model_copy(update={"test_time_augmentation": "flip"}))
    card = Path(made.embeddings, "card.json")
    card.write_text(card.read_text().replace('"pooling": "gap"}', '"pooling": "gap", "backbone": "resnet18"}'))
    with pytest.raises(ConfigError, match=r"^source: .*embedded by another encoder.*backbone"):
        predict_corpus(config)


def test_embeddings_without_flags_are_refused(make_series_set: Maker, tmp_path: Path) -> None:
    """As an earlier version wrote them: nobody knows of the localizers among them."""
    made = make_series_set()
    digest = _trained(made, tmp_path)
    config = PredictConfig(source=made.embeddings, checkpoint=f"{tmp_path}/{digest}", out=str(tmp_path / "out"))
    with pytest.raises(SourceError, match=r"^source: .* has no flags.*run `hemo embed` again$"):
        predict_corpus(config)


def test_embeddings_without_the_probabilities_of_training_are_refused(make_series_set: Maker, tmp_path: Path) -> None:
    made = make_series_set(with_probabilities=True)
    card = Path(made.embeddings, "card.json")
    plain = card.read_text()
    card.write_text(plain.replace('"pooling": "gap"}', '"pooling": "gap", "probabilities": ["any"]}'))
    digest = _trained(made, tmp_path)
    _with_ids(made)
    config = PredictConfig(source=made.embeddings, checkpoint=f"{tmp_path}/{digest}", out=str(tmp_path / "out"))
    card.write_text(plain)
    with pytest.raises(ConfigError, match=r"embedded by another encoder.*probabilities"):
        predict_corpus(config)
