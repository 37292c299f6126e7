"""A trial as a row."""

import pytest

from hemo.reporting.trial_row import image_of


@pytest.mark.parametrize(
    ("side_px", "image", "told"),
    [
        (0, "3 x 224 x 224", "3 x 224 x 224"),
        (64, "3 x 224 x 224", "3 x 64 x 64 (shrunk from 3 x 224 x 224)"),
        (224, "3 x 224 x 224", "3 x 224 x 224"),
        (64, "", ""),
    ],
)
def test_images_are_told_as_the_network_saw_them(make_record, side_px, image, told):
    assert image_of(make_record({"model.side_px": side_px}, image=image)) == told
