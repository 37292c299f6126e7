"""Draw a patient's head and paint sections of it, without blood or noise, as densities in HU."""

import math
from dataclasses import dataclass

import numpy as np

from hemo.synthetic.geometry import NOWHERE_MM, Capsule, Field, Mask, Pose, Waves, capsules_mm, ellipse_mm, enlarge

HEIGHT_MM = 150.0
"""From the skull base (level 0) to the vertex (level 1)."""

WIDEST_LEVEL, LEVEL_REACH = 0.34, 0.76
"""Level of the largest section, and how far above it the skull closes."""

VENTRICLES = (
    Capsule((4, -20), (11, -36), 4.0, (0.44, 0.66), mirrored=True, taper=1.2),  # frontal horns
    Capsule((0, -10), (0, 7), 1.9, (0.37, 0.55), taper=0.8),  # third ventricle
    Capsule((14, 15), (24, 34), 5.6, (0.43, 0.66), mirrored=True, taper=0.7),  # atria and occipital horns
    Capsule((24, 34), (22, 46), 3.6, (0.44, 0.58), mirrored=True, taper=0.4),
    Capsule((7, -30), (9, 2), 5.2, (0.57, 0.80), mirrored=True, taper=0.75),  # bodies, anterior part
    Capsule((9, 2), (18, 28), 4.0, (0.57, 0.79), mirrored=True, taper=1.3),  # bodies, posterior part
    Capsule((31, -4), (34, 12), 1.5, (0.25, 0.40), mirrored=True, taper=1.3),  # temporal horns
    Capsule((-4, 38), (4, 38), 4.2, (0.12, 0.29)),  # fourth ventricle
)
CISTERNS = (
    Capsule((0, -14), (0, -5), 4.6, (0.22, 0.36)),  # suprasellar cistern
    Capsule((0, -12), (19, -21), 3.2, (0.22, 0.36), mirrored=True, taper=0.4),
    Capsule((2, -6), (14, 3), 3.0, (0.23, 0.37), mirrored=True, taper=0.5),
    Capsule((14, 3), (15, 14), 1.5, (0.27, 0.41), mirrored=True),  # ambient cisterns
    Capsule((15, 14), (3, 22), 1.7, (0.29, 0.43), mirrored=True, taper=1.5),  # quadrigeminal cistern
    Capsule((0, 22), (0, 28), 2.8, (0.36, 0.48), taper=0.6),
    Capsule((37, -15), (56, -15), 1.8, (0.27, 0.52), mirrored=True, taper=1.8),  # Sylvian fissures
    Capsule((37, -15), (41, 5), 1.3, (0.33, 0.55), mirrored=True),
)
DEEP_GRAY = (
    Capsule((13, -24), (16, -17), 4.0, (0.42, 0.62), mirrored=True),  # caudate nuclei
    Capsule((21, -12), (27, 3), 4.5, (0.39, 0.57), mirrored=True, taper=1.3),  # lentiform nuclei
    Capsule((8, 2), (13, 13), 5.5, (0.42, 0.58), mirrored=True, taper=1.3),  # thalami
    Capsule((36, -15), (39, 6), 1.6, (0.38, 0.57), mirrored=True),  # insular cortex
)
TENTORIUM = (Capsule((3, 30), (44, 62), 0.9, (0.27, 0.42), mirrored=True),)
PINEAL = (Capsule((0, 16), (0, 17.5), 1.9, (0.42, 0.52)),)
CHOROID = (Capsule((20, 25), (22, 29), 2.1, (0.44, 0.57), mirrored=True),)

AIR_HU, FAT_HU, SKIN_HU, MUSCLE_HU, FLUID_HU, DURA_HU, SINUS_HU = -1000, -90, 30, 52, 7, 62, 54
"""Textbook values; dura and venous sinus are as bright as blood."""

SULCUS_DEPTH_MM = 21.0

BASE_LEVEL = 0.30
"""Above this level nothing here is seen."""

SINUS_AIR_HU, ORBITAL_FAT_HU, GLOBE_HU, EYE_MUSCLE_HU = -970, -95, 12, 45

BONES = (
    Capsule((12, 6), (62, 27), 6.0, (-0.30, 0.21), mirrored=True),  # petrous ridges
    Capsule((14, -23), (62, -36), 2.8, (-0.30, 0.25), mirrored=True),  # lesser sphenoid wings
    Capsule((-8, -8), (8, -8), 4.5, (-0.30, 0.23)),  # dorsum sellae and clivus
    Capsule((0, -58), (0, -80), 2.0, (0.08, 0.20)),  # crista galli
    Capsule((34, -58), (22, -40), 8.0, (0.10, 0.19), mirrored=True),  # orbital roofs
)
MASTOIDS = (Capsule((47, 23), (58, 30), 6.5, (-0.30, 0.17), mirrored=True),)
ORBITS = (Capsule((31, -62), (16, -34), 13.0, (-0.40, 0.13), mirrored=True),)
GLOBES = (Capsule((33, -64), (33, -65), 11.5, (-0.20, 0.12), mirrored=True),)
EYE_MUSCLES = (
    Capsule((30, -52), (17, -34), 1.6, (-0.20, 0.12), mirrored=True),  # optic nerves
    Capsule((42, -56), (24, -38), 1.4, (-0.20, 0.12), mirrored=True),
    Capsule((20, -56), (12, -38), 1.4, (-0.20, 0.12), mirrored=True),
)
ETHMOID = (Capsule((0, -70), (0, -40), 9.0, (-0.40, 0.13)),)
SPHENOID_SINUS = (Capsule((-5, -24), (5, -24), 8.0, (-0.30, 0.12)),)
FRONTAL_SINUS = (Capsule((4, 0), (14, 0), 3.5, (0.05, 0.30), mirrored=True),)


@dataclass(frozen=True)
class Head:
    """Sizes in mm, densities in HU, factors without a unit."""

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
        """Return the scale of structures that are specified for a head of ordinary size."""
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


@dataclass(frozen=True)
class Section:
    """Coarse fields of one head at one level, each float32 (128, 128), in mm where the name says so.

    `depth_mm` counts inwards from the inner table; the skull is where it is negative and `shell_mm`, counted inwards
    from the outer table, is not. `folds` crosses zero along the sulci. The rest are signed distances, negative inside.
    """

    level: float
    x_mm: Field
    y_mm: Field
    angle_rad: Field
    radius_mm: Field
    depth_mm: Field
    shell_mm: Field
    folds: Field
    grain: Field
    ventricles_mm: Field
    cisterns_mm: Field


def cut(head: Head, pose: Pose, level: float) -> Section:
    """Return the section of a head in its pose at a level from 0 (base) to about 1.04 (above the vertex)."""
    x, y = pose.head_coordinates()
    angle = np.arctan2(y, x)
    tilted = np.float32(level) + np.float32(head.roll / 100) * x
    radius = head.inner_radius_mm(angle, tilted)
    depth = radius - np.sqrt(x**2 + y**2)
    skull = np.float32(head.skull_mm * head.obliquity(level)) * (1 + np.float32(0.25) * np.abs(np.sin(angle)))
    x, y = _bent(head, pose, level, x, y)
    size = np.float32(head.size)
    growth = head.ventricle_growth * head.size
    return Section(
        level=level,
        x_mm=x,
        y_mm=y,
        angle_rad=angle,
        radius_mm=radius,
        depth_mm=depth,
        shell_mm=depth + skull,
        folds=head.folds.at(pose, level * HEIGHT_MM),
        grain=head.grain.at(pose, level * HEIGHT_MM),
        ventricles_mm=capsules_mm(x / size, y / size, level, VENTRICLES, growth=growth),
        cisterns_mm=capsules_mm(x / size, y / size, level, CISTERNS, growth=0.55 + 0.6 * head.atrophy),
    )


def _bent(head: Head, pose: Pose, level: float, x: Field, y: Field) -> tuple[Field, Field]:
    """Return coordinates pushed about by some mm, so that no structure is quite straight, round or symmetric."""
    push = np.float32(1.1)
    return x + push * head.bends[0].at(pose, level * HEIGHT_MM), y + push * head.bends[1].at(pose, level * HEIGHT_MM)


def paint_anatomy(head: Head, section: Section) -> tuple[Field, Mask]:
    """Paint everything a head without blood shows.

    Returns:
        Density in HU, float32 (512, 512), with sharp edges; and the mask of brain and fluid, where blood may be.
    """
    depth, shell = enlarge(section.depth_mm), enlarge(section.shell_mm)
    hu = np.full(depth.shape, AIR_HU, np.float32)
    _paint_scalp(hu, head, section, shell)
    _paint_skull(hu, head, depth, shell, enlarge(section.grain))
    inside = depth > 0
    _paint_brain(hu, head, section, inside)
    _paint_midline(hu, section, inside)
    paint_skull_base(hu, head, section, depth)
    _paint_calcium(hu, head, section)
    return hu, (depth > 0.6) & (hu > -20) & (hu < 80)


def _paint_scalp(hu: Field, head: Head, section: Section, shell: Field) -> None:
    thickness = head.scalp_mm
    hu[shell > -thickness] = SKIN_HU
    hu[shell > -thickness + 1.6] = FAT_HU
    hu[shell > -1.2] = MUSCLE_HU
    if section.level < 0.5:
        from_temple = np.abs(np.arctan2(np.abs(section.x_mm), -section.y_mm) - np.float32(1.3))
        bulge = np.float32(1.2 * thickness) * (1 - (from_temple / np.float32(0.6)) ** 2)
        temporal_muscle = enlarge(np.asarray(section.shell_mm + bulge, np.float32)) > 0
        hu[temporal_muscle & (shell <= 0)] = MUSCLE_HU


def _paint_skull(hu: Field, head: Head, depth: Field, shell: Field, grain: Field) -> None:
    bone = shell > 0
    hu[bone] = head.bone_hu
    spongy = (shell > 1.7) & (depth < -1.7)
    hu[spongy] = head.diploe_hu + np.float32(160) * grain[spongy]


def _paint_brain(hu: Field, head: Head, section: Section, inside: Mask) -> None:
    depth, size = section.depth_mm, np.float32(head.size)
    rim_mm = 0.6 + 2.0 * head.atrophy
    taper = np.clip(1.15 - depth / np.float32(SULCUS_DEPTH_MM), 0, 1)
    ribbon = np.clip((np.float32(0.75) - np.abs(section.folds)) * 3, 0, 1) * np.clip(taper * 4, 0, 1)
    np.maximum(ribbon, np.clip((rim_mm + 4 - depth) / 2, 0, 1), out=ribbon)
    nuclei = capsules_mm(section.x_mm / size, section.y_mm / size, section.level, DEEP_GRAY)
    np.maximum(ribbon, np.clip(0.5 - nuclei / 5, 0, 0.8), out=ribbon)
    hu[inside] = enlarge(np.float32(head.white_hu) + np.float32(head.gray_hu - head.white_hu) * ribbon)[inside]
    sulcus_width = np.float32(0.04 + 0.24 * head.atrophy) * np.maximum(taper, np.float32(1e-3))
    fluid = np.abs(enlarge(section.folds / sulcus_width)) < 1
    fluid |= enlarge(np.minimum(depth - np.float32(rim_mm), section.cisterns_mm)) < 0
    hu[fluid & inside] = FLUID_HU + 5
    hu[enlarge(np.maximum(section.ventricles_mm, 5 - depth)) < 0] = FLUID_HU


def _paint_midline(hu: Field, section: Section, inside: Mask) -> None:
    """Paint fissure, falx, tentorium and the superior sagittal sinus."""
    x, y = section.x_mm + np.sin(section.y_mm / 19), section.y_mm
    if section.level > 0.3:
        apart = (section.level > 0.78) | (y < -38) | ((y > 34) & (section.level > 0.42))
        aside = np.abs(enlarge(np.where(apart, x, np.sign(x) * NOWHERE_MM)))
        hu[inside & (aside < 1.7)] = FLUID_HU + 8
        hu[inside & (aside < 0.75)] = DURA_HU
        sinus = np.maximum(np.abs(x) - 4 + np.float32(0.6) * section.depth_mm, np.maximum(section.depth_mm - 5.5, -y))
        hu[inside & (enlarge(sinus) < 0)] = SINUS_HU
    edge = enlarge(capsules_mm(section.x_mm, section.y_mm, section.level, TENTORIUM))
    hu[(edge < 0) & inside] = DURA_HU - 6


def _paint_calcium(hu: Field, head: Head, section: Section) -> None:
    x, y, level = section.x_mm, section.y_mm, section.level
    if head.has_pineal_calcification:
        hu[enlarge(capsules_mm(x, y, level, PINEAL)) < 0] = 190
    if head.has_choroid_calcification and level > BASE_LEVEL:
        hu[enlarge(capsules_mm(x, y, level, CHOROID, growth=head.ventricle_growth)) < 0] = 160


def paint_skull_base(hu: Field, head: Head, section: Section, depth: Field) -> None:
    """Paint bone, air, fat and eyes into `hu`, float32 (512, 512), in place; nothing above `BASE_LEVEL`."""
    if section.level >= BASE_LEVEL:
        return
    size = np.float32(head.size)
    x, y, level = section.x_mm / size, section.y_mm / size, section.level
    wavy = section.grain * np.float32(1.6)

    def inside(capsules: tuple[Capsule, ...], roughness: Field | float = 0.0, margin_mm: float = 0.0) -> Mask:
        return np.asarray(enlarge(capsules_mm(x, y, level, capsules) + roughness) < margin_mm, np.bool_)

    cavity = depth > -1
    hu[inside(BONES, wavy) & cavity] = head.bone_hu * 0.8
    cells = enlarge(section.grain)
    mastoid = inside(MASTOIDS, wavy) & cavity
    hu[mastoid] = np.where(cells[mastoid] > -0.1, SINUS_AIR_HU, head.bone_hu * 0.6)
    hu[inside(ORBITS, margin_mm=1.8) & (enlarge(section.shell_mm) > 0)] = head.bone_hu * 0.55
    hu[inside(ORBITS) & (enlarge(section.shell_mm) > -2)] = ORBITAL_FAT_HU
    hu[inside(EYE_MUSCLES)] = EYE_MUSCLE_HU
    globe = capsules_mm(x, y, level, GLOBES)
    hu[enlarge(globe) < 0] = EYE_MUSCLE_HU
    hu[enlarge(globe) < -1.4] = GLOBE_HU
    if level < 0.1:
        hu[enlarge(ellipse_mm(np.abs(x), y, (33.0, -73.0), (4.5, 1.8))) < 0] = 85  # lenses
    hu[inside(ETHMOID, margin_mm=1.2)] = head.bone_hu * 0.35
    ethmoid = inside(ETHMOID)
    hu[ethmoid] = np.where(np.abs(cells[ethmoid]) > 0.25, SINUS_AIR_HU, head.bone_hu * 0.3)
    hu[inside(SPHENOID_SINUS, wavy, 1.5)] = head.bone_hu * 0.5
    hu[inside(SPHENOID_SINUS, wavy)] = SINUS_AIR_HU
    _paint_frontal_sinus(hu, head, section)


def _paint_frontal_sinus(hu: Field, head: Head, section: Section) -> None:
    """Air between the tables of the frontal bone, whose distance from the centre changes with the level."""
    between = np.float32(0.5) * (section.depth_mm + section.shell_mm)
    beside = capsules_mm(section.x_mm, between, section.level, FRONTAL_SINUS)
    front = enlarge(section.y_mm) < 0
    distance = enlarge(beside)
    hu[(distance < 1.5) & front & (enlarge(section.shell_mm) > 0)] = head.bone_hu
    hu[(distance < 0) & front] = SINUS_AIR_HU
