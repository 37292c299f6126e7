"""From a planned slice to the bytes of its file and its labels: a pure function of the plan."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hemo.synthetic.anatomy import cut, paint_anatomy
from hemo.synthetic.dicom_file import capture_file, ct_file
from hemo.synthetic.faults import corrupt_pixels, photograph, truncate
from hemo.synthetic.hemorrhage import SUBTYPES, Subtype, paint_hemorrhage
from hemo.synthetic.plan import Scene, SlicePlan
from hemo.synthetic.scanner import paint_holder, scan

ROW_ORDER = (*SUBTYPES, "any")
"""Of the six rows of an image in the corpus's label table."""


@dataclass(frozen=True)
class SliceFile:
    """The bytes of one file and the subtypes that can be seen in it."""

    image_id: str
    data: bytes
    subtypes: tuple[Subtype, ...]


def make_slice_file(plan: SlicePlan) -> SliceFile:
    """Render a planned slice and write it as DICOM in memory: the same plan gives the same bytes."""
    hu, visible_px = render(plan.scene)
    subtypes = tuple(subtype for subtype in SUBTYPES if subtype in visible_px)
    rng = np.random.default_rng([*plan.scene.noise_seed, 1])
    if plan.fault == "photographed":
        return SliceFile(plan.identity.image, capture_file(photograph(hu, rng), plan.identity), subtypes)
    data = ct_file(corrupt_pixels(hu, plan.fault, rng), plan.identity, plan.scene.scanner.pixel_format)
    if plan.fault == "truncated":
        data = truncate(data, pixel_bytes=hu.nbytes)
    return SliceFile(plan.identity.image, data, subtypes)


def render(scene: Scene) -> tuple[NDArray[np.int16], dict[Subtype, int]]:
    """Return the slice in HU, int16 (512, 512), and how many pixels of blood of each subtype can be seen in it."""
    section = cut(scene.head, scene.pose, scene.level)
    hu, room = paint_anatomy(scene.head, section)
    visible_px = paint_hemorrhage(hu, room, section, scene.lesions)
    paint_holder(hu, scene.scanner, scene.pose.spacing_mm)
    return scan(hu, scene.scanner, scene.level, np.random.default_rng(scene.noise_seed)), visible_px


def label_table(plans: Sequence[SlicePlan], labels: Mapping[str, tuple[Subtype, ...]]) -> str:
    """Return the corpus's long label table: a header, then six rows an image, sorted by image.

    Args:
        plans: All slices. The rows of those labelled twice come a second time at the end.
        labels: Visible subtypes by image id.
    """
    once = sorted(plan.identity.image for plan in plans)
    again = sorted(plan.identity.image for plan in plans if plan.labelled_twice)
    lines = [line for image in [*once, *again] for line in label_rows(image, labels[image])]
    return "\n".join(["ID,Label", *lines, ""])


def label_rows(image_id: str, subtypes: tuple[Subtype, ...]) -> list[str]:
    """Return the six lines of an image in the long label table, such as `ID_0123_any,1`."""
    values = [subtype in subtypes for subtype in SUBTYPES] + [bool(subtypes)]
    return [f"{image_id}_{name},{int(value)}" for name, value in zip(ROW_ORDER, values, strict=True)]
