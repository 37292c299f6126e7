"""What the page of a data set shows, as a dict that JSON can hold: flow, contact sheets, rejects, audit, histograms."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hemo.config.curate import SPLITS
from hemo.curation.card import Count, TrainingSetCard
from hemo.reporting.documents.data_facts import STEP_NAMES, image_path
from hemo.reporting.page.data_set import DataSet, near_rows, read_pixels
from hemo.reporting.page.evidence import significant
from hemo.reporting.page.gallery import COLUMNS, MOST_TILES, as_picture, make_sprite

SHEET_IMAGES = 240
"""Images of a contact sheet, at most; fewer where all sheets together would have more than `MOST_TILES`."""
MOST_SHEETS = 40
"""Contact sheets of flags, labels and pixel formats: those of the most images."""
WINDOW_IMAGES = 12
"""Images of which each window is shown."""
MOST_REJECTS = 5000
"""Rejects on the page; all are in `rejects.parquet`."""
MOST_PAIRS = 12
"""Groups of equal pixels, and pairs of nearly the same image, that are shown."""
NEAR_DUPLICATES = "near-duplicates"
LEFT_OUT = {
    "labelled": "Without a row in the label table",
    "clean": "Left out for a flag",
    "balance": "Left out to balance train",
    "subset": "Left out by the subset",
}
"""Step of `curate` -> title of the images that it removes."""
BINS = 30


def data_page(data: DataSet) -> dict[str, Any]:
    """Return what the page of a data set shows."""
    sheets, pixels = contact_sheets(data) if data.ids_are_public else ([], [])
    units = (
        [_histogram("Hounsfield units of the images shown", "HU", np.concatenate([image.ravel() for image in pixels]))]
        if data.card.dtype == "int16" and pixels
        else []
    )
    return {
        "sheets": sheets,
        "gallery": {"sprite": make_sprite([as_picture(image) for image in pixels]), "columns": COLUMNS},
        "histograms": [*units, *histograms(data.rows)],
        "rejects": rejects(data.rejects),
    }


def flow(data: DataSet) -> list[dict[str, Any]]:
    """Return the boxes of the flow of inclusion, each with what was left out after it."""
    card = data.card
    conversion = card.conversion if isinstance(card, TrainingSetCard) else card
    ignored = (
        f"{conversion.ignored_files:,} other files of the source are no images" if conversion.ignored_files else ""
    )
    boxes = [_box("Files of the corpus", f"{conversion.files:,}", ignored)]
    boxes[0]["out"] = _out("Rejected files or frames", conversion.rejects, conversion.reject_reasons)
    if not isinstance(card, TrainingSetCard):
        flags = ", ".join(f"{name} {count:,}" for name, count in card.flags.items())
        read = f"{card.patients:,} patients" + (f"; flags {flags}" if flags else "")
        return [*boxes, _box("Images read", f"{card.rows:,}", read)]
    for number, step in enumerate(card.steps):
        boxes.append(_box(STEP_NAMES.get(step.name, step.name).capitalize(), f"{step.left.rows:,}", _people(step.left)))
        if number + 1 < len(card.steps) and (after := card.steps[number + 1]).removed:
            boxes[-1]["out"] = _out(LEFT_OUT[after.name], after.removed, after.reasons, after.detail)
    return boxes


def _box(title: str, count: str, detail: str) -> dict[str, Any]:
    return {"title": title, "count": count, "detail": detail, "out": None}


def _out(title: str, count: int, reasons: Mapping[str, int], detail: str = "") -> dict[str, Any] | None:
    if not count:
        return None
    listed = [f"{name} {number:,}" for name, number in sorted(reasons.items(), key=lambda item: -item[1])]
    return {"title": title, "count": f"{count:,}", "reasons": listed or [text for text in (detail,) if text]}


def _people(count: Count) -> str:
    return f"{count.patients:,} patients"


def split_boxes(card: TrainingSetCard) -> list[dict[str, Any]]:
    """Return the last boxes of the flow: images, patients and labels of each split."""
    return [
        {
            "title": split,
            "count": f"{card.splits[split].rows:,}",
            "detail": _people(card.splits[split]),
            "labels": [
                f"{name} {count:,} ({count / max(1, card.splits[split].labelled(name)):.1%})"
                for name, count in card.splits[split].positives.items()
            ],
        }
        for split in SPLITS
    ]


def audit_facts(card: TrainingSetCard) -> list[tuple[str, str]]:
    """Return what the audit counted and found, as pairs of term and text."""
    facts = []
    for name, value in card.audit.items():
        if isinstance(value, int | float | str):
            facts.append((name.replace("_", " "), f"{value:,}" if isinstance(value, int) else str(value)))
        elif isinstance(value, list) and value:
            facts.append((name.replace("_", " "), "; ".join(map(str, value))))
    return facts


def made(data: DataSet) -> Iterator[tuple[str, str]]:
    """Yield how the images were made, as pairs of term and text."""
    card = data.card
    yield "digest", card.digest
    yield "corpus", f"`{card.image.get('corpus', 'unknown')}`"
    if isinstance(card, TrainingSetCard):
        yield "images", image_path(card)
        yield "split", f"`{card.split}`"
        yield from ((name, text) for name, text in card.dataset.model_dump().items() if isinstance(text, str) and text)
    else:
        yield "images", f"{', '.join(card.channels)}; {card.height_px} x {card.width_px} px, {card.dtype}"
        yield "units", f"{card.units:,}"


def contact_sheets(data: DataSet) -> tuple[list[dict[str, Any]], list[NDArray[np.uint8]]]:
    """Return sheets of images by flag, label, pixel format and window and of near-duplicates, and the sprite's images.

    A sheet has `kind`, `name`, the `count` of images it stands for, and `tiles`: number in the sprite and caption. An
    image is in the sprite once, whatever the number of sheets it is in. A sheet of pairs also has `pairs`: what is
    written below each two tiles.
    """
    groups = {f"{kind}\0{name}": rows for kind, name, rows in _groups(data)}
    largest = sorted(groups, key=lambda key: -len(groups[key]))[:MOST_SHEETS]
    count, pairs = _near_duplicates(data)
    captions = [caption for _, caption in pairs]
    of_pairs = [row for rows, _ in pairs for row in rows]
    spare = MOST_TILES - len(of_pairs) - WINDOW_IMAGES * len(data.card.channels)
    most = images_of_a_sheet([len(groups[key]) for key in largest], spare)
    chosen = near_rows(data, {key: groups[key] for key in groups if key in largest}, most)
    pixels = read_pixels(data, [*(row for rows in chosen.values() for row in rows), *of_pairs])
    tiles = {row: number for number, row in enumerate(sorted(pixels))}
    images = [pixels[row] for row in sorted(pixels)]
    ids = data.rows["image_id"].to_pylist()
    sheets = []
    for key in groups:
        if chosen.get(key):
            kind, name = key.split("\0")
            shown = [[tiles[row], ids[row]] for row in chosen[key]]
            sheets.append({"kind": kind, "name": name, "count": len(groups[key]), "tiles": shown})
    if pairs:
        shown = [[tiles[row], ids[row]] for row in of_pairs]
        sheet = {"kind": NEAR_DUPLICATES, "name": "of two patients", "count": 2 * count, "tiles": shown}
        sheets.append({**sheet, "pairs": captions})
    if len(data.card.channels) > 1 and pixels:
        some = sorted(pixels)[:: max(1, len(pixels) // WINDOW_IMAGES)][:WINDOW_IMAGES]
        for channel, name in enumerate(data.card.channels):
            shown = [[len(images) + number, f"{ids[row]}, {name}"] for number, row in enumerate(some)]
            images += [pixels[row][channel : channel + 1] for row in some]
            sheets.append({"kind": "window", "name": name, "count": len(data.rows), "tiles": shown})
    return sheets, images


def images_of_a_sheet(counts: Sequence[int], most: int) -> int:
    """Return how many images a sheet may have, `SHEET_IMAGES` at most, so that all together have no more than `most`.

    Args:
        counts: Of images in each group; a sheet of a smaller group has all of them.
        most: At least one for each group.
    """
    return next(each for each in range(SHEET_IMAGES, 0, -1) if sum(min(each, count) for count in counts) <= most)


def _groups(data: DataSet) -> Iterator[tuple[str, str, NDArray[np.int64]]]:
    """Yield kind, name and rows of each group of images."""
    flags = data.rows["flags"].to_pylist()
    for name in sorted({flag for each in flags for flag in each}):
        yield "flag", name, np.array([row for row, each in enumerate(flags) if name in each])
    clear = np.array([row for row, each in enumerate(flags) if not each], np.int64)
    if len(clear) < len(flags):
        yield "flag", "none", clear
    for column in (name for name in data.rows.schema.names if name.startswith("label_")):
        labels = data.rows[column].fill_null(2).to_numpy()
        name = column.removeprefix("label_")
        yield "label", name, np.flatnonzero(labels == 1)
        if name == "any" or sum(each.startswith("label_") for each in data.rows.schema.names) == 1:
            yield "label", f"no {name}", np.flatnonzero(labels == 0)
    yield from _equal_pixels(data)
    formats = data.rows["pixel_format"].to_numpy(zero_copy_only=False)
    for name in sorted(set(formats)):
        yield "pixel format", name, np.flatnonzero(formats == name)


def _equal_pixels(data: DataSet) -> Iterator[tuple[str, str, NDArray[np.int64]]]:
    """Yield the images of the set in each group of equal pixels that the audit found, `MOST_PAIRS` groups at most."""
    if data.audit is None:
        return
    places = {name: row for row, name in enumerate(data.rows["image_id"].to_pylist())}
    for number in pc.unique(data.audit["equal_pixels"]).to_pylist()[:MOST_PAIRS]:
        members = data.audit.filter(pc.equal(data.audit["equal_pixels"], number))
        rows = [places[name] for name in members["image_id"].to_pylist() if name in places]
        conflict = ", labels differ" if pc.any(members["conflict"]).as_py() else ""
        links = ", links patients" if pc.any(members["links_patients"]).as_py() else ""
        if rows:
            yield "equal pixels", f"{len(members)} files{links}{conflict} ({number})", np.array(sorted(rows))


def _near_duplicates(data: DataSet) -> tuple[int, list[tuple[tuple[int, int], str]]]:
    """Return the number of pairs whose images are both in the set; two rows and caption of those that are shown.

    These are `MOST_PAIRS` at most, in two splits first, then by similarity.
    """
    if data.near_duplicates is None:
        return 0, []
    ids = data.rows["image_id"].combine_chunks()
    there = [pc.is_in(data.near_duplicates[f"image_id_{side}"], ids) for side in "12"]
    pairs = data.near_duplicates.filter(pc.and_(*there))  # the most similar first
    same = pc.fill_null(pc.equal(pairs["split_1"], pairs["split_2"]), False)
    shown = pa.concat_tables([pairs.filter(pc.invert(same)), pairs.filter(same)]).slice(0, MOST_PAIRS)
    rows = zip(*(pc.index_in(shown[f"image_id_{side}"], ids).to_pylist() for side in "12"), strict=True)
    return len(pairs), list(zip(rows, map(_pair_caption, shown.to_pylist()), strict=True))


def _pair_caption(pair: Mapping[str, Any]) -> str:
    """Return cosine, and image, patient and split of the left and of the right image of a pair."""
    left, right = (f"{pair[f'image_id_{n}']}, patient {pair[f'patient_{n}']}, {pair[f'split_{n}']}" for n in "12")
    return f"cosine {pair['cosine']:.3f}. Left: {left}. Right: {right}"


def histograms(rows: pa.Table) -> Iterator[dict[str, Any]]:
    """Yield title, unit, and counts between edges, of what the images have."""
    known = {
        "Brain fraction": ("fraction of pixels with 0 < HU < 80", _values(rows["brain_fraction"])),
        "Slice thickness": ("mm", _values(rows["slice_thickness_mm"])),
        "Slice spacing": ("mm, median of each series", slice_spacings(rows)),
        "Slices a study": ("images", _counts(rows["study"])),
        "Images a patient": ("images", _counts(rows["patient"])),
    }
    for title, (unit, values) in known.items():
        if len(values):
            yield _histogram(title, unit, values)


def _histogram(title: str, unit: str, values: NDArray[Any]) -> dict[str, Any]:
    """Return counts between edges; whole numbers of a small range have a bar each."""
    low, high = float(values.min()), float(values.max())  # differences of int16 wrap
    whole = high - low < BINS and bool((values == np.round(values)).all())
    counts, edges = np.histogram(values, bins=np.arange(low - 0.5, high + 1) if whole else BINS)
    return {
        "title": title,
        "unit": unit,
        "counts": counts.tolist(),
        "edges": [significant(float(edge)) for edge in edges],
        "median": significant(float(np.median(values))),
        "known": len(values),
    }


def _values(column: pa.ChunkedArray) -> NDArray[np.float64]:
    return np.asarray(column.drop_null().to_numpy(), np.float64)


def _counts(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """Return how many images each value has, without those that are null."""
    return np.asarray(pc.value_counts(column.drop_null()).field("counts").to_numpy(), np.float64)


def slice_spacings(rows: pa.Table) -> NDArray[np.float64]:
    """Return the median distance of neighbouring slices of each series of several positions, in mm.

    Source:
        DICOM PS3.3 C.7.6.2: the position along the normal, from Image Position (Patient).
    """
    table = (
        rows.select(["series", "position_mm"])
        .drop_null()
        .sort_by([("series", "ascending"), ("position_mm", "ascending")])
    )
    series, positions = table["series"].to_numpy(zero_copy_only=False), table["position_mm"].to_numpy()
    found: dict[str, list[float]] = {}
    for name, other, gap in zip(series[:-1], series[1:], np.diff(positions), strict=True):
        if name == other and gap > 0:
            found.setdefault(name, []).append(float(gap))
    return np.array([np.median(gaps) for gaps in found.values()])


def rejects(table: pa.Table | None) -> dict[str, Any] | None:
    """Return the rejects of shards as rows, `MOST_REJECTS` at most, and how many there are; None of a training set."""
    if table is None or not len(table):
        return None
    columns = ["reason", "source_path", "frame", "detail"]
    rows = table.select(columns).slice(0, MOST_REJECTS).to_pydict()
    return {
        "columns": columns,
        "rows": list(map(list, zip(*(rows[name] for name in columns), strict=True))),
        "count": len(table),
    }
