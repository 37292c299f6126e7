"""Thumbnails for the page: images in one sprite, the most confident mistakes of trials, and pictures of `explain`."""

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hemo.errors import ConfigError, SourceError
from hemo.imaging.hounsfield import apply_windows
from hemo.imaging.image import displayed
from hemo.imaging.settings import WINDOWS
from hemo.reporting.comparison import Comparison
from hemo.reporting.documents.mistakes import Mistake, confident_mistakes
from hemo.reporting.page.data_set import DataSet, read_pixels
from hemo.reporting.page.evidence import with_evidence
from hemo.reporting.trial_row import read_test
from hemo.storage import exists, join, read_bytes, read_json
from hemo.trials.predictions import split_rows
from hemo.trials.record import TrialRecord, read_predictions, title_of

TILE_PX = 64
"""Side of a thumbnail."""
COLUMNS = 40
"""Thumbnails in a row of the sprite."""
MISTAKES = 24
"""Mistakes of a trial, at most."""
MOST_TILES = 2000
"""Images of a page: mistakes of all trials together, or all contact sheets."""
PICTURE_PX = 480
"""Longest side of a picture of `explain`."""
SAME = 0.01
"""Two probabilities of one checkpoint and image differ by less, whatever the device."""
NOTE = (
    "Wrong predictions on test, those to which the model gave the highest probability first. The label may be wrong as "
    "well: look before you conclude."
)
NOT_PUBLIC = (
    "No images: ids are pseudonyms, so these are patients who are not public, and a page is easily passed on. Look at "
    "such images with `hemo explain`."
)
QUALITY = 72
"""Of the sprite's JPEG: a thumbnail takes some 1.5 kB."""


def add_mistakes(
    shown: dict[str, Any], comparisons: Sequence[Comparison], records: str, data: DataSet, heat_maps: str
) -> None:
    """Add the most confident mistakes of trials to what the page shows of them, and the images as one sprite.

    Each is image_id, label, predicted label, probability and number in the sprite. Trials of other training sets have
    none. Where ids are pseudonyms, the page says why there are no images.

    Args:
        shown: As `study_data` returns it; `gallery` and `mistakes` of trials are added.
        comparisons: In the same order.
        records: Folder of records with the predictions.
        data: The training set.
        heat_maps: Output folder of `explain` for the best trial; empty: none.

    Raises:
        SourceError: If predictions, images or pictures cannot be read.
        ConfigError: If the pictures are of another trial.
    """
    gallery: dict[str, Any] = {"columns": COLUMNS, "sprite": "", "pictures": {}, "note": NOT_PUBLIC}
    shown["gallery"] = gallery
    if not data.ids_are_public:
        return
    found = _mistakes(comparisons, records, data.card.digest)
    rows = {name: row for row, name in enumerate(data.rows["image_id"].to_pylist())}
    wanted = list(dict.fromkeys(each.image_id for mistakes in found.values() for each in mistakes))
    wanted = [name for name in wanted if name in rows][:MOST_TILES]
    pixels = read_pixels(data, [rows[name] for name in wanted])
    tiles = {name: number for number, name in enumerate(wanted)}
    gallery["sprite"] = make_sprite([as_picture(pixels[rows[name]]) for name in wanted])
    gallery["note"] = NOTE
    for comparison, trials in zip(comparisons, shown["comparisons"], strict=True):
        for trial in trials["trials"]:
            trial["mistakes"] = [
                [each.image_id, each.label, each.predicted, f"{each.probability:.3f}", tiles.get(each.image_id)]
                for each in found.get(trial["digest"], ())
            ]
        if heat_maps and comparison.best and comparison.best.record.digest in found:
            gallery["pictures"] |= _pictures(heat_maps, comparison.best.record, records)


def _mistakes(comparisons: Sequence[Comparison], records: str, training_set: str) -> dict[str, list[Mistake]]:
    """Return digest -> mistakes of the trials of a training set whose curves the page holds."""
    found = {}
    for row in (row for comparison in comparisons for row in with_evidence(comparison)):
        test = read_test(row.record, records) if row.record.training_set == training_set else None
        if test:
            found[row.record.digest] = confident_mistakes(row.record, test, records, MISTAKES)
    return found


def _pictures(folder: str, record: TrialRecord, records: str) -> dict[str, str]:
    """Return `DIGEST IMAGE_ID` -> picture of image and heat map, as a data URI.

    Raises:
        SourceError: If the folder has no pictures.
        ConfigError: If their probabilities are not those of the trial.
    """
    location = join(folder, "cases.json")
    content = read_json(location) if exists(location) else None
    if not isinstance(content, dict):
        raise SourceError(f"heat_maps: {folder} has no cases.json; give an output folder of `hemo explain`")
    test = read_test(record, records)
    ids = split_rows(read_predictions(records, record.digest), "test")["image_id"].to_pylist()
    pictures = {}
    for case in content["cases"]:
        if test is None or case["image_id"] not in ids:
            continue
        probability = float(test.probabilities[ids.index(case["image_id"]), record.classes.index(case["class"])])
        if abs(probability - case["probability"]) > SAME:
            raise ConfigError(
                f"heat_maps: {folder} is of another trial than {title_of(record)}: {case['image_id']} has probability "
                f"{case['probability']:.3f} there, {probability:.3f} here; explain the best trial"
            )
        picture = Image.open(io.BytesIO(read_bytes(join(folder, case["file"])))).convert("RGB")
        picture.thumbnail((PICTURE_PX, PICTURE_PX))
        pictures[f"{record.digest} {case['image_id']}"] = data_uri(picture)
    return pictures


def as_picture(image: NDArray[Any]) -> NDArray[np.uint8]:
    """Return an image, (channels, height_px, width_px), in 8 bits: Hounsfield units in the brain window."""
    return apply_windows(image[0].astype(np.float32), [WINDOWS["brain"]]) if image.dtype == np.int16 else image


def make_sprite(images: Sequence[NDArray[np.uint8]]) -> str:
    """Return images as one JPEG, `TILE_PX` each, `COLUMNS` in a row, as a data URI.

    Args:
        images: Each of shape (channels, height_px, width_px).
    """
    if not images:
        return ""
    rows = -(-len(images) // COLUMNS)
    sheet = Image.new("RGB", (TILE_PX * min(COLUMNS, len(images)), TILE_PX * rows))
    for number, image in enumerate(images):
        sheet.paste(_tile(image), (TILE_PX * (number % COLUMNS), TILE_PX * (number // COLUMNS)))
    return data_uri(sheet)


def _tile(image: NDArray[np.uint8]) -> Image.Image:
    """Return an image in a black square of `TILE_PX`, its sides in proportion."""
    picture = Image.fromarray(np.ascontiguousarray(displayed(image))).convert("RGB")
    picture.thumbnail((TILE_PX, TILE_PX), Image.Resampling.BOX)
    if max(picture.size) < TILE_PX:
        scale = TILE_PX / max(picture.size)
        picture = picture.resize(
            (round(picture.width * scale), round(picture.height * scale)), Image.Resampling.NEAREST
        )
    square = Image.new("RGB", (TILE_PX, TILE_PX))
    square.paste(picture, ((TILE_PX - picture.width) // 2, (TILE_PX - picture.height) // 2))
    return square


def data_uri(picture: Image.Image) -> str:
    """Return a picture as the data URI of a JPEG."""
    content = io.BytesIO()
    picture.convert("RGB").save(content, format="JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"
