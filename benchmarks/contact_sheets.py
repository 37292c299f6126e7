"""One picture a flag, to be looked at: flagged images beside others of the same conversion.

    python benchmarks/contact_sheets.py --conversion OUT --out sheets

Writes `FLAG.png` for every flag that occurs in the shards: left images with the flag, right a sample of those without,
drawn with a fixed seed. Each tile shows the first channel (of Hounsfield units -1000 to 600) with its id and flags.
"""

import argparse
import random
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from hemo.shards.reader import images_of
from hemo.shards.schema import read_footer

TILE_PX = 192
COLUMNS, ROWS = 4, 4  # of either half
GAP_PX = 24
WHITE = (255, 255, 255)


class Tile(NamedTuple):
    """An image to show."""

    image_id: str
    flags: tuple[str, ...]
    pixels: NDArray[Any]  # (height_px, width_px), uint8 or int16


def main() -> None:
    """Read the shards, write a sheet a flag."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--conversion", required=True, help="output folder of `hemo convert`")
    arguments.add_argument("--out", required=True, help="folder for the pictures")
    given = arguments.parse_args()
    tiles = read_tiles(Path(given.conversion, "shards"))
    by_flag: dict[str, list[Tile]] = defaultdict(list)
    for tile in tiles:
        for flag in tile.flags:
            by_flag[flag].append(tile)
    Path(given.out).mkdir(parents=True, exist_ok=True)
    for flag, flagged in sorted(by_flag.items()):
        others = [tile for tile in tiles if flag not in tile.flags]
        halves = [half_sheet(sample(group)) for group in (flagged, others)]
        gap = np.full((halves[0].shape[0], GAP_PX, 3), 255, np.uint8)
        cv2.imwrite(str(Path(given.out, f"{flag}.png")), np.hstack([halves[0], gap, halves[1]]))
        print(f"{flag}: {len(flagged)} of {len(tiles)} images")


def read_tiles(shards: Path) -> list[Tile]:
    """Return the first channel of every image of a conversion."""
    tiles = []
    for path in sorted(shards.glob("*.parquet")):
        footer = read_footer(str(path))
        if footer is None:
            raise SystemExit(f"{path} is no shard of hemo's")
        table = pq.read_table(path, columns=["image_id", "flags", "image"])
        shape = (len(footer.channels), footer.height_px, footer.width_px)
        rows = zip(table["image_id"].to_pylist(), table["flags"].to_pylist(), strict=True)
        images = images_of(table["image"], shape, footer.dtype)
        tiles += [Tile(name, tuple(flags), image[0]) for (name, flags), image in zip(rows, images, strict=True)]
    return tiles


def sample(tiles: Sequence[Tile]) -> list[Tile]:
    """Return as many as fit half a sheet, drawn with a fixed seed."""
    return random.Random(0).sample(list(tiles), min(len(tiles), COLUMNS * ROWS))


def half_sheet(tiles: Sequence[Tile]) -> NDArray[np.uint8]:
    """Return tiles in rows, shape (ROWS x TILE_PX, COLUMNS x TILE_PX, 3), uint8."""
    sheet = np.zeros((ROWS * TILE_PX, COLUMNS * TILE_PX, 3), np.uint8)
    for place, tile in enumerate(tiles):
        top, left = (TILE_PX * at for at in divmod(place, COLUMNS))
        sheet[top : top + TILE_PX, left : left + TILE_PX] = drawn(tile)
    return sheet


def drawn(tile: Tile) -> NDArray[np.uint8]:
    """Return a tile in grey with its id above and its flags below."""
    pixels = tile.pixels
    if pixels.dtype != np.uint8:
        pixels = np.clip((pixels.astype(np.float32) + 1000) * 255 / 1600, 0, 255).astype(np.uint8)
    picture = cv2.cvtColor(cv2.resize(pixels, (TILE_PX, TILE_PX), interpolation=cv2.INTER_AREA), cv2.COLOR_GRAY2BGR)
    for text, baseline in ((tile.image_id[-24:], 12), (" ".join(tile.flags), TILE_PX - 6)):
        cv2.putText(picture, text, (3, baseline), cv2.FONT_HERSHEY_SIMPLEX, 0.33, WHITE, 1, cv2.LINE_AA)
    return np.asarray(picture, np.uint8)


if __name__ == "__main__":
    main()
