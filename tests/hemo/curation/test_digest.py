"""The name of a training set."""

from dataclasses import replace

import numpy as np
import pyarrow as pa

from hemo.config.curate import CurateConfig
from hemo.corpus.labels import LabelTable
from hemo.curation.digest import training_set_digest
from hemo.curation.select import Selection, select
from tests.made_shards import index_of


def selected(order: list[int], *, repainted: int | None = None) -> Selection:
    names = [f"ID_{number:03d}" for number in order]
    values = np.array([number % 2 for number in order], np.uint8)[:, None]
    pixels = [bytes([number, number == repainted]) + bytes(14) for number in order]
    index = index_of(
        [
            {"image_id": name, "patient": name, "pixel_digest": digest}
            for name, digest in zip(names, pixels, strict=True)
        ]
    )
    return select(
        CurateConfig(shards="s", labels="l", out="o"), index, LabelTable(("any",), pa.array(names), values, 0)
    )


def test_order_does_not_matter_and_everything_else_does():
    selection = selected(list(range(40)))
    digest = training_set_digest(selection, {"side_px": 2})
    assert training_set_digest(selected(list(reversed(range(40)))), {"side_px": 2}) == digest
    flipped = selection.rows.labels.copy()
    flipped[3] = 1 - flipped[3]
    moved = selection.splits.copy()
    moved[3] = (moved[3] + 1) % 3
    others = [
        training_set_digest(selection, {"side_px": 4}),
        training_set_digest(replace(selection, rows=replace(selection.rows, labels=flipped)), {"side_px": 2}),
        training_set_digest(replace(selection, splits=moved), {"side_px": 2}),
        training_set_digest(replace(selection, chosen=selection.chosen[1:], splits=moved[1:]), {"side_px": 2}),
        training_set_digest(selected(list(range(40)), repainted=3), {"side_px": 2}),
    ]
    assert len({digest, *others}) == 6
