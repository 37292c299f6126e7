"""The record of an evaluation on other images, and calibrating anew."""

import json
from pathlib import Path

import numpy as np
import pytest

from hemo.errors import SourceError
from hemo.stats.calibration import Calibration, LabelledLogits, SampledClass, calibrated_logits, to_probabilities
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
    with pytest.raises(SourceError, match="is no evaluation of schema version 2"):
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
    calibration, (threshold,) = recalibrate("platt", found, ["any"], "balanced_accuracy", Calibration())
    assert (calibration.method, calibration.patients) == ("platt", 200)
    assert calibration.slopes[0] == pytest.approx(1, abs=0.15)
    assert calibration.intercepts[0] == pytest.approx(-3, abs=0.4)
    assert 0.1 < threshold < 0.7


ONE_TO_ONE = SampledClass(column=0, train_prevalence=0.5, population_prevalence=0.05, implied=True)

AT_HOME = [
    Calibration(),
    Calibration("platt", "", (0.5,), (-2.9,), None, 100, 50),
    Calibration("prior_and_temperature", "", (0.5,), (0.0,), ONE_TO_ONE, 100, 50),
]


@pytest.mark.parametrize("choice", ["platt", "temperature"])
@pytest.mark.parametrize("own", AT_HOME)
def test_too_few_patients_leave_the_checkpoints_probabilities(choice, own):
    few = LabelledLogits(np.linspace(-3, 3, 8)[:, None], np.arange(8)[:, None] // 4, np.arange(8), exclusive=False)
    calibration, thresholds = recalibrate(choice, few, ["any"], "balanced_accuracy", own)
    found, as_is = (calibrated_logits(few.logits, each, exclusive=False) for each in (calibration, own))
    np.testing.assert_array_equal(found, as_is)
    assert (calibration.method, len(thresholds)) == (own.method, 1)
    assert "8 patients, at least 10 are needed" in calibration.reason


def test_a_class_of_too_few_patients_keeps_its_line():
    """Both have the line of the checkpoint, 1.5 x - 2; Platt fits the first of them."""
    generator = np.random.default_rng(0)
    labels = np.stack([np.arange(60) % 3 == 0, np.arange(60) < 3], axis=1).astype(np.uint8)
    found = LabelledLogits(2.0 * labels + generator.normal(size=(60, 2)), labels, np.arange(60), exclusive=False)
    own = Calibration("platt", "at home", (1.5, 1.5), (-2.0, -2.0), None, 100, 50)
    calibration, _ = recalibrate("platt", found, ["a", "b"], "balanced_accuracy", own)
    assert (calibration.slopes[1], calibration.intercepts[1], calibration.patients) == (1.5, -2.0, 60)
    assert calibration.slopes[0] != 1.5
    assert calibration.reason == "no Platt scaling of b (3 patients with the finding, at least 5 are needed)"


def test_a_class_of_too_few_patients_keeps_its_line_where_the_prior_of_another_is_contradicted():
    """Half of the images have a, its line of -2.9 is that of 5 %: Platt takes the place of a temperature."""
    one = of_prevalence(0.5)
    labels = np.concatenate([one.labels, np.zeros_like(one.labels)], axis=1)
    found = LabelledLogits(np.tile(one.logits, 2), labels, one.patients, exclusive=False)
    own = Calibration("platt", "", (0.5, 0.5), (-2.9, -4.0), None, 100, 50)
    calibration, _ = recalibrate("temperature", found, ["a", "b"], "balanced_accuracy", own)
    assert (calibration.method, calibration.slopes[1], calibration.intercepts[1]) == ("platt", 0.5, -4.0)
    assert calibration.intercepts[0] == pytest.approx(0, abs=0.2)
    assert "validation contradicts the prior correction" in calibration.reason


def of_prevalence(prevalence):
    """Return 4,000 images whose logits are those of a train of 1 : 1, twice too large."""
    generator = np.random.default_rng(0)
    labels = (generator.random(4000) < prevalence).astype(np.uint8)
    ratio = generator.normal(np.where(labels == 1, 1.5, -1.5), np.sqrt(3))
    return LabelledLogits(2 * ratio[:, None], labels[:, None], np.arange(4000), exclusive=False)


@pytest.mark.parametrize("own", AT_HOME[1:])
def test_a_temperature_keeps_the_prior_correction_of_the_checkpoint(own):
    found = of_prevalence(0.05)
    calibration, _ = recalibrate("temperature", found, ["any"], "balanced_accuracy", own)
    assert (calibration.method, calibration.sampled) == ("prior_and_temperature", own.sampled)
    assert calibration.intercepts == own.intercepts
    logits = calibrated_logits(found.logits, calibration, exclusive=False)
    assert to_probabilities(logits, exclusive=False).mean() == pytest.approx(found.labels.mean(), rel=0.1)
    assert to_probabilities(found.logits, exclusive=False).mean() > 0.15


def test_exclusive_classes_keep_their_shifts_and_have_no_threshold():
    """Of a train of equal parts: 8, 1 and 1 of ten here are ln 8 more of the first."""
    labels = np.eye(3, dtype=np.uint8)[np.repeat([0, 1, 2], [240, 30, 30])]
    logits = 2 * labels + np.random.default_rng(0).normal(0, 1, (300, 3))
    exclusive = LabelledLogits(logits, labels, np.arange(300), exclusive=True)
    own = Calibration("prior", "", (1.0,) * 3, (float(np.log(8)), 0.0, 0.0))
    calibration, thresholds = recalibrate("platt", exclusive, ["a", "b", "c"], "balanced_accuracy", own)
    assert (calibration.method, calibration.intercepts) == ("prior_and_temperature", own.intercepts)
    assert thresholds == ()
