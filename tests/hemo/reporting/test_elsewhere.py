"""An evaluation on other images: metrics by hand, subgroups, studies, recalibration, tables."""

import csv
import io
from pathlib import Path

import pytest

from hemo.config.report import ReportConfig
from hemo.reporting import elsewhere_tables
from hemo.reporting.build import evaluations_csv, write_report
from hemo.reporting.elsewhere import AS_IS, AS_IS_OTHERS, RECALIBRATED, read_elsewhere
from hemo.stats.calibration import Calibration, SampledClass
from hemo.trials.evaluation import EVALUATED, RECALIBRATED_ON, Recalibration
from tests.evaluations import LOGITS, write_made_evaluation


@pytest.fixture
def read(tmp_path):
    return lambda **made: read_elsewhere(str(tmp_path), write_made_evaluation(tmp_path, **made))


def test_metrics_as_is(read):
    """Two of twenty patients are wrong in both images: 18 of 20 right on each side; of the pairs 18 x 18 are won."""
    (part,) = read().parts
    found = part.evaluation
    assert (part.name, found.image_count, found.patient_count) == (AS_IS, 40, 20)
    assert (found.recall.value, found.specificity.value, found.accuracy.value) == (0.9, 0.9, 0.9)
    assert found.auroc.value == pytest.approx((18 * 18 + 2 * 18 * 2 * 0.5) / 400)
    assert found.auroc.ends[0] < found.auroc.value < found.auroc.ends[1]
    (rates,) = part.rates
    assert (rates.ppv.value, rates.npv.value) == (pytest.approx(0.9), pytest.approx(0.9))


def test_predictive_values_at_another_prevalence(read):
    """Sensitivity and specificity 0.9 at 0.1: 0.09 / (0.09 + 0.09)."""
    ((rates,),) = (part.rates for part in read(prevalence=0.1).parts)
    assert rates.ppv.value == pytest.approx(0.5)
    assert rates.npv.value == pytest.approx(0.81 / 0.82)


def test_calibration_and_thresholds_of_the_checkpoint_are_applied(read):
    """Logits of 2 become 5; a threshold of 0.99 is above its probability, 0.9933 is not."""
    scaled = {"calibration": Calibration("platt", "", (2.0,), (1.0,)), "thresholds": (0.9932,)}
    (part,) = read(checkpoint=scaled).parts
    assert part.scores.probabilities.max() == pytest.approx(1 / (1 + 2.718281828**-5))
    assert part.evaluation.recall.value == 0.9
    (part,) = read(checkpoint={**scaled, "thresholds": (0.9934,)}).parts
    assert part.evaluation.recall.value == 0


def test_the_others_are_evaluated_as_is_and_recalibrated(read):
    parts = [RECALIBRATED_ON] * 10 + [EVALUATED] * 30
    anew = Recalibration(
        fraction=0.25,
        seed=0,
        images=10,
        patients=5,
        calibration=Calibration("platt", "", (0.5,), (1.0,)),
        thresholds=(0.7,),
    )
    found = read(columns={"part": parts}, recalibration=anew)
    assert [(part.name, part.evaluation.image_count) for part in found.parts] == [
        *((AS_IS, 40), (AS_IS_OTHERS, 30), (RECALIBRATED, 30)),
    ]
    _, before, after = found.parts
    assert before.evaluation.auroc.value == after.evaluation.auroc.value
    assert after.scores.probabilities.max() == pytest.approx(1 / (1 + 2.718281828**-2))
    assert after.probabilities[0].metrics.brier != before.probabilities[0].metrics.brier
    text = dict(elsewhere_tables.heading(found))["Recalibration"]
    assert text == (
        "on 10 images of 5 patients (25%, seed 0): platt, any slope 0.50, intercept +1.00; thresholds anew: any 0.700"
    )


def test_thresholds_of_rare_classes_have_digits(read):
    found = read(checkpoint={"thresholds": (0.00042,)})
    assert dict(elsewhere_tables.heading(found))["Thresholds"] == "any 0.000420 (balanced_accuracy)"


def test_a_prior_that_recalibration_keeps_is_stated(read):
    kept = Calibration("prior_and_temperature", "", (0.5,), (0.0,), SampledClass(0, 0.5, 0.14, True), 10, 5)
    anew = Recalibration(fraction=0.25, seed=0, images=10, patients=5, calibration=kept, thresholds=(0.00042,))
    found = read(columns={"part": [RECALIBRATED_ON] * 10 + [EVALUATED] * 30}, recalibration=anew)
    assert dict(elsewhere_tables.heading(found))["Recalibration"] == (
        "on 10 images of 5 patients (25%, seed 0): prior_and_temperature, any slope 0.50, intercept +0.00, "
        "prior 50.0% to 14.0%; thresholds anew: any 0.000420"
    )


def test_subgroups_are_apart_and_the_largest_comes_first(read):
    """The wrong patients are women: 16 of 20 of their images are right, all of the men's."""
    found = read(subgroups={"sex": ["m"] * 16 + ["f"] * 24})
    groups = [
        (each.group, each.images, each.patients, each.recall.value, each.prevalence.fraction) for each in found.groups
    ]
    assert groups == [("f", 24, 12, pytest.approx(10 / 12), 0.5), ("m", 16, 8, 1.0, 0.5)]
    (table,) = [table for table in elsewhere_tables.tables(found) if table.caption.startswith("Subgroups")]
    assert table.rows[1][:5] == ("sex", "m", "16", "8", "50.0%")
    assert table.rows[1][6] == "1.00"  # of 8 patients: no interval


def test_a_study_is_positive_if_a_slice_is(read):
    """Studies of one patient have both labels: all are positive. Split by label half of them are, here of ten."""
    assert {each.auroc for each in read().studies} == {None}
    by_label = [f"s{row // 4}-{row % 2}" for row in range(40)]
    ten = [f"p{row // 4:02d}" for row in range(40)]
    highest, noisy_or = read(columns={"study": by_label, "patient": ten}).studies
    assert (highest.studies, highest.positives, noisy_or.recall) == (20, 10, None)
    assert (highest.recall.value, highest.specificity.value) == (0.9, 0.9)
    assert highest.auroc.value == noisy_or.auroc.value == pytest.approx((9 * 9 + 0.5 * (9 + 9)) / 100)
    assert read(columns={"study": [f"s{row}" for row in range(40)]}).studies == ()


def test_studies_numbered_within_each_patient_are_apart(read):
    """Study 0 of each patient has its positive image, study 1 its negative one twice: 20 studies each."""
    numbered = [str(row % 2) for row in range(40)] + ["1"] * 20
    negative = {"logits": [[-2.0]] * 20, "labels": [[0]] * 20, "patient": [f"p{row:02d}" for row in range(20)]}
    columns = {"study": numbered, "image_id": [f"i{row:02d}" for row in range(60)]}
    columns["patient"] = [f"p{row // 2:02d}" for row in range(40)] + negative["patient"]
    logits = [[logit] for logit in LOGITS] + negative["logits"]
    highest, _ = read(columns=columns, logits=logits, labels=[[1], [0]] * 20 + negative["labels"]).studies
    assert (highest.studies, highest.positives) == (40, 20)
    assert (highest.recall.value, highest.specificity.value) == (0.9, 0.9)


def test_studies_of_many_slices_are_ranked_by_noisy_or(read):
    """20 studies of 40 slices, at probability 0.5 with the class and 0.4 without: noisy-or of all rounds to 1."""
    logits = [[0.0]] * 400 + [[-0.4054651]] * 400
    rows = range(800)
    columns = {
        "image_id": [f"i{row:03d}" for row in rows],
        "patient": [f"p{row // 40:02d}" for row in rows],
        "study": [f"s{row // 40:02d}" for row in rows],
    }
    highest, noisy_or = read(columns=columns, logits=logits, labels=[[1]] * 400 + [[0]] * 400).studies
    assert (noisy_or.studies, noisy_or.positives, noisy_or.auroc.value) == (20, 10, 1.0)
    assert highest.auroc.value == 1.0


def test_localizers_and_captures_decide_no_study(read):
    """The scout of each study without the class has probability 1: it neither ranks nor counts, as in `predict`."""
    logits, labels = [[2.0], [1.0], [30.0]] * 10 + [[-2.0], [-1.0], [30.0]] * 10, [[1], [0], [0]] * 10 + [[0]] * 30
    columns = {
        "image_id": [f"i{row:02d}" for row in range(60)],
        "patient": [f"p{row // 3:02d}" for row in range(60)],
        "study": [f"s{row // 3:02d}" for row in range(60)],
        "flags": [[], ["padded"], ["localizer"]] * 10 + [[], [], ["derived", "secondary_capture"]] * 10,
    }
    found = read(columns=columns, logits=logits, labels=labels)
    assert [(each.aggregate, each.studies, each.positives, each.auroc.value) for each in found.studies] == [
        ("max", 20, 10, 1.0),
        ("noisy_or", 20, 10, 1.0),
    ]
    assert (found.studies[0].recall.value, found.studies[0].specificity.value) == (1.0, 1.0)
    alone = {**columns, "flags": [[], ["localizer"], ["localizer"]] * 20}
    assert read(columns=alone, logits=logits, labels=labels).studies == ()


def test_several_classes_have_a_table_and_exclusive_ones_no_threshold(read):
    logits = [[2.0, -2.0], [-2.0, 2.0]] * 20
    labels = [[1, 0], [0, 1]] * 20
    two = {"classes": ("a", "b"), "thresholds": (0.5, 0.5), "task": "multi_label"}
    found = read(logits=logits, labels=labels, checkpoint=two)
    assert [each.name for each in found.classes] == ["a", "b"]
    assert len(found.parts[0].probabilities) == 2
    exclusive = read(
        logits=logits,
        labels=labels,
        checkpoint={**two, "task": "multi_class", "thresholds": ()},
        subgroups={"sex": ["f"] * 21 + ["m"] * 19},
    )
    assert (exclusive.parts[0].evaluation.accuracy.value, exclusive.parts[0].rates, exclusive.studies) == (1.0, (), ())
    assert elsewhere_tables.metrics_table(exclusive).rows[0][-2].startswith("1.0")
    (table,) = [table for table in elsewhere_tables.tables(exclusive) if table.caption.startswith("Subgroups")]
    assert (table.head[4], [row[4] for row in table.rows]) == ("commonest class", ["a 52.4%", "b 52.6%"])


def test_images_that_the_model_was_trained_on_are_a_finding(read):
    own = read(data={"digest": "home", "splits": ("train", "val", "test")})
    assert elsewhere_tables.findings(own) == [
        "mine on there: the model was trained or chosen on train and val of these images"
    ]
    assert elsewhere_tables.findings(read(data={"digest": "home"})) == []


def test_a_report_of_evaluations_alone_and_beside_trials(make_record, tmp_path):
    records = tmp_path / "records"
    write_made_evaluation(records, subgroups={"sex": ["f", "m"] * 20}, data={"name": "a | b <script>"})
    config = ReportConfig(records=str(records), out=str(tmp_path / "report"), bootstrap_samples=20)
    assert "<script>" not in Path(write_report(config)).read_text().split("</style>")[1]
    text = (tmp_path / "report" / "grid.md").read_text()
    assert "## Evaluated elsewhere: mine on a \\| b &lt;script>" in text
    assert "### Subgroups of mine on" in text
    make_record({"name": "one"}, many=True)
    write_report(config)
    text = (tmp_path / "report" / "grid.md").read_text()
    assert text.index("## Binary, target any") < text.index("## Evaluated elsewhere")


def test_the_csv_has_full_precision(read):
    (row,) = csv.DictReader(io.StringIO(evaluations_csv([read()])))
    assert (row["data"], row["part"], row["sensitivity"]) == ("there", "as is", "0.9")
    assert float(row["auroc"]) == pytest.approx(0.9)
    assert float(row["auroc_low"]) < 0.9 < float(row["auroc_high"])
