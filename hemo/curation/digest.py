"""Names a training set by its content."""

import hashlib
from typing import Any

import pyarrow.compute as pc

from hemo.config.digest import digest_of
from hemo.curation.rows import text_column
from hemo.curation.select import Selection


def training_set_digest(selection: Selection, image: dict[str, Any]) -> str:
    """Return 16 hexadecimal digits of the ids, labels and splits, whatever their order, and of how images were made.

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
    return digest_of({"rows": content.hexdigest(), "classes": list(selection.rows.classes), "image": image})
