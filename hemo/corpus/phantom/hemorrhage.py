"""Blood: the five subtypes in their typical place and shape, over adjacent slices."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from hemo.corpus.phantom.geometry import Field, Mask, enlarge
from hemo.corpus.phantom.section import Section

Subtype = Literal["epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural"]
SUBTYPES: tuple[Subtype, ...] = get_args(Subtype)
"""In the order of the corpus's label table."""

MIN_VISIBLE_PX = 160
"""A lesion with fewer pixels in a slice is not painted there, and the slice is not labelled with it."""

OEDEMA_HU = 19.0

LEVELS: dict[Subtype, tuple[float, float]] = {
    "epidural": (0.24, 0.90),
    "intraparenchymal": (0.24, 0.88),
    "intraventricular": (0.43, 0.78),
    "subarachnoid": (0.24, 0.92),
    "subdural": (0.24, 0.93),
}
"""Where each subtype has room to be seen."""


@dataclass(frozen=True)
class Lesion:
    """One hemorrhage. What `extent_mm` and `thickness_mm` mean depends on the subtype: see the function that shapes it."""

    subtype: Subtype
    levels: tuple[float, float]
    angle_rad: float
    extent_mm: float
    thickness_mm: float
    density_hu: float
    harmonics: tuple[float, ...]

    def share_of_size(self, level: float) -> float:
        """Return 1 in the lesion's middle, about 0.6 at its first and last slice, 0 beyond."""
        low, high = self.levels
        offset = abs(2 * level - low - high) / max(high - low, 1e-6)
        return math.sqrt(1 - 0.64 * min(offset, 1.0) ** 2) if offset < 1 + 1e-6 else 0.0


def draw_lesion(rng: np.random.Generator, subtype: Subtype, levels: tuple[float, float]) -> Lesion:
    """Draw a lesion of a subtype that spans `levels`, first and last slice included."""
    side = float(rng.choice([0.0, math.pi]))
    spread, extent, thickness, density = {
        "epidural": (0.75, (26.0, 42.0), (14.0, 24.0), (62.0, 82.0)),
        "subdural": (0.45, (62.0, 105.0), (8.0, 14.0), (56.0, 78.0)),
        "subarachnoid": (0.6, (0.75, 1.35), (0.22, 0.36), (58.0, 76.0)),
        "intraventricular": (0.3, (-8.0, 14.0), (0.0, 1.0), (60.0, 85.0)),
        "intraparenchymal": (0.8, (12.0, 20.0), (0.30, 0.62), (60.0, 85.0)),
    }[subtype]
    return Lesion(
        subtype=subtype,
        levels=levels,
        angle_rad=side + float(rng.uniform(-spread, spread)),
        extent_mm=float(rng.uniform(*extent)),
        thickness_mm=float(rng.uniform(*thickness)),
        density_hu=float(rng.uniform(*density)),
        harmonics=tuple(float(value) for value in rng.uniform(-1, 1, 6)),
    )


def paint_hemorrhage(hu: Field, room: Mask, section: Section, lesions: tuple[Lesion, ...]) -> dict[Subtype, int]:
    """Paint blood into `hu` in place, and count what can be seen of it.

    Args:
        hu: Density of the section without blood, float32 (512, 512), edges still sharp.
        room: Where blood may be: brain and fluid, bool (512, 512).
        section: The same section.
        lesions: The study's lesions; a later one covers an earlier.

    Returns:
        Visible pixels by subtype, only of those painted: each lesion has at least `MIN_VISIBLE_PX`.
    """
    visible: dict[Subtype, int] = {}
    free = room.copy()
    clots: list[tuple[Lesion, Field, Mask]] = []
    for lesion in reversed(lesions):
        size = lesion.share_of_size(section.level)
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
            rim = free & (distance < np.float32(3 + 5 * lesion.thickness_mm)) & (hu > 20)
            hu[rim] = OEDEMA_HU
        hu[clot] = np.clip(np.float32(lesion.density_hu) + np.float32(3) * grain[clot], 50, 90)


def _from_angle(section: Section, angle_rad: float) -> Field:
    """Return the angle between each point and a direction, in -pi..pi."""
    return np.asarray(np.remainder(section.angle_rad - np.float32(angle_rad) + np.pi, 2 * np.pi) - np.pi, np.float32)


def _epidural(lesion: Lesion, section: Section, size: float) -> Field:
    """A lens: half as long as `extent_mm` says, `thickness_mm` in its middle, not across a suture."""
    along = _from_angle(section, lesion.angle_rad) * section.radius_mm / np.float32(lesion.extent_mm * size)
    thickness = np.minimum(np.float32(lesion.thickness_mm * size), section.radius_mm * np.float32(0.4))
    return np.asarray(section.depth_mm - thickness * (1 - along**2), np.float32)


def _subdural(lesion: Lesion, section: Section, size: float) -> Field:
    """A crescent along one hemisphere: `extent_mm` to either side of its middle, `thickness_mm` thick, not across the midline."""
    along = np.abs(_from_angle(section, lesion.angle_rad)) * section.radius_mm / np.float32(lesion.extent_mm)
    thickness = np.minimum(np.float32(lesion.thickness_mm * size), section.radius_mm * np.float32(0.25))
    crescent = section.depth_mm - thickness * (1 - along**3) + np.float32(0.7) * section.folds
    side = np.float32(math.copysign(1, math.cos(lesion.angle_rad)))
    return np.asarray(np.maximum(crescent, 1.5 - side * section.x_mm), np.float32)


def _subarachnoid(lesion: Lesion, section: Section, size: float) -> Field:
    """Thin layers in sulci, fissures and cisterns of a sector: `extent_mm` is its half angle in rad, `thickness_mm` a sulcus's width in wave heights."""
    width = np.float32(lesion.thickness_mm * size)
    taper = np.clip(1.1 - section.depth_mm / 26, 0, 1)
    sulci = (np.abs(section.folds) - width * taper) * 4
    rim = section.depth_mm - np.float32(2.5 * size)
    spaces = np.minimum(np.minimum(sulci, rim), section.cisterns_mm - 1)
    off = (np.abs(_from_angle(section, lesion.angle_rad)) - np.float32(lesion.extent_mm)) * np.minimum(section.radius_mm, 30)
    sector = np.where(section.cisterns_mm < 4, np.minimum(off, 0), off)
    return np.asarray(np.maximum(spaces, sector), np.float32)


def _intraventricular(lesion: Lesion, section: Section, size: float) -> Field:
    """Blood sinks to the back of the ventricles: it reaches forward to y = `extent_mm`, or fills them if `thickness_mm` is below 0.35."""
    fills = lesion.thickness_mm < 0.35
    surface = np.float32(-60.0 if fills else lesion.extent_mm) - section.y_mm
    walls = section.ventricles_mm - np.float32(0.8)
    other = np.float32(math.cos(lesion.angle_rad)) * section.x_mm < -3
    sunk = np.maximum(walls, surface)
    return np.asarray(np.where(other, np.maximum(sunk, np.float32(16) - section.y_mm), sunk), np.float32)


def _intraparenchymal(lesion: Lesion, section: Section, size: float) -> Field:
    """An irregular blob of radius `extent_mm`, its centre `thickness_mm` of the way from the skull's centre to its inner table."""
    reach = np.float32(lesion.thickness_mm * 66)
    centre_x, centre_y = reach * np.float32(math.cos(lesion.angle_rad)), reach * np.float32(1.2 * math.sin(lesion.angle_rad))
    across, down = section.x_mm - centre_x, section.y_mm - centre_y
    around = np.arctan2(down, across)
    radius = np.full_like(around, lesion.extent_mm * size)
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
