"""One trial as a table row."""

import numpy as np
import pyarrow as pa
import pytest

from hemo.reporting.trial_row import estimate, image_of, metrics_by_group, p_text
from hemo.stats.calibration import Calibration
from hemo.stats.intervals import Interval
from hemo.trials.predictions import scores_of
from hemo.trials.record import PREDICTION_SCHEMA


@pytest.mark.parametrize(
    ("side_px", "image", "text"),
    [
        (0, "3 x 224 x 224", "3 x 224 x 224"),
        (64, "3 x 224 x 224", "3 x 64 x 64 (resized from 3 x 224 x 224)"),
        (224, "3 x 224 x 224", "3 x 224 x 224"),
        (64, "", ""),
    ],
)
def test_images_have_the_size_that_the_network_received(make_record, side_px, image, text):
    assert image_of(make_record({"model.side_px": side_px}, image=image)) == text


@pytest.mark.parametrize(
    ("interval", "signed", "text"),
    [
        (Interval(0.87204, (0.806, 0.931)), False, "0.872 (0.806-0.931)"),
        (Interval(0.87204, (0.70, 0.95)), False, "0.87 (0.70-0.95)"),
        (Interval(0.97123, (0.9683, 0.9741)), False, "0.9712 (0.9683-0.9741)"),
        (Interval(0.012, (-0.031, 0.055)), True, "+0.012 (-0.031 to +0.055)"),
        (Interval(0.876, None, "8 patients"), False, "0.88"),
        (None, False, "-"),
    ],
)
def test_decimals_follow_the_interval(interval, signed, text):
    assert estimate(interval, signed=signed) == text


@pytest.mark.parametrize(("p", "text"), [(0.0312, "0.031"), (0.0004, "< 0.001"), (1.0, "1.000"), (None, "-")])
def test_small_p_values_are_never_zero(p, text):
    assert p_text(p) == text


@pytest.mark.parametrize(
    ("classes", "exclusive", "labels", "head", "texts"),
    [
        (["x"], False, [[1], [0], [0], [0], [1], [1], [0]], "prevalence", ["25.0%", "66.7%"]),
        (
            ["x", "any"],
            False,
            [[1, 1], [0, 1], [0, 0], [0, 1], [0, 0], [0, 0], [0, 1]],
            "prevalence of any",
            ["75.0%", "33.3%"],
        ),
        (
            ["x", "y"],
            False,
            [[1, 1], [0, 1], [0, 0], [0, 0], [0, 0], [0, 0], [1, 1]],
            "mean prevalence",
            ["37.5%", "33.3%"],
        ),
        (
            ["x", "y", "z"],
            True,
            [[0, 0, 1]] * 3 + [[1, 0, 0]] + [[0, 1, 0]] * 2 + [[1, 0, 0]],
            "commonest class",
            ["z 75.0%", "y 66.7%"],
        ),
    ],
)
def test_prevalence_of_a_group_follows_the_task(classes, exclusive, labels, head, texts):
    """Four images of format a, three of b. Of exclusive classes the mean of all labels would be 1/3 in both."""
    ids = [f"i{row}" for row in range(7)]
    columns = [["test"] * 7, ids, ids, list("aaaabbb"), labels, np.zeros((7, len(classes))).tolist()]
    table = pa.table(dict(zip(PREDICTION_SCHEMA.names, columns, strict=True)), schema=PREDICTION_SCHEMA)
    scores = scores_of(table, exclusive=exclusive, calibration=Calibration(), thresholds=[0.5])
    found = [each.prevalence for each in metrics_by_group(scores, scores.pixel_formats, classes)]
    assert [each.head for each in found] == [head] * 2
    assert [each.text for each in found] == texts
