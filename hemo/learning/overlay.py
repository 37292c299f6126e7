"""A case as a picture: the image, and the same image under its heat map."""

import io

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

PANEL_INCHES = 3.6
DOTS_PER_INCH = 110
STRONGEST_OPACITY = 0.65


def case_png(image: NDArray[np.uint8], heat: NDArray[np.float32], title: str) -> bytes:
    """Draw image and heat map side by side.

    Args:
        image: (channels, height_px, width_px).
        heat: (height_px, width_px), 0 or more; drawn relative to its largest value.
        title: Text above, taken literally.

    Returns:
        PNG.
    """
    height_px, width_px = heat.shape
    figure = Figure(figsize=(2 * PANEL_INCHES * width_px / height_px, PANEL_INCHES + 0.7), dpi=DOTS_PER_INCH)
    figure.suptitle(title, fontsize=9, parse_math=False)
    left, right = figure.subplots(1, 2)
    seen, warmth = shown(image), relative(heat)
    for axes in (left, right):
        axes.imshow(seen, cmap="gray", vmin=0, vmax=255)
        axes.set_axis_off()
    right.imshow(warmth, cmap="inferno", vmin=0, vmax=1, alpha=STRONGEST_OPACITY * warmth)
    figure.tight_layout(pad=0.4)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def shown(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return channels as a picture: three as red, green and blue, else the middle one as grey.

    Of a slice with neighbours, whose channels are several times three, the slice itself is in the middle.
    """
    channels = len(image)
    if channels % 3:
        grey: NDArray[np.uint8] = image[channels // 2]
        return grey
    first = channels // 2 - 1
    return image[first : first + 3].transpose(1, 2, 0)


def relative(heat: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a heat map in 0..1, its largest value 1; one that is 0 everywhere stays so."""
    largest = heat.max()
    return (heat / largest).astype(np.float32) if largest > 0 else heat
