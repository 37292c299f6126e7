"""What lies where in one section of a head: distances and textures, before any density is painted."""

from dataclasses import dataclass

import numpy as np

from hemo.corpus.phantom.geometry import Capsule, Field, Pose, capsules_mm
from hemo.corpus.phantom.head import HEIGHT_MM, Head

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
    """Cut a head as it lies at a level from 0 (base) to about 1.04 (above the vertex)."""
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
