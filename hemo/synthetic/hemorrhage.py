"""Draw and paint hemorrhages: the five subtypes at typical sites and in typical shapes, over adjacent slices."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from hemo.synthetic.anatomy import Section
from hemo.synthetic.geometry import Field, Mask, enlarge

Subtype = Literal["epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural"]
SUBTYPES: tuple[Subtype, ...] = get_args(Subtype)
"""In the order of the corpus's label table."""

MIN_VISIBLE_PX = 160
"""A lesion with fewer pixels in a slice is not painted there, and the slice is not labelled with it."""

OEDEMA_HU = 19.0

LEVELS: dict[Subtype, tuple[float, float]] = {
    "epidural": (0.04, 0.98),
    "intraparenchymal": (0.04, 0.98),
    "intraventricular": (0.43, 0.78),
    "subarachnoid": (0.04, 0.98),
    "subdural": (0.04, 0.98),
}
"""Range of levels in which each subtype can be seen."""

_RANGES: dict[Subtype, tuple[float, tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "epidural": (0.75, (22.0, 40.0), (9.0, 22.0), (58.0, 82.0)),
    "subdural": (0.45, (50.0, 100.0), (5.5, 12.0), (54.0, 76.0)),
    "subarachnoid": (0.6, (0.6, 1.3), (0.18, 0.34), (56.0, 74.0)),
    "intraventricular": (0.3, (-8.0, 14.0), (0.0, 1.0), (60.0, 85.0)),
    "intraparenchymal": (0.8, (8.0, 18.0), (0.30, 0.62), (58.0, 85.0)),
}
"""Spread about the side in rad; and the ends between which extent, thickness and density in HU are drawn."""


@dataclass(frozen=True)
class Lesion:
    """One hemorrhage. What `extent` and `thickness` mean depends on the subtype: see the function that shapes it."""

    subtype: Subtype
    levels: tuple[float, float]
    angle_rad: float
    extent: float
    thickness: float
    density_hu: float
    harmonics: tuple[float, ...]

    def relative_size(self, level: float) -> float:
        """Return 1 in the lesion's middle, about 0.6 at its first and last slice, 0 beyond."""
        low, high = self.levels
        offset = abs(2 * level - low - high) / max(high - low, 1e-6)
        return math.sqrt(1 - 0.64 * min(offset, 1.0) ** 2) if offset < 1 + 1e-6 else 0.0


def draw_lesion(rng: np.random.Generator, subtype: Subtype, levels: tuple[float, float]) -> Lesion:
    """Draw a lesion of a subtype that spans `levels`, first and last slice included."""
    side = float(rng.choice([0.0, math.pi]))
    spread, extent, thickness, density = _RANGES[subtype]
    return Lesion(
        subtype=subtype,
        levels=levels,
        angle_rad=side + float(rng.uniform(-spread, spread)),
        extent=float(rng.uniform(*extent)),
        thickness=float(rng.uniform(*thickness)),
        density_hu=float(rng.uniform(*density)),
        harmonics=tuple(float(value) for value in rng.uniform(-1, 1, 6)),
    )


def paint_hemorrhage(hu: Field, allowed: Mask, section: Section, lesions: tuple[Lesion, ...]) -> dict[Subtype, int]:
    """Paint blood into `hu` in place, and count what can be seen of it.

    Args:
        hu: Density of the section without blood, float32 (512, 512), edges still sharp.
        allowed: Where blood may be: brain and fluid, bool (512, 512).
        section: The same section.
        lesions: The study's lesions; a later one covers an earlier.

    Returns:
        Visible pixels by subtype, only of those painted: each lesion has at least `MIN_VISIBLE_PX`.
    """
    visible: dict[Subtype, int] = {}
    free = allowed.copy()
    clots: list[tuple[Lesion, Field, Mask]] = []
    for lesion in reversed(lesions):
        size = lesion.relative_size(section.level)
        if size == 0:
            continue
        distance = enlarge(_SHAPES[lesion.subtype](lesion, section, size))
        clot = free & (distance < 0)
        pixels = int(np.count_nonzero(clot))
        if pixels >= MIN_VISIBLE_PX:
            clots.append((lesion, distance, clot))
            free &= ~clot
            visible[lesion.subtype] = visible.get(lesion.subtype, 0) + pixels
    _paint_clots(hu, free, enlarge(section.grain), clots)
    return visible


def _paint_clots(hu: Field, free: Mask, grain: Field, clots: list[tuple[Lesion, Field, Mask]]) -> None:
    for lesion, distance, clot in clots:
        if lesion.subtype == "intraparenchymal":
            rim = free & (distance < np.float32(3 + 5 * lesion.thickness)) & (hu > 20)
            hu[rim] = OEDEMA_HU
        hu[clot] = np.clip(np.float32(lesion.density_hu) + np.float32(3) * grain[clot], 50, 90)


def _from_angle(section: Section, angle_rad: float) -> Field:
    """Return the angle between each point and a direction, in -pi..pi."""
    return np.asarray(np.remainder(section.angle_rad - np.float32(angle_rad) + np.pi, 2 * np.pi) - np.pi, np.float32)


def _epidural(lesion: Lesion, section: Section, size: float) -> Field:
    """A lens: `extent` mm along the table to either side, `thickness` mm in its middle."""
    along = _from_angle(section, lesion.angle_rad) * section.radius_mm / np.float32(lesion.extent * size)
    thickness = np.minimum(np.float32(lesion.thickness * size), section.radius_mm * np.float32(0.4))
    return np.asarray(section.depth_mm - thickness * (1 - along**2), np.float32)


def _subdural(lesion: Lesion, section: Section, size: float) -> Field:
    """A crescent: `extent` mm along the table to either side, `thickness` mm thick, not across the midline."""
    along = np.abs(_from_angle(section, lesion.angle_rad)) * section.radius_mm / np.float32(lesion.extent)
    thickness = np.minimum(np.float32(lesion.thickness * size), section.radius_mm * np.float32(0.25))
    crescent = section.depth_mm - thickness * (1 - along**3) + np.float32(0.7) * section.folds
    side = np.float32(math.copysign(1, math.cos(lesion.angle_rad)))
    return np.asarray(np.maximum(crescent, 1.5 - side * section.x_mm), np.float32)


def _subarachnoid(lesion: Lesion, section: Section, size: float) -> Field:
    """Thin layers in the sulci and cisterns of a sector.

    `extent` is the sector's half angle in rad, `thickness` the width of a sulcus in standard deviations of the folds.
    """
    width = np.float32(lesion.thickness * size)
    taper = np.clip(1.1 - section.depth_mm / 26, 0, 1)
    sulci = (np.abs(section.folds) - width * taper) * 4
    rim = section.depth_mm - np.float32(2.5 * size)
    spaces = np.minimum(np.minimum(sulci, rim), section.cisterns_mm - 1)
    aside = np.abs(_from_angle(section, lesion.angle_rad)) - np.float32(lesion.extent)
    off = aside * np.minimum(section.radius_mm, 30)
    sector = np.where(section.cisterns_mm < 4, np.minimum(off, 0), off)
    return np.asarray(np.maximum(spaces, sector), np.float32)


def _intraventricular(lesion: Lesion, section: Section, size: float) -> Field:
    """Blood that sinks to the back: forward to y = `extent` mm, or throughout if `thickness` is below 0.35."""
    fills = lesion.thickness < 0.35
    surface = np.float32(-60.0 if fills else lesion.extent) - section.y_mm
    walls = section.ventricles_mm - np.float32(0.8)
    other = np.float32(math.cos(lesion.angle_rad)) * section.x_mm < -3
    sunk = np.maximum(walls, surface)
    return np.asarray(np.where(other, np.maximum(sunk, np.float32(16) - section.y_mm), sunk), np.float32)


def _intraparenchymal(lesion: Lesion, section: Section, size: float) -> Field:
    """An irregular blob of radius `extent` mm, `thickness` of the way from the middle to the inner table."""
    reach = np.float32(lesion.thickness * 66)
    across = section.x_mm - reach * np.float32(math.cos(lesion.angle_rad))
    down = section.y_mm - reach * np.float32(1.2 * math.sin(lesion.angle_rad))
    around = np.arctan2(down, across)
    radius = np.full_like(around, lesion.extent * size)
    for order, amplitude in enumerate(lesion.harmonics, start=1):
        radius *= 1 + np.float32(0.16 / math.sqrt(order) * amplitude) * np.cos(order * around + np.float32(2.1 * order))
    blob = np.sqrt(across**2 + down**2) - radius + np.float32(1.1) * section.grain
    return np.asarray(np.maximum(blob, 2.0 - section.depth_mm), np.float32)


_SHAPES = {
    "epidural": _epidural,
    "intraparenchymal": _intraparenchymal,
    "intraventricular": _intraventricular,
    "subarachnoid": _subarachnoid,
    "subdural": _subdural,
}
