"""Paint a section in HU: scalp, skull, brain, fluid, falx, calcium. No blood, no noise."""

import numpy as np

from hemo.corpus.phantom.geometry import NOWHERE_MM, Field, Mask, capsules_mm, enlarge
from hemo.corpus.phantom.head import Head
from hemo.corpus.phantom.section import CHOROID, DEEP_GRAY, PINEAL, TENTORIUM, Section
from hemo.corpus.phantom.skull_base import BASE_LEVEL, paint_skull_base

AIR_HU, FAT_HU, SKIN_HU, MUSCLE_HU, FLUID_HU, DURA_HU, SINUS_HU = -1000, -90, 30, 52, 7, 62, 54
"""Textbook values; dura and venous sinus stand out from brain as blood does, and are not blood."""

SULCUS_DEPTH_MM = 21.0


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
