"""The record of an evaluation on other images, and calibrating anew."""

import json
from pathlib import Path

import numpy as np
import pytest

from hemo.errors import SourceError
from hemo.stats.calibration import LabelledLogits
from hemo.trials.evaluation import (
    evaluation_folder,
    read_evaluated_images,
    read_evaluation,
    read_evaluations,
    recalibrate,
)
from tests.evaluations import write_made_evaluation


def test_an_evaluation_comes_back_as_it_was(tmp_path):
    record = write_made_evaluation(tmp_path, subgroups={"sex": ["f", "m"] * 20})
    assert read_evaluations(str(tmp_path)) == [record]
    table = read_evaluated_images(str(tmp_path), record)
    assert (table.num_rows, table["image_id"][0].as_py(), table["subgroup_sex"][1].as_py()) == (40, "i00", "m")


def test_a_folder_without_evaluations_has_none_and_an_unfinished_one_does_not_count(tmp_path):
    Path(tmp_path, "evaluations", "0123456789abcdef").mkdir(parents=True)
    assert read_evaluations(str(tmp_path)) == []


def test_damage_is_named(tmp_path):
    record = write_made_evaluation(tmp_path)
    folder = Path(evaluation_folder(str(tmp_path), record.digest))
    (folder / "predictions.parquet").write_bytes(b"PAR1")
    with pytest.raises(
        SourceError, match=r"predictions\.parquet is missing or damaged; remove its folder and run `hemo"
    ):
        read_evaluated_images(str(tmp_path), record)
    content = json.loads((folder / "evaluation.json").read_text())
    (folder / "evaluation.json").write_text(json.dumps({**content, "schema_version": 99}))
    with pytest.raises(SourceError, match="is no evaluation of schema version 1"):
        read_evaluation(str(folder))
    (folder / "evaluation.json").write_text(json.dumps({**content, "digest": 3}))
    errors: list[SourceError] = []
    assert read_evaluations(str(tmp_path), errors.append) == []
    assert "evaluation.json is damaged (digest: " in str(errors[0])


def test_platt_moves_probabilities_to_the_prevalence_there_and_the_threshold_with_them():
    """Logits are right but for a shift of 3: sigmoid(x - 3). 400 images of 200 patients."""
    generator = np.random.default_rng(0)
    logits = generator.normal(2, 2, (400, 1))
    labels = (generator.random((400, 1)) < 1 / (1 + np.exp(3 - logits))).astype(np.uint8)
    found = LabelledLogits(logits, labels, np.arange(400) // 2, exclusive=False)
    calibration, (threshold,) = recalibrate("platt", found, ["any"], "balanced_accuracy")
    assert (calibration.method, calibration.patients) == ("platt", 200)
    assert calibration.slopes[0] == pytest.approx(1, abs=0.15)
    assert calibration.intercepts[0] == pytest.approx(-3, abs=0.4)
    assert 0.1 < threshold < 0.7


def test_too_few_patients_leave_the_checkpoints_probabilities_and_exclusive_classes_have_no_threshold():
    few = LabelledLogits(np.array([[1.0], [-1.0]]), np.array([[1], [0]]), np.array([0, 1]), exclusive=False)
    calibration, thresholds = recalibrate("platt", few, ["any"], "balanced_accuracy")
    assert (calibration.method, len(thresholds)) == ("none", 1)
    assert "2 patients" in calibration.reason
    logits, labels = np.tile(np.eye(3) * 4, (10, 1)), np.tile(np.eye(3, dtype=np.uint8), (10, 1))
    exclusive = LabelledLogits(logits, labels, np.arange(30), exclusive=True)
    assert recalibrate("platt", exclusive, ["a", "b", "c"], "balanced_accuracy")[1] == ()
