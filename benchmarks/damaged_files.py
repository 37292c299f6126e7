"""Damaged image files for fuzzing, each a pure function of the valid files, a seed and a number."""

import io
import random
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import PIL.Image
import pydicom
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from tests.dicom_files import dicom_bytes, head_file, head_hu
from tests.encoded_files import EIGHT_BITS, jpeg_2000_file, jpeg_file, jpeg_lossless_file, rle_file, written

MADE = 18
"""Files that `valid_slices` makes."""

LARGEST_SEED_BYTES = 600_000
EXTREMES = {
    "Rows": (0, 1, 2, 255, 4096, 8191, 65535),
    "Columns": (0, 1, 2, 255, 4096, 8191, 65535),
    "NumberOfFrames": ("0", "-1", "2", "1000", "16384", "2147483647", "9" * 400, "1.5", "x"),
    "SamplesPerPixel": (0, 1, 2, 3, 4, 65535),
    "BitsAllocated": (0, 1, 8, 12, 16, 32, 64, 65535),
    "BitsStored": (0, 1, 7, 8, 12, 16, 17, 65535),
    "HighBit": (0, 7, 11, 15, 16, 65535),
    "PixelRepresentation": (0, 1, 2, 65535),
    "RescaleSlope": ("0", "nan", "inf", "-inf", "1e308", "1e-308", "-1", "1e6", "x", "1\\2", ""),
    "RescaleType": ("HU", "US", "MGML", "x" * 64, "HU\\US", ""),
    "PixelPaddingValue": (0, 1, 32767),
    "PixelPaddingRangeLimit": (0, 32767),
    "ConversionType": ("WSD", "DF", "x", ""),
    "RescaleIntercept": ("nan", "inf", "1e308", "-1e308", "-99999", "1e6", "x", ""),
    "ImagePositionPatient": ("nan\\nan\\nan", "1e308\\1e308\\1e308", "1\\2", "x", ""),
    "ImageOrientationPatient": (
        *("inf\\0\\0\\0\\1\\0", "1e200\\1e200\\1e200\\1e200\\1e200\\1e200", "0"),
        *("0\\0\\0\\0\\0\\0", "1e20\\0\\0\\0\\1e-20\\0"),
    ),
    "SliceThickness": ("0", "-5", "nan", "1e308", "5 mm", ""),
    "PixelSpacing": ("0\\0", "nan\\nan", "1e308\\1", "-1\\1", "x", ""),
    "PhotometricInterpretation": ("MONOCHROME1", "PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", ""),
    "PlanarConfiguration": (0, 1, 2, 65535),
    "Modality": ("CT", "MR", "", "CT\\MR", "\u00e9"),
    "ImageType": ("LOCALIZER", "", "\\".join("X" * 64), "DERIVED\\SECONDARY"),
    "SpecificCharacterSet": ("ISO_IR 100", "nothing", "ISO 2022 IR 87\\ISO 2022 IR 149", ""),
}
"""Keyword -> values that some file may hold, and no slice should."""

Files = Sequence[bytes]


@dataclass(frozen=True)
class Damaged:
    """A file that may be anything."""

    data: bytes
    kind: str  # of damage
    is_photo: bool


def valid_slices() -> list[bytes]:
    """Return a small valid file of every encoding that can be written here."""
    side = 64
    unsigned = (head_hu(side) + 1024).astype(np.uint16)
    bits_12 = {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": 0}
    colour = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0, **EIGHT_BITS}
    eight = (np.arange(side * side) % 251).astype(np.uint8).reshape(side, side)
    frames = np.stack([unsigned] * 3)
    plain = [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
    return [
        head_file(),
        *(dicom_bytes(head_hu(side) + np.int16(1024), syntax=syntax) for syntax in plain),
        dicom_bytes(unsigned, **bits_12),
        dicom_bytes(unsigned[:, :50], **bits_12, RescaleIntercept="0"),
        dicom_bytes(frames, NumberOfFrames=3, **bits_12),
        dicom_bytes(frames, NumberOfFrames=3, RescaleIntercept=None, PerFrameFunctionalGroupsSequence=frame_groups(3)),
        dicom_bytes(eight, **EIGHT_BITS),
        dicom_bytes(np.stack([eight] * 3, axis=-1), **colour),
        *(write(unsigned, **bits_12) for write in (rle_file, jpeg_2000_file, jpeg_lossless_file)),
        rle_file(frames, NumberOfFrames=3, **bits_12),
        jpeg_2000_file(frames, NumberOfFrames=3, **bits_12),
        rle_file(np.stack([eight] * 3, axis=-1), **colour),
        jpeg_file(eight),
        jpeg_file(np.stack([eight] * 3, axis=-1), **{**colour, "PhotometricInterpretation": "YBR_FULL_422"}),
    ]


def frame_groups(frames: int) -> list[Dataset]:
    """Return functional groups that give each frame its own intercept and position."""
    groups = []
    for frame in range(frames):
        values, plane, group = Dataset(), Dataset(), Dataset()
        values.RescaleSlope, values.RescaleIntercept = "1", str(-1024 - frame)
        plane.ImagePositionPatient = [0, 0, 5 * frame]
        group.PixelValueTransformationSequence, group.PlanePositionSequence = [values], [plane]
        groups.append(group)
    return groups


def valid_photos() -> list[bytes]:
    """Return small photographs: JPEG and PNG, grey, colour, 16 bits and with a palette."""
    pixels = np.random.default_rng(0).integers(0, 255, (48, 40, 3), np.uint8)
    modes = [
        ("JPEG", "RGB"),
        ("JPEG", "L"),
        ("JPEG", "CMYK"),
        ("PNG", "RGB"),
        ("PNG", "P"),
        ("PNG", "I;16"),
        ("PNG", "1"),
    ]
    files = []
    for kind, mode in modes:
        image = PIL.Image.fromarray(pixels)
        image = PIL.Image.fromarray(pixels[..., 0].astype(np.uint16) * 257) if mode == "I;16" else image.convert(mode)
        buffer = io.BytesIO()
        image.save(buffer, kind)
        files.append(buffer.getvalue())
    return files


def seeds_below(folder: Path) -> list[bytes]:
    """Return the DICOM files of a folder that are not large, each renamed to a CT slice: others end at the modality."""
    seeds = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        data = path.read_bytes()
        if len(data) > LARGEST_SEED_BYTES:
            continue
        try:
            with disable_value_validation():
                dataset = pydicom.dcmread(io.BytesIO(data))
                dataset.Modality, dataset.RescaleIntercept, dataset.RescaleSlope = "CT", "-1024", "1"
                seeds.append(written(dataset))
        except Exception:  # what pydicom cannot write again is a seed as it is
            seeds.append(data)
    return seeds


def damaged(slices: Files, photos: Files, seed: int, number: int) -> Damaged:
    """Return the `number`th damaged file: one to three kinds of damage to one of the valid files.

    Half of the slices are of the first `MADE`, whose pixels are reached more often than those of strange files.
    """
    rng = random.Random(f"{seed}/{number}")
    is_photo = rng.random() < 0.1
    files = photos if is_photo else slices
    if not is_photo and rng.random() < 0.03:
        name, make = rng.choice(list(TRAPS.items()))
        return Damaged(make(rng), name, False)
    made = not is_photo and rng.random() < 0.5
    data, kinds = rng.choice(files[:MADE] if made else files), []
    for _ in range(rng.choice((1, 1, 2, 3))):
        name, damage = rng.choice(list(PHOTO_DAMAGE.items() if is_photo else SLICE_DAMAGE.items()))
        data = damage(data, rng, files)
        kinds.append(name)
    return Damaged(data, "+".join(kinds), is_photo)


def _flip(data: bytes, rng: random.Random, _: Files) -> bytes:
    """Flip bits, half of the time within the header."""
    changed = bytearray(data)
    end = len(changed) if rng.random() < 0.5 else min(1200, len(changed))
    for _ in range(rng.choice((1, 1, 2, 8, 64)) if end else 0):
        changed[rng.randrange(end)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _cut(data: bytes, rng: random.Random, _: Files) -> bytes:
    start = rng.randrange(len(data) + 1)
    stop = len(data) if rng.random() < 0.5 else min(len(data), start + rng.choice((1, 2, 8, 100, 1000)))
    return data[:start] + data[stop:]


def _splice(data: bytes, rng: random.Random, files: Files) -> bytes:
    other = rng.choice(files)
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


def _repeat(data: bytes, rng: random.Random, _: Files) -> bytes:
    start = rng.randrange(len(data) + 1)
    return data[:start] + data[start : start + rng.choice((4, 64, 1024))] * rng.choice((2, 50)) + data[start:]


def _lie(data: bytes, rng: random.Random, _: Files) -> bytes:
    """Overwrite what may be a length, a size or a marker by an extreme."""
    value = rng.choice(
        (b"\0\0", b"\xff\xff", b"\xff\xff\xff\xff", b"\xfe\xff\xff\x7f", b"\0\0\0\x80", b"\xff\xff\xff\x7f")
    )
    tags = (b"\x28\x00", b"\x02\x00", b"\x08\x00", b"\x20\x00", b"\xe0\x7f\x10\x00", b"\xfe\xff\x00\xe0", b"\xff")
    starts = _places(data, rng.choice(tags))
    at = rng.choice(starts) + rng.choice((2, 4, 6, 8)) if starts else rng.randrange(len(data) + 1)
    return data[:at] + value + data[at + len(value) :]


def _places(data: bytes, what: bytes) -> list[int]:
    places, at = [], data.find(what)
    while at >= 0 and len(places) < 200:
        places.append(at)
        at = data.find(what, at + 1)
    return places


def _retag(data: bytes, rng: random.Random, files: Files) -> bytes:
    """Set elements to extremes, or remove them."""

    def change(dataset: Dataset) -> None:
        for _ in range(rng.choice((1, 1, 2, 4))):
            keyword = rng.choice(list(EXTREMES))
            if rng.random() < 0.25:
                dataset.pop(keyword, None)
            else:
                setattr(dataset, keyword, rng.choice(EXTREMES[keyword]))

    return _edited(data, change) or _flip(data, rng, files)


def _remove(data: bytes, rng: random.Random, files: Files) -> bytes:
    def change(dataset: Dataset) -> None:
        for tag in rng.sample(list(dataset.keys()), min(len(dataset), rng.choice((1, 2, 5)))):
            del dataset[tag]

    return _edited(data, change) or _cut(data, rng, files)


def _resize(data: bytes, rng: random.Random, files: Files) -> bytes:
    """Give header and codestream the same large size, so that only a decoder can find the lie."""
    rows, cols = rng.choice((64, 512, 4096)), rng.choice((64, 511, 4096))

    def change(dataset: Dataset) -> None:
        old_jpeg = struct.pack(">HH", dataset.Rows, dataset.Columns)
        old_2000 = struct.pack(">II", dataset.Columns, dataset.Rows)
        pixels = dataset.PixelData.replace(old_jpeg, struct.pack(">HH", rows, cols), 1)
        dataset.PixelData = pixels.replace(old_2000, struct.pack(">II", cols, rows))
        dataset.Rows, dataset.Columns = rows, cols

    return _edited(data, change) or _flip(data, rng, files)


def _edited(data: bytes, change: Callable[[Dataset], None]) -> bytes | None:
    """Return a file with its data set changed; None where pydicom cannot read it or write it any more."""
    try:
        with disable_value_validation():
            dataset = pydicom.dcmread(io.BytesIO(data), force=True)
            change(dataset)
            buffer = io.BytesIO()
            dataset.save_as(buffer)
            return buffer.getvalue()
    except Exception:
        return None


def _resize_photo(data: bytes, rng: random.Random, _: Files) -> bytes:
    """Let a PNG's header promise another size, its checksum mended."""
    if data[12:16] != b"IHDR" or len(data) < 40:
        return data
    header = b"IHDR" + struct.pack(">II", rng.choice((1, 48, 5000, 60000)), rng.choice((1, 40, 6000))) + data[24:29]
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


def _file_of(dataset_bytes: bytes, syntax: bytes) -> bytes:
    meta = b"\x02\x00\x10\x00UI" + struct.pack("<H", len(syntax)) + syntax
    return bytes(128) + b"DICM" + b"\x02\x00\x00\x00UL\x04\x00" + struct.pack("<I", len(meta)) + meta + dataset_bytes


def _deflate_bomb(rng: random.Random) -> bytes:
    """Return a deflated file, some megabytes at most, that inflates a hundredfold and more."""
    return _file_of(_deflated_zeros(rng.choice((8, 255, 257, 500))), b"1.2.840.10008.1.2.1.99")


@lru_cache
def _deflated_zeros(mib: int) -> bytes:
    packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    block = bytes(1 << 20)
    return b"".join(packer.compress(block) for _ in range(mib)) + packer.flush()


def _deep_sequence(rng: random.Random) -> bytes:
    """Return a file of sequences within sequences."""
    depth = rng.choice((10, 100, 900, 5000, 100_000))
    start = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    return _file_of(start * depth + b"\x08\x00\x60\x00CS\x02\x00CT", b"1.2.840.10008.1.2.1")


def _empty_frames(rng: random.Random) -> bytes:
    """Return a compressed file that promises many large frames and holds next to nothing."""
    dataset = pydicom.dcmread(io.BytesIO(rle_file(head_hu(32).astype(np.uint16))))
    dataset.Rows = dataset.Columns = rng.choice((32, 512, 4096))
    dataset.NumberOfFrames = rng.choice((1, 16, 16384))
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 66) + struct.pack("<16I", 1, 64, *([0] * 14)) + b"\x81\0"
    with disable_value_validation():
        dataset.PixelData = struct.pack("<HHI", 0xFFFE, 0xE000, 0) + item * rng.choice((1, 64))
        return written(dataset)


def _many_elements(rng: random.Random) -> bytes:
    """Return a file of a hundred thousand private elements."""
    count = rng.choice((1000, 100_000))
    elements = b"".join(struct.pack("<HH2sH", 0x0009 + 2 * (at >> 15), at & 0x7FFF, b"LO", 0) for at in range(count))
    return _file_of(elements, b"1.2.840.10008.1.2.1")


Damage = Callable[[bytes, random.Random, Files], bytes]
PHOTO_DAMAGE: dict[str, Damage] = {
    "flip": _flip, "cut": _cut, "splice": _splice, "repeat": _repeat, "lie": _lie, "resize": _resize_photo,
}  # fmt: skip
SLICE_DAMAGE: dict[str, Damage] = {
    "flip": _flip, "cut": _cut, "splice": _splice, "repeat": _repeat, "lie": _lie,
    "retag": _retag, "remove": _remove, "resize": _resize,
}  # fmt: skip
TRAPS: dict[str, Callable[[random.Random], bytes]] = {
    "deflate bomb": _deflate_bomb,
    "deep sequence": _deep_sequence,
    "empty frames": _empty_frames,
    "many elements": _many_elements,
}
