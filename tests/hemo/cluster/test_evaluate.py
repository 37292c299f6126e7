"""`evaluate_checkpoint` end to end on small slices, by Ray."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import hemo
from hemo.cluster import evaluate
from hemo.cluster.convert.job import convert_corpus
from hemo.cluster.curate import curate_corpus
from hemo.cluster.evaluate import evaluate_checkpoint
from hemo.config.convert import ConvertConfig
from hemo.config.curate import CurateConfig
from hemo.config.inference import EvaluateConfig
from hemo.config.trial import ModelConfig
from hemo.curation.card import read_card
from hemo.errors import ConfigError, LabelError, OutputError
from hemo.models.checkpoint import CheckpointCard, write_checkpoint
from hemo.models.classifier import build_model
from hemo.output_lock import output_lock
from hemo.trials.evaluation import EVALUATED, RECALIBRATED_ON, read_evaluation
from hemo.trials.predictions import matrix
from tests.dicom_files import head_file

pytestmark = pytest.mark.usefixtures("ray_cluster")

SIDE_PX = 16
COUNT = 48


@pytest.fixture(scope="module")
def place(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Slices of 24 patients with a study each, on two scanners; shards, a training set, labels, and a checkpoint."""
    folder = tmp_path_factory.mktemp("evaluate")
    (folder / "corpus").mkdir()
    for number in range(COUNT):
        made = {"RescaleIntercept": str(-1024 + number), "PatientID": f"ID_p{number // 2}"}
        made |= {"StudyInstanceUID": f"ID_s{number // 2}", "Manufacturer": "A" if number < 20 else "B"}
        (folder / "corpus" / f"ID_{number:02d}.dcm").write_bytes(head_file(**made))
    rows = [f"ID_{number:02d},{number % 2}" for number in range(COUNT)]
    (folder / "labels.csv").write_text("\n".join(["Image,any", *rows]))
    (folder / "people.csv").write_text(
        "\n".join(["patient,sex", *(f"ID_p{n},{'fm'[n % 2]}" for n in range(COUNT // 2))])
    )
    shards = convert_corpus(
        ConvertConfig(source=str(folder / "corpus"), corpus="rsna", out=str(folder / "shards"), side_px=SIDE_PX)
    )
    labels = str(folder / "labels.csv")
    curate_corpus(CurateConfig(shards=shards, labels=labels, out=str(folder / "set"), part_rows=12, seed=1))
    write_test_checkpoint(folder / "checkpoint", read_card(str(folder / "set")).image)
    return folder


def write_test_checkpoint(
    folder: Path, image: dict[str, Any], classes: tuple[str, ...] = ("any",), seed: int = 0
) -> None:
    torch.manual_seed(seed)
    channels = ("brain", "subdural", "soft")
    card = CheckpointCard(
        model=ModelConfig(backbone="test_resnet"),
        task="binary",
        classes=classes,
        channels=channels,
        image=image,
        height_px=SIDE_PX,
        width_px=SIDE_PX,
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        thresholds=(0.5,),
        training_set="feedface",
    )
    write_checkpoint(str(folder), build_model(card.model, channels=3, sides_px=(SIDE_PX, SIDE_PX), classes=1), card)


def config_of(place: Path, out: Path, **changes: Any) -> EvaluateConfig:
    """Return the evaluation of the whole training set, changed."""
    given = {"checkpoint": str(place / "checkpoint"), "training_set": str(place / "set"), "from_split": "all"}
    return EvaluateConfig.model_validate({**given, "out": str(out), "bootstrap_samples": 50, **changes})


def raw(place: Path) -> dict[str, Any]:
    return {
        "training_set": "",
        "from_split": "test",
        "source": str(place / "corpus"),
        "corpus": "rsna",
        "labels": str(place / "labels.csv"),
    }


def test_a_training_set_raw_files_and_shards_give_the_same(place, tmp_path):
    changes = ({}, raw(place), {**raw(place), "source": str(place / "shards"), "corpus": "shards"})
    folders = [evaluate_checkpoint(config_of(place, tmp_path, **each)) for each in changes]
    first, *others = [pq.read_table(Path(folder, "predictions.parquet")).sort_by("image_id") for folder in folders]
    assert first["image_id"].to_pylist() == [f"ID_{number:02d}" for number in range(COUNT)]
    assert matrix(first, "labels")[:, 0].tolist() == [number % 2 for number in range(COUNT)]
    assert len({round(float(value), 5) for value in matrix(first, "logits")[:, 0]}) > 10
    for other in others:
        np.testing.assert_allclose(matrix(other, "logits"), matrix(first, "logits"), rtol=1e-4, atol=1e-6)
        for name in ("image_id", "patient", "study", "pixel_format", "flags", "part", "subgroup_scanner"):
            assert other[name].to_pylist() == first[name].to_pylist()
    assert first["subgroup_scanner"].to_pylist() == ["A"] * 20 + ["B"] * 28
    assert [read_evaluation(folder).data.source for folder in folders] == ["training_set", "rsna", "shards"]


def test_the_record_states_checkpoint_images_and_recalibration(place, tmp_path):
    folder = evaluate_checkpoint(config_of(place, tmp_path, recalibration_fraction=0.5, seed=2, name="there"))
    record, table = read_evaluation(folder), pq.read_table(Path(folder, "predictions.parquet"))
    assert (record.data.name, record.data.images, record.data.patients, record.data.positives) == (
        "there",
        48,
        24,
        (24,),
    )
    assert record.data.splits == ("train", "val", "test")
    assert (record.checkpoint.classes, record.checkpoint.training_set, record.checkpoint.record) == (
        ("any",),
        "feedface",
        "",
    )
    patients = {part: set() for part in (EVALUATED, RECALIBRATED_ON)}
    for row in table.select(["part", "patient"]).to_pylist():
        patients[row["part"]].add(row["patient"])
    assert (len(patients[EVALUATED]), len(patients[RECALIBRATED_ON])) == (12, 12)
    assert patients[EVALUATED].isdisjoint(patients[RECALIBRATED_ON])
    assert (record.recalibration.images, record.recalibration.patients) == (24, 12)
    assert len(record.recalibration.thresholds) == 1


def test_it_is_not_done_twice_and_another_split_or_model_is_another_evaluation(place, tmp_path, capsys, monkeypatch):
    folder = evaluate_checkpoint(config_of(place, tmp_path))
    capsys.readouterr()
    monkeypatch.setattr("hemo.cluster.evaluate.predict_images", None)
    assert evaluate_checkpoint(config_of(place, tmp_path)) == folder
    assert f"evaluate: {folder} is complete" in capsys.readouterr().err
    write_test_checkpoint(tmp_path / "other", read_card(str(place / "set")).image, seed=1)
    for changes in ({"from_split": "test"}, {"checkpoint": str(tmp_path / "other")}):
        with pytest.raises(TypeError):  # it would predict
            evaluate_checkpoint(config_of(place, tmp_path, **changes))
    with output_lock(folder), pytest.raises(OutputError, match=r"another run is writing in .*/evaluations/\w{16} "):
        evaluate_checkpoint(config_of(place, tmp_path))


def test_wrong_tables_are_refused_before_an_image_is_predicted(place, tmp_path, monkeypatch):
    monkeypatch.setattr("hemo.cluster.evaluate.predict_images", None)
    with pytest.raises(ConfigError, match=r"subgroups: 'sex' is none of pixel_format, .*give a table that has it"):
        evaluate_checkpoint(config_of(place, tmp_path, subgroups=("sex",)))
    table = {"subgroup_table": str(place / "people.csv"), "subgroup_key": "patient"}
    with pytest.raises(LabelError, match=r"subgroup_table: .*people\.csv has no column 'age'"):
        evaluate_checkpoint(config_of(place, tmp_path, subgroups=("age",), **table))
    write_test_checkpoint(tmp_path / "named", read_card(str(place / "set")).image, ("hemorrhage",))
    for changes in ({}, raw(place)):
        with pytest.raises(
            LabelError, match=r"no class 'hemorrhage'; they have any: .*--class_names '{hemorrhage: any}'"
        ):
            evaluate_checkpoint(config_of(place, tmp_path, **changes, checkpoint=str(tmp_path / "named")))


def test_groups_of_a_table_of_patients(place, tmp_path):
    groups = {"subgroups": ("sex",), "subgroup_table": str(place / "people.csv"), "subgroup_key": "patient"}
    folder = evaluate_checkpoint(config_of(place, tmp_path, **groups))
    table = pq.read_table(Path(folder, "predictions.parquet"))
    assert {row["patient"]: row["subgroup_sex"] for row in table.to_pylist()}["ID_p3"] == "m"


def test_classes_may_have_other_names_there(place, tmp_path):
    write_test_checkpoint(tmp_path / "named", read_card(str(place / "set")).image, ("hemorrhage",))
    named = {"checkpoint": str(tmp_path / "named")}
    folder = evaluate_checkpoint(config_of(place, tmp_path, **named, class_names={"hemorrhage": "any"}))
    assert read_evaluation(folder).data.positives == (24,)


def test_other_images_than_the_checkpoints_are_refused(place, tmp_path):
    image = {**read_card(str(place / "set")).image, "side_px": 32}
    write_test_checkpoint(tmp_path / "other", image)
    other = {"checkpoint": str(tmp_path / "other")}
    with pytest.raises(ConfigError, match=r"training_set: .*side_px 16 in the source, 32 in the checkpoint"):
        evaluate_checkpoint(config_of(place, tmp_path, **other))
    with pytest.raises(ConfigError, match="was trained on rsna images"):
        evaluate_checkpoint(config_of(place, tmp_path, **{**raw(place), "corpus": "image_folder"}))


def test_a_sequence_model_is_refused_before_a_table_is_read(place, tmp_path, monkeypatch):
    write_test_checkpoint(tmp_path / "series", read_card(str(place / "set")).image)
    card = json.loads((tmp_path / "series/checkpoint.json").read_text())
    card["model"] = {"backbone": "BiGRU(8)", "series": {"embeddings": "e"}}
    card["embedded_by"] = {"dimension": 8, "inputs": {}}
    (tmp_path / "series/checkpoint.json").write_text(json.dumps(card))
    monkeypatch.setattr(evaluate, "_labelled_images", None)
    with pytest.raises(ConfigError, match=r"is of sequence model BiGRU\(8\): it takes embeddings, not images"):
        evaluate_checkpoint(config_of(place, tmp_path, checkpoint=str(tmp_path / "series")))


def test_from_a_checkpoint_to_a_report(place, tmp_path):
    evaluation = hemo.evaluate.run(config_of(place, tmp_path / "records", name="elsewhere", recalibration_fraction=0.4))
    assert evaluation.metrics.index.tolist() == ["as is", "as is, the others", "recalibrated, the others"]
    assert evaluation.metrics.loc["as is", "images"] == COUNT
    assert set(evaluation.predictions["part"]) == {EVALUATED, RECALIBRATED_ON}
    assert "Evaluated elsewhere: test_resnet on elsewhere" in evaluation.text
    assert "<table" in evaluation._repr_html_()
    report = hemo.report(records=str(tmp_path / "records"), out=str(tmp_path / "report"))
    assert "## Evaluated elsewhere: test_resnet on elsewhere" in report.text
    page = (tmp_path / "report" / "index.html").read_text()
    assert "test_resnet on elsewhere" in page[page.index("<h2>Evaluated elsewhere</h2>") :]
    assert (tmp_path / "report" / "evaluations.csv").read_text().count("\n") == 4
