"""Compute smooth fields and signed distances in the plane of a slice, on a coarse grid and enlarged to full size.

A signed distance is smooth, so a coarse grid holds it exactly enough, and the edge cut from its enlargement is sharp.
Lengths are in mm. In head coordinates x points to the image's right and y backwards, from the centre of the skull.
No sum here runs through BLAS, whose rounding may depend on the number of threads.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]
Mask = NDArray[np.bool_]

SIDE_PX = 512
COARSE_PX = 128
NOWHERE_MM = np.float32(1e3)
"""Signed distance to something that is not there."""


@dataclass(frozen=True)
class Pose:
    """Position and rotation of the head in the field of view of one study."""

    rotation_rad: float
    right_mm: float
    down_mm: float
    spacing_mm: float

    def head_coordinates(self) -> tuple[Field, Field]:
        """Return x and y in mm of every coarse grid point, each float32 (128, 128)."""
        axis = coarse_axis_mm(self.spacing_mm)
        across, down = axis[None, :] - np.float32(self.right_mm), axis[:, None] - np.float32(self.down_mm)
        cos, sin = np.float32(math.cos(self.rotation_rad)), np.float32(math.sin(self.rotation_rad))
        return across * cos + down * sin, down * cos - across * sin


@dataclass(frozen=True)
class Capsule:
    """A rounded bar between two points. It is there at some levels and thins out towards the first and the last."""

    start_mm: tuple[float, float]
    end_mm: tuple[float, float]
    radius_mm: float
    levels: tuple[float, float]
    mirrored: bool = False
    taper: float = 1.0
    """Radius at the end over radius at the start."""


@dataclass(frozen=True)
class Waves:
    """Plane waves in random directions of space: their sum is a texture that continues from slice to slice."""

    vectors_per_mm: NDArray[np.float64]
    phases_rad: NDArray[np.float64]

    @classmethod
    def draw(cls, rng: np.random.Generator, count: int, wavelength_mm: tuple[float, float]) -> "Waves":
        """Draw `count` waves with lengths between the two given, in all directions alike."""
        directions = rng.standard_normal((count, 3))
        directions /= np.sqrt((directions**2).sum(axis=1, keepdims=True))
        lengths = rng.uniform(*wavelength_mm, (count, 1))
        return cls(2 * np.pi / lengths * directions, rng.uniform(0, 2 * np.pi, count))

    def at(self, pose: Pose, z_mm: float) -> Field:
        """Return the sum on the coarse grid at height `z_mm`: float32 (128, 128), mean about 0, variance about 1."""
        kx, ky, kz = self.vectors_per_mm.T
        cos, sin = math.cos(pose.rotation_rad), math.sin(pose.rotation_rad)
        axis = coarse_axis_mm(pose.spacing_mm).astype(np.float64)
        across = (kx * cos - ky * sin)[:, None] * (axis - pose.right_mm)
        down = (kx * sin + ky * cos)[:, None] * (axis - pose.down_mm) + (kz * z_mm + self.phases_rad)[:, None]
        rows = np.concatenate([np.cos(down), -np.sin(down)])
        columns = np.concatenate([np.cos(across), np.sin(across)])
        summed = np.einsum("ky,kx->yx", rows, columns, optimize=False)
        return np.asarray(summed * math.sqrt(2 / len(kx)), np.float32)


def coarse_axis_mm(spacing_mm: float) -> Field:
    """Return the coarse grid's positions from the centre of the image, float32 (128,)."""
    step = SIDE_PX / COARSE_PX
    return ((np.arange(COARSE_PX, dtype=np.float32) + 0.5) * step - SIDE_PX / 2) * np.float32(spacing_mm)


def enlarge(coarse: Field) -> Field:
    """Return a coarse field at full size, float32 (512, 512), by linear interpolation."""
    return np.asarray(cv2.resize(coarse, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_LINEAR), np.float32)


def presence(level: float, levels: tuple[float, float]) -> float:
    """Return 0 outside `levels`, 1 well inside, with rounded ends like those of an ellipsoid."""
    low, high = levels
    offset = abs(2 * level - low - high) / (high - low)
    return math.sqrt(max(0.0, 1 - offset**4))


def ellipse_mm(x: Field, y: Field, centre: tuple[float, float], half_axes: tuple[float, float]) -> Field:
    """Return about the signed distance to an ellipse along the axes, negative inside."""
    across = (x - np.float32(centre[0])) / np.float32(half_axes[0])
    down = (y - np.float32(centre[1])) / np.float32(half_axes[1])
    return (np.sqrt(across**2 + down**2) - 1) * np.float32(min(half_axes))


def capsules_mm(x: Field, y: Field, level: float, capsules: tuple[Capsule, ...], *, growth: float = 1.0) -> Field:
    """Return the signed distance to the union of those capsules that are present at `level`, negative inside.

    Args:
        x: Head coordinate in mm, (128, 128).
        y: The same, backwards.
        level: Height in the head, 0 at the base, 1 at the vertex.
        capsules: What to draw, for a head of ordinary size.
        growth: Factor on every radius.
    """
    nearest = np.full_like(x, NOWHERE_MM)
    for capsule in capsules:
        radius = capsule.radius_mm * growth * presence(level, capsule.levels)
        if radius > 0:
            across = np.abs(x) if capsule.mirrored else x
            np.minimum(nearest, _capsule_mm(across, y, capsule, radius), out=nearest)
    return nearest


def _capsule_mm(x: Field, y: Field, capsule: Capsule, radius_mm: float) -> Field:
    (x0, y0), (x1, y1) = capsule.start_mm, capsule.end_mm
    along_x, along_y = np.float32(x1 - x0), np.float32(y1 - y0)
    from_x, from_y = x - np.float32(x0), y - np.float32(y0)
    along = np.clip((from_x * along_x + from_y * along_y) / (along_x**2 + along_y**2 + np.float32(1e-6)), 0, 1)
    radius = np.float32(radius_mm) * (1 + np.float32(capsule.taper - 1) * along)
    return np.asarray(np.sqrt((from_x - along * along_x) ** 2 + (from_y - along * along_y) ** 2) - radius, np.float32)
