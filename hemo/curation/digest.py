"""Names a training set by its content."""

import hashlib
from typing import Any

import pyarrow.compute as pc

from hemo.curation.rows import text_column
from hemo.curation.select import Selection
from hemo.digest import digest_of

NO_PIXELS = bytes(16)
"""Stands for a pixel digest that is not known."""


def training_set_digest(selection: Selection, image: dict[str, Any]) -> str:
    """Return 16 hexadecimal digits of ids, labels, splits and pixels, whatever their order, and of how images are made.

    The pixels count: a file mended under its old name is another picture to learn from.

    Args:
        selection: Rows, labels and splits.
        image: What shapes the pixels, as the card holds it.
    """
    image_ids = text_column(selection.rows.index, "image_id").take(selection.chosen)
    order = pc.sort_indices(image_ids).to_numpy()
    content = hashlib.sha256()
    content.update("\n".join(str(name) for name in image_ids.take(order).to_pylist()).encode())
    content.update(selection.rows.labels[selection.chosen[order]].tobytes())
    content.update(selection.splits[order].tobytes())
    pixels = selection.rows.index["pixel_digest"].take(selection.chosen[order]).fill_null(NO_PIXELS).combine_chunks()
    content.update(memoryview(pixels.buffers()[1])[: len(NO_PIXELS) * len(pixels)])
    return digest_of({"rows": content.hexdigest(), "classes": list(selection.rows.classes), "image": image})
