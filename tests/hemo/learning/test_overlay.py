"""Pictures of cases."""

import io

import numpy as np
import pytest
from PIL import Image

from hemo.learning.overlay import case_png, relative, shown


def test_three_channels_are_colours_and_of_nine_the_middle_ones() -> None:
    nine = np.arange(9, dtype=np.uint8)[:, None, None] * np.ones((1, 2, 4), np.uint8)
    assert shown(nine).shape == (2, 4, 3)
    assert shown(nine)[0, 0].tolist() == [3, 4, 5]
    assert shown(nine[:3])[1, 3].tolist() == [0, 1, 2]
    assert (shown(nine[:1])[0, 0], shown(nine[:5])[0, 0]) == (0, 2)


def test_heat_is_relative_to_the_hottest_place() -> None:
    assert relative(np.array([[0.0, 2.0], [8.0, 4.0]], np.float32)).tolist() == [[0, 0.25], [1, 0.5]]
    assert relative(np.zeros((1, 2), np.float32)).tolist() == [[0, 0]]


@pytest.mark.parametrize("title", ["plain", "a $title$ with \\frac{ and $"])
def test_the_heat_is_drawn_on_the_right_only_and_where_it_is(title: str) -> None:
    """A grey image whose lower right quarter is hot: only there colours are seen."""
    image, heat = np.full((1, 32, 32), 100, np.uint8), np.zeros((32, 32), np.float32)
    heat[16:, 16:] = 3
    picture = np.asarray(Image.open(io.BytesIO(case_png(image, heat, title))).convert("RGB")).astype(int)
    colour = picture.max(axis=2) - picture.min(axis=2) > 20
    rows, cols = np.nonzero(colour)
    height, width = colour.shape
    assert rows.min() > height / 2
    assert cols.min() > 0.7 * width
    assert colour.sum() > 0.05 * colour.size
