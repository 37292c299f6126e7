"""One patient's head: what stays the same over all slices and studies of a patient."""

import math
from dataclasses import dataclass

import numpy as np

from hemo.synthetic.geometry import Field, Waves

HEIGHT_MM = 150.0
"""From the skull base (level 0) to the vertex (level 1)."""

WIDEST_LEVEL, LEVEL_REACH = 0.34, 0.76
"""Level of the largest section, and how far above it the skull closes."""


@dataclass(frozen=True)
class Head:
    """Sizes in mm, densities in HU, shares without a unit."""

    half_width_mm: float
    half_length_mm: float
    harmonics: tuple[float, ...]
    roll: float
    skull_mm: float
    scalp_mm: float
    bone_hu: float
    diploe_hu: float
    gray_hu: float
    white_hu: float
    atrophy: float
    ventricle_growth: float
    has_pineal_calcification: bool
    has_choroid_calcification: bool
    folds: Waves
    grain: Waves
    bends: tuple[Waves, Waves]

    @property
    def size(self) -> float:
        """Return the factor on structures given for an ordinary head."""
        return self.half_length_mm / 82.0

    def inner_radius_mm(self, angle_rad: Field, level: Field) -> Field:
        """Return the distance from the skull's centre to its inner table, by direction and level.

        Args:
            angle_rad: Direction from the centre, 0 to the image's right, pi / 2 backwards, float32.
            level: Height in the head, of the same shape: not constant where the head is tilted to a side.
        """
        cos, sin = np.cos(angle_rad), np.sin(angle_rad)
        across, along = cos / np.float32(self.half_width_mm), sin / np.float32(self.half_length_mm)
        ellipse = 1 / np.sqrt(across**2 + along**2)
        shape = 1 + np.float32(0.035) * sin  # a forehead is narrower than an occiput
        for order, amplitude in enumerate(self.harmonics, start=3):
            shape += np.float32(amplitude) * np.cos(order * angle_rad + np.float32(np.pi * (order % 4) / 4))
        above = (level - np.float32(WIDEST_LEVEL)) / np.float32(LEVEL_REACH)
        closing = np.sqrt(np.clip(1 - np.sign(above) * above**2, 0.02, 1.0))
        return np.asarray(ellipse * shape * closing, np.float32)

    def obliquity(self, level: float) -> float:
        """Return how much thicker than it is the skull looks, because the slice cuts it at a slant near the vertex."""
        above = min(max(0.0, (level - WIDEST_LEVEL) / LEVEL_REACH), 0.93)
        return 1 / math.sqrt(1 - above**2)


def draw_head(rng: np.random.Generator) -> Head:
    """Draw a patient. Older heads have more fluid, larger ventricles and more calcium."""
    age = float(rng.uniform(0, 1))
    return Head(
        half_width_mm=float(rng.normal(65, 2.5)),
        half_length_mm=float(rng.normal(82, 3.0)),
        harmonics=tuple(float(value) for value in rng.normal((0.0, 0.012, 0.0), (0.014, 0.009, 0.006))),
        roll=float(rng.normal(0, 0.05)),
        skull_mm=float(rng.uniform(5.0, 8.0)),
        scalp_mm=float(rng.uniform(4.0, 7.5)),
        bone_hu=float(rng.uniform(1250, 1650)),
        diploe_hu=float(rng.uniform(450, 800)),
        gray_hu=float(rng.normal(37.5, 1.0)),
        white_hu=float(rng.normal(29.0, 1.0)),
        atrophy=float(np.clip(0.10 + 0.9 * age + rng.normal(0, 0.08), 0.05, 1.1)),
        ventricle_growth=float(np.clip(rng.normal(0.75 + 0.55 * age, 0.12), 0.55, 1.5)),
        has_pineal_calcification=bool(rng.random() < 0.25 + 0.5 * age),
        has_choroid_calcification=bool(rng.random() < 0.2 + 0.5 * age),
        folds=Waves.draw(rng, 40, (13.0, 26.0)),
        grain=Waves.draw(rng, 32, (5.0, 18.0)),
        bends=(Waves.draw(rng, 12, (30.0, 70.0)), Waves.draw(rng, 12, (30.0, 70.0))),
    )
