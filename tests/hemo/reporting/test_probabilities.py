"""Tables of probabilities on test: before and after calibration, operating points, net benefit."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from hemo.config.report import ReportConfig
from hemo.errors import ConfigError
from hemo.reporting.build import write_report
from hemo.reporting.comparison import compare_trials
from hemo.reporting.probabilities import (
    DecisionSettings,
    calibration_table,
    describe_calibration,
    net_benefit_table,
    operating_point_table,
    probability_tables,
    reliability_table,
)
from hemo.stats.calibration import Calibration, SampledClass
from hemo.trials.record import PREDICTION_SCHEMA, read_records, write_record

HALVED = Calibration("temperature", "", (0.5,), (0.0,), images=40, patients=40)
FOUR_TO_ONE, SIXTEEN_TO_ONE = float(np.log(4)), float(np.log(16))


@pytest.fixture
def compare(make_record, tmp_path):
    """Forty patients: 20 images with odds of 16 that are positive 16 times, and 20 with 1/16 that are 4 times.

    Halved log odds are right: 4 to 1 and 1 to 4. The threshold is 0.5.
    """
    labels = [1] * 16 + [0] * 4 + [1] * 4 + [0] * 16
    logits = [SIXTEEN_TO_ONE] * 20 + [-SIXTEEN_TO_ONE] * 20

    def make(calibration: Calibration = HALVED, decisions: DecisionSettings | None = None, **fields: object):
        record = make_record({"name": "one"}, calibration=calibration, **fields)
        columns = {
            "split": ["test"] * 40 + ["val"] * 40,
            "image_id": [f"i{row}" for row in range(80)],
            "patient": [f"p{row}" for row in range(80)],
            "pixel_format": ["u12"] * 80,
            "labels": [[label] for label in labels * 2],
            "logits": [[logit] for logit in logits * 2],
        }
        write_record(str(tmp_path / "records"), record, pa.table(columns, schema=PREDICTION_SCHEMA))
        folder = str(tmp_path / "records")
        return compare_trials(read_records(folder), folder, samples=10, seed=0, decisions=decisions)[0]

    return make


def test_metrics_before_and_after_calibration(compare):
    """As trained 16/17 where 0.8 occurs: 0.1412 off in both bins; Brier 0.1412^2 - 0.3^2 + 0.25. Calibrated: 0.16."""
    (found,) = compare().probabilities
    trained, calibrated = calibration_table([found]).rows
    assert trained[:2] == ("one", "as trained")
    assert trained[2].startswith("+0.00 (")  # too high above, too low below
    assert trained[3].startswith("0.50 (")
    assert trained[4:9] == ("0.14", "0.1799", "0.0199", "0.0900", "0.2500")
    assert calibrated[1] == "calibrated"
    assert calibrated[3].startswith("1.00 (")
    assert calibrated[4:9] == ("0.00", "0.1600", "0.0000", "0.0900", "0.2500")


def test_bins_as_trained_and_calibrated(compare):
    """Two bins of 20 images: 1/17 and 16/17 as trained, 1/5 and 4/5 calibrated; 4 and 16 of them are positive."""
    rows = reliability_table(compare().probabilities[0]).rows
    assert [row[:3] for row in rows] == [
        ("as trained", "20", "0.0588"),
        ("as trained", "20", "0.9412"),
        ("calibrated", "20", "0.200"),
        ("calibrated", "20", "0.800"),
    ]
    assert [row[3][:6] for row in rows] == ["0.20 (", "0.80 ("] * 2


def test_without_calibration_there_is_one_row_and_the_reason(compare):
    (found,) = compare(Calibration(reason="not configured")).probabilities
    table = calibration_table([found])
    assert [row[1] for row in table.rows] == ["as trained"]
    assert "one: none: not configured" in table.notes[-1]


def test_why_a_class_was_not_calibrated_is_stated_once(compare):
    reason = "no Platt scaling of rare (6 patients, at least 10 are needed)"
    found = compare(Calibration("platt", reason, (0.5,), (-1.25,), None, 40, 40)).probabilities
    expected = "Calibration, fitted on validation: one: Platt: slope 0.50, intercept -1.25"
    assert calibration_table(found).notes[-1] == f"{expected} ({reason})."
    rare = replace(found[0], name="rare", calibration="Platt: slope 1.00, intercept +0.00")
    several = f"any: Platt: slope 0.50, intercept -1.25; rare: Platt: slope 1.00, intercept +0.00 ({reason})."
    assert calibration_table([*found, rare]).notes[-1] == f"Calibration, fitted on validation: {several}"
    (without,) = compare(Calibration(reason="not configured")).probabilities
    assert calibration_table([without]).notes[-1].endswith(": one: none: not configured.")


def test_operating_points_at_the_prevalence_of_test_and_another(compare):
    """Sensitivity and specificity are 0.8 at 0.5. PPV at 1/2: 0.8; at 0.1: 0.08 / (0.08 + 0.18) = 0.31."""
    for settings, ppv, npv in ((None, "0.80 (", "0.80 ("), (DecisionSettings(prevalence=0.1), "0.31 (", "0.973 (")):
        table = operating_point_table(compare(decisions=settings).probabilities)
        row = table.rows[0]
        assert row[:3] == ("one", "balanced_accuracy", "0.500")
        assert row[3].startswith("0.80 (")
        assert row[4].startswith("0.80 (")
        assert row[5].startswith(ppv)
        assert row[6].startswith(npv)


def test_an_operating_point_that_the_record_lacks_is_chosen_on_validation(compare):
    """To find 90 % all images are predicted: the threshold is half the lowest probability, 0.2."""
    settings = DecisionSettings(operating_points=("sensitivity=0.9",))
    (_, added) = operating_point_table(
        compare(decisions=settings, operating_points={"balanced_accuracy": (0.5,)}).probabilities
    ).rows
    assert added[1:4] == ("sensitivity=0.9", "0.100", "1.000 (0.820-1.000)")


def test_the_threshold_of_the_record_is_taken(compare):
    found = compare(operating_points={"balanced_accuracy": (0.5,), "sensitivity=0.95": (0.9,)})
    rows = {row[1]: row for row in operating_point_table(found.probabilities).rows}
    assert rows["sensitivity=0.95"][2:4] == ("0.900", "0.000 (0.000-0.180)")
    assert rows["sensitivity=0.95"][5] == "-"  # nothing is predicted


@pytest.mark.parametrize(
    ("threshold", "text"),
    [(0.5, "0.500"), (0.0123456, "0.0123"), (0.9, "0.900"), (0.9876, "0.9876"), (0.99998, "0.9999800"), (1, "1.000")],
)
def test_a_threshold_has_three_digits_that_are_not_0_or_9(compare, threshold, text):
    found = compare(thresholds=(threshold,))
    assert operating_point_table(found.probabilities).rows[0][2] == text


def test_net_benefit_of_calibrated_probabilities(compare):
    """Above 0.5: 0.5 x 0.8 - 0.5 x 0.2 = 0.3; above 0.1 all are: 0.5 - 0.5 / 9 = 0.444, as acting on all."""
    rows = {row[1]: row for row in net_benefit_table(compare().probabilities).rows}
    assert rows["0.5"][2].startswith("0.300 (")
    assert rows["0.5"][3:] == ("0.000", "the model")
    assert rows["0.1"][2].startswith("0.444 (")
    assert rows["0.1"][3:] == ("0.444", "acting on all")
    assert rows["0.7"][3] == "-0.667"


def test_nothing_evaluated_has_no_tables():
    assert probability_tables([], 0) == []


def test_tables_say_that_they_have_not_all_cells(make_record, tmp_path):
    """Of nine cells six are in the tables of probabilities."""
    for seed_of_width in range(9):
        make_record({"name": f"w{seed_of_width}", "model.dense_width": 1 + seed_of_width}, quality=0.9, many=True)
    folder = str(tmp_path / "records")
    (found,) = compare_trials(read_records(folder), folder, samples=10, seed=0)
    note = "Of 6 of 9 cells, the best ones on validation; the page draws those of the others."
    assert {table.notes[0] for table in probability_tables(found.probabilities, found.tested_cells)} == {note}
    assert note not in probability_tables(found.probabilities, 6)[0].notes


@pytest.mark.parametrize(
    ("calibration", "text"),
    [
        (Calibration(), "none"),
        (Calibration(reason="not configured"), "none: not configured"),
        (HALVED, "temperature 2.00"),
        (
            Calibration("prior_and_temperature", "", (0.5,), (0.0,), SampledClass(0, 0.5, 0.14, True), 40, 40),
            "temperature 2.00, prior 50.0% to 14.0%",
        ),
        (Calibration("prior", "", (1.0,), (0.0,), SampledClass(0, 0.5, 0.14, True)), "prior 50.0% to 14.0%"),
        (Calibration("prior", "", (1.0,), (-1.25,)), "log odds -1.25 for weights or sampling"),
        (Calibration("platt", "", (0.5,), (-1.25,), None, 40, 40), "Platt: slope 0.50, intercept -1.25"),
    ],
)
def test_what_was_done_in_words(make_record, calibration, text):
    assert describe_calibration(make_record({}, calibration=calibration), 0) == text


def test_prevalence_by_class_or_of_the_target():
    settings = DecisionSettings(prevalence={"any": 0.2})
    assert [settings.prevalence_of(name, 0.5, binary=False) for name in ("any", "subdural")] == [0.2, 0.5]
    assert DecisionSettings(prevalence=0.2).prevalence_of("any", 0.5, binary=True) == 0.2
    assert DecisionSettings(prevalence=0.2).prevalence_of("any", 0.5, binary=False) == 0.5
    assert DecisionSettings().prevalence_of("any", 0.5, binary=True) == 0.5


def test_a_prevalence_of_no_class_is_refused(make_record, tmp_path):
    make_record({})
    config = ReportConfig(records=str(tmp_path / "records"), out=str(tmp_path / "out"), prevalence={"fracture": 0.1})
    with pytest.raises(ConfigError, match="prevalence: 'fracture' is no class of these trials; they have any"):
        write_report(config)
