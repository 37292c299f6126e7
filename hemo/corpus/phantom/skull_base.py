"""The lowest slices: petrous bones, sphenoid, orbits, and air in sinuses and mastoids."""

import numpy as np

from hemo.corpus.phantom.geometry import Capsule, Field, Mask, capsules_mm, ellipse_mm, enlarge
from hemo.corpus.phantom.head import Head
from hemo.corpus.phantom.section import Section

BASE_LEVEL = 0.30
"""Above this level nothing here is seen."""

SINUS_AIR_HU, FAT_HU, GLOBE_HU, EYE_MUSCLE_HU = -970, -95, 12, 45

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
    hu[inside(ORBITS) & (enlarge(section.shell_mm) > -2)] = FAT_HU
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
