"""One trial as a table row."""

import pytest

from hemo.reporting.trial_row import image_of


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
