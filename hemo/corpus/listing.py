"""What a listing says of each file: its name, what tells that it changed, and where its bytes lie."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

Corpus = Literal["rsna", "dicom", "image_folder", "manifest", "idx", "word_indices"]
Media = Literal["dicom", "photo", "idx", "word_indices"]

MEDIA: dict[str, Media] = {
    "rsna": "dicom",
    "dicom": "dicom",
    "image_folder": "photo",
    "idx": "idx",
    "word_indices": "word_indices",
}
"""What the files of a corpus are; of `manifest` the table says."""


class Member(NamedTuple):
    """Where a member of a zip lies: enough to read it in one piece without the zip's directory."""

    header_offset: int
    compressed_bytes: int
    method: int  # 0 stored, 8 deflated
    crc: int
    archive_mark: str  # of the zip itself: tells a zip that was replaced from one that is damaged


class Refusal(NamedTuple):
    """Why a listed file is not read: it becomes a reject of its unit."""

    code: str  # see hemo.imaging.rejects.REASONS
    detail: str  # without identifiers


class Given(NamedTuple):
    """What a table of the user's own says of a file; it goes before what header and folders say. None: not said."""

    image_id: str | None = None
    patient: str | None = None
    study: str | None = None
    series: str | None = None
    source_class: str | None = None
    source_split: str | None = None


class SourceFile(NamedTuple):
    """One file of a corpus. A tuple: a corpus has some 750,000 of them."""

    path: str  # relative to the source, with slashes; in a table of the user's own also absolute
    size_bytes: int
    mark: str  # changes when the file does: mtime in ns on a disk, ETag on a bucket, CRC in a zip
    member: Member | None = None
    refused: Refusal | None = None
    given: Given | None = None
    labels: "SourceFile | None" = None  # file beside it with the class of each of its images


@dataclass(frozen=True)
class Listing:
    """The files a corpus consists of, sorted by path."""

    files: tuple[SourceFile, ...]
    ignored: int  # files beside them that are no part of such a corpus
    unused_columns: tuple[str, ...] = ()  # of a table of the user's own
