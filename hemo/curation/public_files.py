"""Files of a training set that may be shown without it: `croissant.json`, and `split_manifest.csv` of hashes only."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from hemo.config.curate import SPLITS
from hemo.curation.card import PartFile, TrainingSetCard
from hemo.shards.schema import IMAGE, ROW_SCHEMA

CROISSANT, SPLIT_MANIFEST = "croissant.json", "split_manifest.csv"

HASH_DIGITS = 32
"""Hexadecimal digits of a SHA-256 in the manifest: 128 bits, at which no two images are expected to be equal."""

PARQUET = "application/x-parquet"

CROISSANT_VERSION = "http://mlcommons.org/croissant/1.0"

CROISSANT_TERMS = (
    *("citeAs", "column", "equivalentProperty", "extract", "field", "fileObject", "fileProperty", "fileSet", "format"),
    *("includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references", "regex"),
    *("repeated", "replace", "samplingRate", "separator", "source", "subField", "transform"),
)

CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    **{name: f"cr:{name}" for name in CROISSANT_TERMS},
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
}
"""JSON-LD context of Croissant 1.0, which readers expect in full."""

PARTS, IMAGES, SPLIT_NAMES = "parts", "images", "splits"
"""`@id` of the set of all parts, of the records of images, and of the names of splits."""

SPLIT_URLS = {"train": "cr:TrainingSplit", "val": "cr:ValidationSplit", "test": "cr:TestSplit"}

DESCRIPTIONS = {
    "image_id": "name of the image, unique in the data set",
    "patient": "whose image it is; where no patient is known, its study, series or the image itself",
    "position_mm": "position of a slice along the normal of the image plane",
    "flags": "why the image is suspect, such as blank",
    "pixel_digest": "xxh3-128 of the pixels at full size",
    "pixel_format": "signedness and bits stored in the source",
}
"""What columns hold whose names do not say it."""


def split_manifest(image_ids: pa.StringArray, pixel_digests: "pa.Array[Any]", splits: Sequence[str]) -> bytes:
    """Return which image is in which split as a CSV of hashes: `image,pixels,split`, sorted: order says nothing.

    Who has the same images can compute the same hashes and compare splits. Under a pseudonym key ids and pixel digests
    are keyed already, so that only who holds the key can.

    Args:
        image_ids: As the training set has them, shape (images,).
        pixel_digests: `pixel_digest` of each, 16 bytes or null, shape (images,).
        splits: Name of each one's split.
    """
    rows = zip(image_ids.to_pylist(), pixel_digests.to_pylist(), splits, strict=True)
    lines = sorted(f"{_hash(str(name).encode())},{_hash(pixels)},{split}\n" for name, pixels, split in rows)
    return ("image,pixels,split\n" + "".join(lines)).encode()


def images_of(manifest: bytes) -> set[bytes]:
    """Return the hashes of the image ids in a `split_manifest`."""
    return {line.partition(b",")[0] for line in manifest.splitlines()[1:]}


def _hash(content: bytes | None) -> str:
    return hashlib.sha256(content).hexdigest()[:HASH_DIGITS] if content else ""


def croissant(card: TrainingSetCard) -> dict[str, Any]:
    """Return the Croissant 1.0 metadata of a training set, JSON-LD: its files with their hashes, columns and splits.

    Locations are relative to the training set, where the file belongs.

    Args:
        card: Of a complete training set, with its parts.

    Source:
        https://docs.mlcommons.org/croissant/docs/croissant-spec-1.0.html
    """
    dataset = card.dataset
    known = {
        "description": dataset.description or _description(card),
        "license": dataset.license,
        "url": dataset.url,
        "creator": [{"@type": "sc:Person", "name": name} for name in dataset.creators],
        "publisher": {"@type": "sc:Organization", "name": dataset.publisher} if dataset.publisher else {},
        "citeAs": dataset.cite_as,
        "version": dataset.version,
        "datePublished": dataset.date_published,
    }
    images = {"@type": "cr:RecordSet", "@id": IMAGES, "name": IMAGES, "key": {"@id": f"{IMAGES}/image_id"}}
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CROISSANT_VERSION,
        "name": dataset.name or f"hemo-training-set-{card.digest}",
        **{name: value for name, value in known.items() if value},
        "distribution": [_file_set(), *(_file_object(part) for part in card.parts)],
        "recordSet": [_split_names(), {**images, "field": list(_fields(card))}],
    }


def _description(card: TrainingSetCard) -> str:
    sizes = ", ".join(f"{card.splits[split].rows:,} in {split}" for split in SPLITS)
    return f"Images with labels of {', '.join(card.classes)}: {sizes}, split {card.split}."


def _file_set() -> dict[str, Any]:
    includes = [f"{split}/*.parquet" for split in SPLITS]
    return {"@type": "cr:FileSet", "@id": PARTS, "name": PARTS, "encodingFormat": PARQUET, "includes": includes}


def _file_object(part: PartFile) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": part.path,
        "name": part.path,
        "contentUrl": part.path,
        "contentSize": f"{part.size_bytes} B",
        "encodingFormat": PARQUET,
        "sha256": part.sha256,
    }


def _split_names() -> dict[str, Any]:
    fields = {"name": "sc:Text", "url": "sc:URL"}
    return {
        "@type": "cr:RecordSet",
        "@id": SPLIT_NAMES,
        "name": SPLIT_NAMES,
        "dataType": "cr:Split",
        "key": {"@id": f"{SPLIT_NAMES}/name"},
        "field": [
            {"@type": "cr:Field", "@id": f"{SPLIT_NAMES}/{name}", "name": name, "dataType": kind}
            for name, kind in fields.items()
        ],
        "data": [{f"{SPLIT_NAMES}/name": split, f"{SPLIT_NAMES}/url": SPLIT_URLS[split]} for split in SPLITS],
    }


def _fields(card: TrainingSetCard) -> Iterator[dict[str, Any]]:
    """Yield the split, from the folder of each part, and every column of the parts."""
    folder = {"fileSet": {"@id": PARTS}, "extract": {"fileProperty": "fullpath"}}
    yield {
        **_field("split", "sc:Text", "train, val or test"),
        "source": {**folder, "transform": {"regex": f"^({'|'.join(SPLITS)})(?:/.*)?$"}},
        "references": {"field": {"@id": f"{SPLIT_NAMES}/name"}},
    }
    pixels = f"pixels as bytes, {card.dtype}, {card.image_size} (channels {', '.join(card.channels)}), C-contiguous"
    labels = {f"label_{name}": f"1 if the image shows {name}, else 0; empty if unknown" for name in card.classes}
    described = {**DESCRIPTIONS, IMAGE: pixels, **labels}
    for column in [*ROW_SCHEMA, *(pa.field(name, pa.uint8()) for name in labels)]:
        field = _field(column.name, _data_type(column.type), described.get(column.name, ""))
        listed = {"repeated": True} if pa.types.is_nested(column.type) else {}
        yield {**field, **listed, "source": {"fileSet": {"@id": PARTS}, "extract": {"column": column.name}}}


def _field(name: str, data_type: str, description: str) -> dict[str, Any]:
    described = {"description": description} if description else {}
    return {"@type": "cr:Field", "@id": f"{IMAGES}/{name}", "name": name, **described, "dataType": data_type}


def _data_type(kind: pa.DataType) -> str:
    """Return the data type of a column; bytes are text to Croissant, which hands them over as they are."""
    element: pa.DataType = getattr(kind, "value_type", kind)
    if pa.types.is_floating(element):
        return "sc:Float"
    return "sc:Integer" if pa.types.is_integer(element) else "sc:Text"
