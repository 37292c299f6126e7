"""Render a planned slice to the bytes of its file and its rows of the label table: a pure function of the plan."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from hemo.synthetic.anatomy import cut, paint_anatomy
from hemo.synthetic.hemorrhage import SUBTYPES, Subtype, paint_hemorrhage
from hemo.synthetic.plan import Fault, Scene, SlicePlan
from hemo.synthetic.scanner import capture_file, ct_file, paint_holder, scan

ROW_ORDER = (*SUBTYPES, "any")
"""Of the six rows of an image in the corpus's label table."""

TRUNCATED_FRACTION = 153_710 / 524_288
"""Of the pixel data, as in `ID_6431af929` of the corpus."""

NOISE_FROM_ROW = 332
"""As in `ID_b79eed528` of the corpus."""

CONSTANT_HU = -1000


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
    hu, allowed = paint_anatomy(scene.head, section)
    paint_hemorrhage(hu, allowed, section, scene.partial_volume)
    visible_px = paint_hemorrhage(hu, allowed, section, scene.lesions)
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


def corrupt_pixels(hu: NDArray[np.int16], fault: Fault | None, rng: np.random.Generator) -> NDArray[np.int16]:
    """Return the slice in HU, int16 (512, 512), as a detector's fault leaves it; the same where there is none."""
    if fault == "constant":
        return np.full_like(hu, CONSTANT_HU)
    if fault == "noise":
        corrupted = hu.copy()
        corrupted[NOISE_FROM_ROW:] = rng.integers(-1000, 3000, corrupted[NOISE_FROM_ROW:].shape)
        return corrupted
    return hu


def truncate(file: bytes, pixel_bytes: int) -> bytes:
    """Return a file that ends within its pixel data, `pixel_bytes` long, as if a transfer had been cut off."""
    missing = pixel_bytes - int(pixel_bytes * TRUNCATED_FRACTION)
    return file[: len(file) - missing]


def photograph(hu: NDArray[np.int16], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a colour photo of a screen that shows the slice in the brain window, uint8 (512, 512, 3)."""
    side = hu.shape[0]
    screen = np.clip(hu.astype(np.float32) * (255 / 80), 0, 255)
    corners = np.array([[0, 0], [side, 0], [side, side], [0, side]], np.float32)
    seen = (corners * 0.84 + 0.08 * side + rng.uniform(-18, 18, (4, 2))).astype(np.float32)
    photo = cv2.warpPerspective(screen, cv2.getPerspectiveTransform(corners, seen), (side, side), borderValue=(28.0,))
    rows, columns = np.mgrid[0:side, 0:side].astype(np.float32)
    glare = 70 * np.exp(-((rows - 0.2 * side) ** 2 + (columns - 0.75 * side) ** 2) / (0.22 * side) ** 2)
    moire = 9 * np.sin(rows * 0.9 + columns * 0.13)
    tints = np.array([0.86, 0.95, 1.0], np.float32)
    colour = (photo * 0.8 + glare + moire)[..., None] * tints + rng.normal(0, 4, (side, side, 3))
    return np.asarray(np.clip(colour, 0, 255), np.uint8)
