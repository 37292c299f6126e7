"""Counts, rates and curves of one trial on test, by hand."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from hemo.reporting.comparison import compare_trials
from hemo.reporting.page.data_set import read_data_set
from hemo.reporting.page.evidence import (
    add_scanners,
    class_evidence,
    most_frequent,
    rates_at_thresholds,
    read_evidence,
    shown_thresholds,
    significant,
    triple,
    with_evidence,
)
from hemo.reporting.probabilities import DecisionSettings, class_probabilities
from hemo.stats.calibration import Calibration
from hemo.stats.intervals import Interval
from hemo.stats.operating_points import threshold_rates
from hemo.trials.predictions import scores_of, split_scores
from hemo.trials.record import read_predictions, read_records
from tests.records import predictions

PROBABILITIES, LABELS, PATIENTS = np.array([0.9, 0.4, 0.6, 0.1]), np.array([1, 1, 0, 0], np.uint8), np.arange(4)


def test_numbers_have_six_digits_and_no_infinity():
    assert [significant(value) for value in (0.12345678, 1234567.8, np.inf, np.nan, None)] == [
        0.123457,
        1234570,
        None,
        None,
        None,
    ]
    assert triple(Interval(0.5, (0.25, 0.75))) == [0.5, 0.25, 0.75]
    assert triple(Interval(0.5, None, "few")) == [0.5, None, None]
    assert triple(None) is None


def test_counts_and_rates_at_every_threshold():
    """Positives 0.9 and 0.4, negatives 0.6 and 0.1: thresholds lie between, and at 0 and 1.

    Above 0.25 are both positives and one negative: sensitivity 1, specificity 1/2; 1 / (1 - 1/2) = 2.
    """
    found = rates_at_thresholds(PROBABILITIES, LABELS, PATIENTS, [0.5])
    assert found["threshold"] == [0, 0.25, 0.5, 0.75, 1]
    assert found["tp"] == [2, 2, 1, 1, 0]
    assert found["fp"] == [2, 1, 1, 0, 0]
    assert [each[0] for each in found["sensitivity"]] == [1, 1, 0.5, 0.5, 0]
    assert [each[0] for each in found["specificity"]] == [0, 0.5, 0.5, 1, 1]
    assert [each[0] for each in found["positive_ratio"]] == [1, 2, 1, None, None]
    assert [each[0] for each in found["negative_ratio"]] == [None, None, 1, 2, 1]
    assert found["sensitivity"][0][1:] == [None, None]  # four patients are too few


def test_a_point_is_found_where_thresholds_are_equal_to_four_digits():
    """Overconfident: of images at 0.99999, 0.99998, 0.99997 and 0.2 the trial's threshold 0.999975 has the first two.

    Rounded, three thresholds were 1, and the page took the first of them.
    """
    probabilities = np.array([0.99999, 0.99998, 0.99997, 0.2])
    logits = np.log(probabilities / (1 - probabilities)).tolist()
    rows = predictions("test", [1, 0, 1, 0], ["a", "b", "c", "d"], logits, "aaaa")
    test = scores_of(rows, exclusive=False, calibration=Calibration(), thresholds=[0.999975])
    found = class_evidence(test, 0, {"balanced_accuracy": 0.999975}, 0.5)
    ((rule, threshold, step),) = found["points"]
    assert (rule, threshold) == ("balanced_accuracy", 0.999975)
    assert found["rates"]["threshold"][step] == threshold
    assert (found["rates"]["tp"][step], found["rates"]["fp"][step]) == (1, 1)
    assert len(set(found["rates"]["threshold"])) == len(found["rates"]["threshold"])


def test_predictive_values_at_any_prevalence_follow_from_the_ratios():
    """60 patients with 2 images each; at odds o the PPV is r o / (r o + 1), as are the ends of its interval."""
    generator = np.random.default_rng(0)
    labels = np.repeat([1, 0, 0], 40).astype(np.uint8)
    probabilities = np.clip(0.3 * labels + generator.uniform(0, 0.7, 120), 0, 1)
    patients = np.arange(120) // 2
    found = rates_at_thresholds(probabilities, labels, patients, [0.5])
    at = found["threshold"].index(0.5)
    for prevalence in (0.02, 0.4):
        odds = prevalence / (1 - prevalence)
        expected = threshold_rates(probabilities > 0.5, labels, patients, prevalence)
        ppv = [ratio * odds / (ratio * odds + 1) for ratio in found["positive_ratio"][at]]
        npv = [ratio / (ratio + odds) for ratio in found["negative_ratio"][at]]
        assert ppv == pytest.approx([expected.ppv.value, *expected.ppv.ends], rel=1e-3)
        assert npv == pytest.approx([expected.npv.value, *expected.npv.ends], rel=1e-3)


def test_many_thresholds_are_thinned_by_both_labels():
    """Of 1,000 positives near 1 and 9,000 negatives near 0, quantiles of each are kept."""
    generator = np.random.default_rng(1)
    labels = np.repeat([1, 0], [1000, 9000]).astype(np.uint8)
    probabilities = np.where(labels == 1, generator.uniform(0.5, 1, 10000), generator.uniform(0, 0.5, 10000))
    thresholds = shown_thresholds(probabilities, labels, [0.123], most=20)
    assert thresholds == sorted(thresholds)
    assert (len(thresholds), thresholds[0], thresholds[-1]) == (22, 0, 1)
    assert 0.123 in thresholds
    found = [(probabilities[labels == 1] > each).mean() for each in thresholds]
    assert max(np.abs(np.diff(found))) < 0.13  # nine steps, the first and last halved


def evidence_of(tmp_path, **decisions):
    folder = str(tmp_path / "records")
    (found,) = compare_trials(read_records(folder), folder, samples=20, seed=0)
    return found, read_evidence(found, folder, DecisionSettings(**decisions))


def test_evidence_of_a_trial(make_record, tmp_path):
    """Quality 2 separates the labels: every image of the twenty patients is right at its threshold."""
    record = make_record({"name": "good"}, quality=2.0, many=True, operating_points={"sensitivity=0.95": (0.25,)})
    _, evidence = evidence_of(tmp_path, prevalence=0.1)
    (found,) = evidence[record.digest]["classes"]
    assert (found["name"], found["positives"], found["negatives"], found["patients"]) == ("any", 20, 20, 20)
    steps = [found["rates"]["threshold"].index(each) for each in (0.5, 0.25)]
    assert found["points"][:2] == [["balanced_accuracy", 0.5, steps[0]], ["sensitivity=0.95", 0.25, steps[1]]]
    assert [rule for rule, *_ in found["points"][2:]] == ["specificity=0.95"]
    assert found["prevalence"] == 0.1
    assert found["auroc"][0] == 1
    assert {0.25, 0.5} <= set(found["rates"]["threshold"])
    at = found["rates"]["threshold"].index(0.5)
    assert (found["rates"]["tp"][at], found["rates"]["fp"][at]) == (20, 0)
    middle = next(point for point in found["decision"] if point[0] == 0.5)
    assert middle[1] == 0.1  # all found, none wrong: the prevalence
    assert middle[4] == -0.8  # acting on all: 0.1 - 0.9 x 1
    assert sum(each[4] for each in found["calibration"]["bins"]) == 40
    json.dumps(evidence, allow_nan=False)


def test_points_that_the_record_lacks_are_chosen_on_validation_as_in_the_table(make_record, tmp_path):
    """Validation has the images of test; the record has thresholds of no rule but its own."""
    record = make_record({"name": "one"}, many=True, thresholds=(0.4,))
    rules = ("balanced_accuracy", "sensitivity=0.9", "specificity=0.9")
    _, evidence = evidence_of(tmp_path, operating_points=rules)
    points = evidence[record.digest]["classes"][0]["points"]
    assert [rule for rule, *_ in points] == list(rules)
    assert points[0][1] == 0.4
    test = split_scores(read_predictions(str(tmp_path / "records"), record.digest), "test", record)
    (evaluated,) = class_probabilities(record, test, test, test, DecisionSettings(rules))
    assert [(point.rule, point.threshold) for point in evaluated.points] == [(rule, at) for rule, at, _ in points]


def test_exclusive_classes_have_no_thresholds(of_classes, tmp_path):
    """The most probable class is predicted: the slider begins at 0.5, which no rule chose, and says so."""
    of_classes("multi_class", ["normal", "viral", "bacterial"])
    _, evidence = evidence_of(tmp_path)
    (trial,) = evidence.values()
    for found in trial["classes"]:
        assert found["points"] == []
        assert found["rates"]["threshold"][found["start"]] == 0.5
        assert found["note"].startswith("The most probable class is predicted, without a threshold;")


def test_a_threshold_that_validation_could_not_choose_is_not_called_by_its_rule(make_record, tmp_path):
    record = make_record({"name": "one"}, many=True, thresholds=(None,), operating_points={"sensitivity=0.95": (None,)})
    found, evidence = evidence_of(tmp_path, operating_points=("sensitivity=0.95",))
    shown = evidence[record.digest]["classes"][0]
    assert [point[:2] for point in shown["points"]] == [["0.5, not chosen", 0.5]]
    assert shown["note"].startswith("Validation lacks one of the labels")
    (evaluated,) = found.probabilities
    assert (evaluated.points[0].rule, evaluated.points[0].threshold) == ("0.5, not chosen", 0.5)


def test_the_best_trial_is_first_and_others_need_a_test(make_record, tmp_path):
    make_record({"name": "low", "seed": 1}, quality=0.9)
    make_record({"name": "untested", "seed": 2}, quality=0.8, test=False)
    make_record({"name": "selected", "seed": 3}, quality=0.5, selected_by="val_auroc", selected_among=3)
    found, evidence = evidence_of(tmp_path)
    assert [row.record.config.name for row in with_evidence(found)] == ["selected", "low"]
    assert len(evidence) == 2


def test_one_label_has_no_rates(make_record, tmp_path):
    """The four images of format b are all negative: its AUROC is not defined, and says so."""
    record = make_record({}, formats="aaabaaabbb")
    _, evidence = evidence_of(tmp_path)
    assert [row[:3] for row in evidence[record.digest]["formats"]] == [["a", 6, "50.0%"], ["b", 4, "0.0%"]]
    assert evidence[record.digest]["formats"][1][3] == "-"
    assert evidence[record.digest]["prevalence_head"] == "prevalence"


def test_results_by_scanner_come_from_the_training_set(make_record, make_training_set, tmp_path):
    """Forty images, one label each way in turn; the first ten are of scanner a, of the last two none is known."""
    data = read_data_set(make_training_set())
    names = ["a"] * 10 + ["b"] * 28 + [None, None]
    rows = pa.table({"image_id": [f"i{number:02d}" for number in range(40)], "scanner": pa.array(names, pa.string())})
    made = make_record({"name": "its own"}, many=True, training_set=data.card.digest)
    other = make_record({"name": "of another set"}, many=True)
    folder = str(tmp_path / "records")
    comparisons = compare_trials(read_records(folder), folder, samples=10, seed=0)
    evidence = {}
    for comparison in comparisons:
        evidence |= read_evidence(comparison, folder, DecisionSettings())
    add_scanners(evidence, comparisons, folder, replace(data, rows=rows))
    assert evidence[other.digest]["scanners"] == []
    found = evidence[made.digest]["scanners"]
    assert [line[:3] for line in found] == [["b", 28, "50.0%"], ["a", 10, "50.0%"], ["unknown", 2, "50.0%"]]
    assert float(found[0][3].split()[0]) > 0.8


def test_rare_scanners_are_others():
    """Nine names: the last one, once, is not among the eight most frequent."""
    names = [name for name in "abcdefgh" for _ in range(2)] + ["i"]
    assert most_frequent(names).tolist() == [*names[:-1], "others"]
