"""One patient, drawn once, for the tests that need an anatomy."""

import numpy as np
import pytest

from hemo.synthetic.anatomy import Head, draw_head
from hemo.synthetic.geometry import Pose


@pytest.fixture(scope="session")
def head() -> Head:
    return draw_head(np.random.default_rng(5))


@pytest.fixture(scope="session")
def upright() -> Pose:
    """A head in the middle of the field of view, not turned, at 0.5 mm a pixel."""
    return Pose(rotation_rad=0.0, right_mm=0.0, down_mm=0.0, spacing_mm=0.5)
