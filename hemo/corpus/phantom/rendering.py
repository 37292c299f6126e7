"""A planned slice to an image: a pure function of its plan."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hemo.corpus.phantom.anatomy import paint_anatomy
from hemo.corpus.phantom.geometry import Pose
from hemo.corpus.phantom.head import Head
from hemo.corpus.phantom.hemorrhage import Lesion, Subtype, paint_hemorrhage
from hemo.corpus.phantom.scanner import Scanner, paint_holder, scan
from hemo.corpus.phantom.section import cut


@dataclass(frozen=True)
class Scene:
    """Everything the pixels of a slice depend on."""

    head: Head
    pose: Pose
    scanner: Scanner
    level: float
    lesions: tuple[Lesion, ...]
    noise_seed: tuple[int, ...]


def render(scene: Scene) -> tuple[NDArray[np.int16], dict[Subtype, int]]:
    """Return the slice in HU, int16 (512, 512), and how many pixels of blood of each subtype can be seen in it."""
    section = cut(scene.head, scene.pose, scene.level)
    hu, room = paint_anatomy(scene.head, section)
    visible_px = paint_hemorrhage(hu, room, section, scene.lesions)
    paint_holder(hu, scene.scanner, scene.pose.spacing_mm)
    return scan(hu, scene.scanner, scene.level, np.random.default_rng(scene.noise_seed)), visible_px
