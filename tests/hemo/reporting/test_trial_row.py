"""One trial as a table row."""

import pytest

from hemo.reporting.trial_row import estimate, image_of, p_text
from hemo.stats.intervals import Interval


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
