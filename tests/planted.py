"""A corpus in which every text that DICOM has a place for is a mark that must never come out again."""

import base64
import io
import itertools
import re
import struct
import zlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydicom.config import disable_value_validation
from pydicom.datadict import DicomDictionary, dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless

from hemo.imaging.image import pixel_digest
from tests.dicom_files import DEFAULTS, head_hu
from tests.zips import zip_of

MARK = "PHIZQWJK"
"""Begins every planted text; five digits follow, so that one that is found tells where it was."""

NUMBER, DATE, TIME = "739184625", "18870312", "235959.739184"
"""Planted where only digits may stand."""

FIXED = {"DS": NUMBER, "IS": NUMBER, "DA": DATE, "TM": TIME, "DT": DATE + TIME}
FREE = ("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UI", "UR", "UT")

CAPTURES = ("ConversionType", "BurnedInAnnotation")
MEANT = {*DEFAULTS, *CAPTURES, "RescaleType", "SpecificCharacterSet", "NumberOfFrames", "PixelAspectRatio"}
"""Elements that say what the pixels are: not planted where images are to come of it."""

SPOILT = (
    "BitsStored", "ImageOrientationPatient", "ImagePositionPatient", "ImageType", "Modality", "NumberOfFrames",
    "PhotometricInterpretation", "PixelSpacing", "RescaleIntercept", "RescaleSlope", "RescaleType", "Rows",
    "SliceThickness", "SOPClassUID",
)  # fmt: skip
"""Elements that say what the pixels are: each has a damaged file in which it is a text."""

STRUCTURE = (0x0000, 0x0002, 0x0004, 0x5200, 0xFFFE)
"""Groups of commands, file meta, directories, functional groups and delimiters."""

_numbers = itertools.count()


def mark() -> str:
    """Return a text that was never used before, always of 15 characters: the shortest VR holds 16."""
    return f"{MARK}{next(_numbers):07d}"


def standard_elements() -> Iterator[tuple[int, str]]:
    """Yield tag and VR of every element of the standard that may be planted."""
    for tag, (vr, _, _, _, keyword) in DicomDictionary.items():
        if tag >> 16 not in STRUCTURE and keyword not in MEANT:
            yield tag, vr


def plant(dataset: Dataset) -> None:
    """Put a mark in every text element of the standard, in an item of every sequence, and in private elements."""
    for tag, vr in standard_elements():
        if vr in FREE or vr in FIXED:
            dataset.add_new(tag, vr, FIXED.get(vr) or mark())
        elif vr == "SQ":
            item = Dataset()
            item.PatientName, item.PatientID, item.TextValue = mark(), mark(), mark()
            dataset.add_new(tag, vr, Sequence([item]))
    for tag in (0x60000022, 0x60001500, 0x60004000):  # overlay description, label, comments
        dataset.add_new(tag, "LO", mark())
    for group in (0x0009, 0x0029):
        dataset.add_new(Tag(group, 0x0010), "LO", mark())
        dataset.add_new(Tag(group, 0x1001), "LO", mark())
        dataset.add_new(Tag(group, 0x1002), "UN", mark().encode())
        dataset.add_new(Tag(group, 0x1003), "OB", mark().encode() + b"\0")


def planted_file(change: Callable[[Dataset], object] = lambda _: None, *, everywhere: bool = False) -> bytes:
    """Return a head slice whose names are marks; with `everywhere` so is every other text in it."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    meta = dataset.file_meta
    with disable_value_validation():
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", mark()
        meta.SourceApplicationEntityTitle = meta.SendingApplicationEntityTitle = mark()
        meta.ReceivingApplicationEntityTitle, meta.ImplementationVersionName = mark(), mark()
        meta.PrivateInformationCreatorUID, meta.PrivateInformation = mark(), mark().encode() + b"\0"
        pixels = (head_hu() + np.int16(1024)).astype("<i2")
        for keyword, value in {**DEFAULTS, "Rows": pixels.shape[0], "Columns": pixels.shape[1]}.items():
            setattr(dataset, keyword, value)
        dataset.PatientName, dataset.PatientID, dataset.AccessionNumber = mark(), mark(), mark()
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = mark(), f"1.2.840.{NUMBER}.{next(_numbers)}"
        if everywhere:
            plant(dataset)
        pixels[0, 0] = int(dataset.PatientID[-5:]) % 30_000  # no two alike: equal pixels would link their patients
        dataset.PixelData = pixels.tobytes()
        dataset["PixelData"].VR = "OW"
        change(dataset)
        buffer = io.BytesIO()
        dataset.save_as(buffer, enforce_file_format=True)
    return mark().ljust(128, "\0").encode() + buffer.getvalue()[128:]


def setting(**elements: object) -> Callable[[Dataset], None]:
    """Return a change that sets elements."""

    def change(dataset: Dataset) -> None:
        for keyword, value in elements.items():
            setattr(dataset, keyword, value)

    return change


def saying(*keywords: str) -> Callable[[Dataset], None]:
    """Return a change that puts marks in elements as they are, whatever may stand there."""

    def change(dataset: Dataset) -> None:
        for keyword in keywords:
            tag = Tag(keyword)
            text = mark().encode() + b" "
            dataset[tag] = RawDataElement(tag, dictionary_VR(tag), len(text), text, 0, False, True)

    return change


def captured(dataset: Dataset) -> None:
    """Make a slice a capture with a name drawn into its pixels, and written among their bytes."""
    screen, name = np.zeros((64, 256), np.uint8), mark()
    cv2.putText(screen, name, (2, 40), cv2.FONT_HERSHEY_SIMPLEX, 0.6, 255)
    dataset.Rows, dataset.Columns, dataset.ConversionType = 64, 256, "WSD"
    dataset.PixelData = name.encode().ljust(16) + screen.astype(np.uint16).tobytes()[16:]


def in_meta(dataset: Dataset) -> None:
    """Name a transfer syntax that nobody knows."""
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    dataset.file_meta.MediaStorageSOPClassUID = mark()


def as_jpeg(dataset: Dataset) -> None:
    """Say that the pixel data are compressed, and put a text there."""
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    text = mark().encode() + b"\0"
    start = struct.pack("<HHI", 0xFFFE, 0xE000, 0) + struct.pack("<HHI", 0xFFFE, 0xE000, len(text))
    dataset.PixelData = start + text + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True


def odd_files() -> dict[str, bytes]:
    """Return files that become rejects, or rows in spite of what is in them, by what is odd."""
    full = planted_file(everywhere=True)
    return {
        **{keyword: planted_file(saying(keyword)) for keyword in SPOILT},
        "charset": planted_file(setting(SpecificCharacterSet="ISO_IR 100")).replace(
            b"ISO_IR 100", mark().encode()[:10]
        ),
        "capture": planted_file(captured),
        "burned_in": planted_file(setting(BurnedInAnnotation="YES"), everywhere=True),
        "meta": planted_file(in_meta),
        "jpeg": planted_file(as_jpeg),
        "other modality": planted_file(setting(Modality="MR"), everywhere=True),
        "no pixels": planted_file(lambda dataset: dataset.__delitem__("PixelData"), everywhere=True),
        "few pixels": planted_file(setting(PixelData=mark().encode() + b"\0")),
        "cut": full[: len(full) // 2],
        "report.txt": f"{mark()} was seen on {DATE}".encode(),
        "garbage": (mark().encode() + b"\xff\0") * 50,
        "not unicode": planted_file(setting(PatientID="\u00c4" + mark())),
    }


def planted_corpus(folder: Path, patients: int) -> tuple[Path, Path]:
    """Write a corpus of two slices a patient, four of them planted everywhere, and the odd files; and its labels.

    Every file and folder below the source is named by a mark. The labels are keyed by path.
    """
    source, lines = folder / "export", ["path,any"]
    for patient in range(patients):
        below = source / f"{mark()}^JANE"
        below.mkdir(parents=True)
        name, study = mark(), mark()
        for _ in range(2):
            file = below / f"{mark()}.dcm"
            file.write_bytes(planted_file(setting(PatientID=name, StudyInstanceUID=study), everywhere=patient < 2))
            lines.append(f"{file.relative_to(source)},{patient % 2}")
    for data in odd_files().values():
        (source / mark()).write_bytes(data)
    labels = folder / "labels.csv"
    labels.write_text("\n".join(lines) + "\n")
    return source, labels


@dataclass(frozen=True)
class Needles:
    """Hundreds of texts that are sought at once, whatever the case.

    Attributes:
        pattern: All of them; alone it would take microseconds for each byte.
        begins: Boolean for each three bytes in lower case, as one number: whether one of the texts begins with them.
    """

    pattern: re.Pattern[bytes]
    begins: NDArray[np.bool_]

    def findall(self, view: bytes) -> list[bytes]:
        """Return every occurrence."""
        return [match.group() for match in self._matches(view)]

    def search(self, view: bytes) -> re.Match[bytes] | None:
        """Return the first occurrence."""
        return next(self._matches(view), None)

    def _matches(self, view: bytes) -> Iterator[re.Match[bytes]]:
        lowered = np.frombuffer(view.lower(), np.uint8).astype(np.uint32)
        threes = lowered[:-2] << 16 | lowered[1:-1] << 8 | lowered[2:]
        for position in np.flatnonzero(self.begins[threes]).tolist():
            if match := self.pattern.match(view, position):
                yield match


def planted_pictures(folder: Path, patients: int) -> tuple[Path, Needles]:
    """Zip an image folder of two pictures a patient, in the class folders NORMAL and a mark; two have equal pixels.

    Every file is named `MARK_PATIENT_NUMBER.png` and has a size that no other has.

    Returns:
        The zip, and all that tells which files are in it: names, sizes, CRC-32 and pixel digests.
    """
    classes, members, digests = ("NORMAL", mark()), {}, []
    for patient in range(patients):
        name = mark()
        for number in range(2):
            pixels = np.random.default_rng([patient % 23, number]).integers(0, 256, (24, 32, 3), np.uint8)
            buffer = io.BytesIO()
            PIL.Image.fromarray(pixels).save(buffer, "PNG")
            size_bytes = 1_870_301 + 7 * len(members)
            members[f"train/{classes[patient % 2]}/{name}_{number}.png"] = buffer.getvalue().ljust(size_bytes, b"\0")
            digests.append(pixel_digest(pixels))
    folder.mkdir(parents=True)
    (folder / "pictures.zip").write_bytes(zip_of(members.items()))
    sizes = [str(len(data)) for data in members.values()]
    checksums = [text for data in members.values() for text in (f"{zlib.crc32(data):08x}", str(zlib.crc32(data)))]
    return folder / "pictures.zip", needles(MARK, *sizes, *checksums, others=digests)


def needles(*texts: str, others: Collection[bytes] = ()) -> Needles:
    """Return texts to seek, plain or in base64, digits only where none stand beside them; and `others` as they are."""
    digits = [text.encode() for text in texts if text.isdigit()]
    plain = [text.encode() for text in texts if not text.isdigit()]
    plain += [form for text in texts for form in in_base64(text)] + list(others)
    alone = [rb"(?<![0-9a-zA-Z.])" + text + rb"(?![0-9a-zA-Z])" for text in digits]
    begins = np.zeros(1 << 24, bool)
    begins[[int.from_bytes(text[:3].lower(), "big") for text in digits + plain]] = True
    return Needles(re.compile(b"|".join([*map(re.escape, plain), *alone]), re.IGNORECASE), begins)


def in_base64(text: str) -> Iterator[bytes]:
    """Yield how a text shows in the base64 of something that contains it: it may begin at any of three places."""
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + text.encode())
        yield encoded[-(-8 * before // 6) : 8 * (before + len(text)) // 6]


def found_below(folder: Path, planted: Needles) -> dict[str, str]:
    """Return what is found in the name or contents of every file below a folder: file -> the first find."""
    files = [file for file in folder.rglob("*") if file.is_file() and not file.is_symlink()]
    finds = {str(file.relative_to(folder)): finding(file, planted) for file in files}
    return {file: found for file, found in finds.items() if found}


def finding(file: Path, planted: Needles) -> str:
    """Return what is found in a file, with what stands around it; empty if nothing.

    Bytes are searched as they are and, for UTF-16, without zeros; Parquet is decoded as well, its binary cells too.
    """
    raw = file.read_bytes()
    views = [str(file.name).encode(), raw, raw.replace(b"\0", b"")]
    if file.suffix == ".parquet" and raw[:4] == b"PAR1":
        table = pq.read_table(io.BytesIO(raw))
        views += [repr(table.schema.metadata).encode(), repr(table.to_pylist()).encode()]
        views += [cell for row in table.to_pylist() for cell in row.values() if isinstance(cell, bytes)]
    for view in views:
        if match := planted.search(view):
            return view[max(0, match.start() - 60) : match.end() + 60].decode("latin-1")
    return ""
