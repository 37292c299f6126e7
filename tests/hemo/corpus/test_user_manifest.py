"""A table of the user's own: which files, what is given of each, and what is wrong with it."""

import gzip
import threading
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from hemo.corpus.source_file import ManifestRow
from hemo.corpus.sources import list_corpus, media_of, read_files
from hemo.errors import SourceError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.dcm", "sub/b.dcm", "c.png", "d.jpeg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


def table(folder: Path, text: str) -> str:
    (folder / "list.csv").write_text(text)
    return str(folder / "list.csv")


def test_files_are_named_relative_to_the_table_absolute_or_by_uri(folder):
    with fsspec.open("memory://table/far/e.dcm", "wb") as file:
        file.write(b"far away")
    source = table(folder, f"path\nsub/b.dcm\n{folder}/a.dcm\nmemory://table/far/e.dcm\n")
    files = list_corpus(source, "manifest").files
    assert [file.path for file in files] == [f"{folder}/a.dcm", "memory://table/far/e.dcm", "sub/b.dcm"]
    assert [file.size_bytes for file in files] == [5, 8, 9]
    assert read_files(source, files) == [b"a.dcm", b"far away", b"sub/b.dcm"]


class _Meeting(MemoryFileSystem):
    """Lists a folder once eight listings are in flight."""

    protocol = "meeting"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    listings: ClassVar[threading.Barrier]

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + path.removeprefix("meeting://").strip("/")

    def ls(self, path: str, detail: bool = True, **options: Any) -> Any:
        self.listings.wait()
        return super().ls(path, detail, **options)


def test_folders_of_a_bucket_are_listed_at_the_same_time(folder):
    """One request after the other, 20,000 folders of studies took ten minutes."""
    fsspec.register_implementation("meeting", _Meeting, clobber=True)
    _Meeting.listings = threading.Barrier(8, timeout=5)
    paths = [f"meeting://bucket/study{number}/slice.dcm" for number in range(16)]
    for number, path in enumerate(paths):
        with fsspec.open(path, "wb") as file:
            file.write(bytes(number))
    files = list_corpus(table(folder, "\n".join(["path", *paths])), "manifest").files
    assert {file.path: file.size_bytes for file in files} == {path: number for number, path in enumerate(paths)}


def test_columns_of_the_manifest_are_kept_with_the_file_and_blanks_are_none(folder):
    source = table(folder, "patient,path,image_id,age,source_split\np1,a.dcm,first,70,train\n,sub/b.dcm,,81,\n")
    listing = list_corpus(source, "manifest")
    assert [file.manifest_row for file in listing.files] == [
        ManifestRow(image_id="first", patient="p1", source_split="train"),
        ManifestRow(),
    ]
    assert listing.unused_columns == ("age",)


def test_numbers_as_names_stay_as_they_are_written(folder):
    """007 is no 7; a Parquet column of integers is read as text too."""
    source = table(folder, "path,patient\na.dcm,007\n")
    assert list_corpus(source, "manifest").files[0].manifest_row.patient == "007"
    pq.write_table(pa.table({"path": ["a.dcm"], "patient": [7]}), folder / "list.parquet")
    assert list_corpus(str(folder / "list.parquet"), "manifest").files[0].manifest_row.patient == "7"


def test_spaces_around_a_cell_are_no_part_of_an_id_but_stay_in_a_path(folder):
    """Else `P01`, `P01 ` and ` P01` would be three patients, and come into different splits."""
    (folder / " e.dcm").write_bytes(b"e")
    source = table(
        folder,
        "path,patient,study,series,image_id,source_class,source_split\na.dcm,P01 ,s ,\tx, one , normal,train \n"
        " e.dcm, P01,s, x,two,normal ,  \n",
    )
    assert [(file.path, file.manifest_row) for file in list_corpus(source, "manifest").files] == [
        (" e.dcm", ManifestRow("two", "P01", "s", "x", "normal", None)),
        ("a.dcm", ManifestRow("one", "P01", "s", "x", "normal", "train")),
    ]


def test_ids_that_differ_by_spaces_alone_clash(folder):
    with pytest.raises(SourceError, match=r"a\.dcm and sub/b\.dcm would both be image x; give each its image_id"):
        list_corpus(table(folder, "path,image_id\na.dcm,x\nsub/b.dcm,x \n"), "manifest")


def test_a_compressed_table_is_read_like_its_content(folder):
    text = "path,patient\na.dcm,p1\n"
    (folder / "list.csv.gz").write_bytes(gzip.compress(text.encode()))
    assert media_of(str(folder / "list.csv.gz"), "manifest") == "dicom"
    assert (
        list_corpus(str(folder / "list.csv.gz"), "manifest").files == list_corpus(table(folder, text), "manifest").files
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("list.csv", "path,H\u00e4matom\na.dcm,1\n".encode("latin-1"), r"line 1 is not UTF-8; save it as UTF-8\)"),
        ("list.csv", gzip.compress(b"path\na.dcm\n", mtime=0), r"it is compressed by gzip; name it \.csv\.gz\)"),
        ("list.csv.gz", b"path\na.dcm\n", "Not a gzipped file"),
        ("list.csv.gz", gzip.compress(b"path\na.dcm\n", mtime=0)[:-9], "Compressed file ended before"),
    ],
)
def test_bytes_that_are_no_text_are_named_with_the_way_out(folder, name, content, message):
    (folder / name).write_bytes(content)
    with pytest.raises(SourceError, match=rf"source: .*/{name} is no readable table \({message}"):
        list_corpus(str(folder / name), "manifest")


def test_endings_tell_pictures_from_dicom(folder):
    assert media_of(table(folder, "path\nc.png\nd.JPEG\n"), "manifest") == "photo"
    assert media_of(table(folder, "path\na.dcm\nsub/b\n"), "manifest") == "dicom"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path\na.dcm\nc.png\n", r"lists a picture, c\.png, and DICOM, a\.dcm; make a table for each"),
        (
            "path\na.dcm\ngone.dcm\nlost/x.dcm\n",
            r"files that do not exist: gone\.dcm, lost/x\.dcm; a path is relative",
        ),
        ("path\nmemory://nowhere/x.dcm\n", r"files that do not exist: memory://nowhere/x\.dcm"),
        ("path\n1\n2\n3\n4\n5\n", r"not exist: 1, 2, 3 and 2 more"),
        ("path\na.dcm\nsub/b.dcm\na.dcm\n", r"lists a\.dcm in rows 1 and 3; keep one"),
        (
            "path,image_id\na.dcm,x\nsub/b.dcm,x\n",
            r"a\.dcm and sub/b\.dcm would both be image x; give each its image_id",
        ),
        ("path\n", "has a header but no rows"),
        ("file\na.dcm\n", "has the columns file; needed: one called path"),
        ("path\na.dcm\n./a.dcm\n", r"lists \./a\.dcm in rows 1 and 2; keep one"),
        ("path,path\na.dcm,b\n", "has the columns path, path; needed: path once"),
        ("path,patient,patient\na.dcm,b,c\n", "has the columns path, patient, patient; needed: patient once"),
        ("path\na\0.dcm\n", "has a zero byte in it"),
        ("path,patient\na.dcm,p\n,q\n", "row 2: the path is blank"),
        ("", "is no readable table"),
        ("path\nsub\n", "is a folder, device or pipe, not a file"),
    ],
)
def test_each_fault_of_a_table_has_its_error(folder, text, message):
    with pytest.raises(SourceError, match=message):
        list_corpus(table(folder, text), "manifest")


def test_a_missing_or_damaged_table_is_an_error(folder):
    with pytest.raises(SourceError, match=r"none\.csv does not exist; give a CSV or Parquet table"):
        list_corpus(str(folder / "none.csv"), "manifest")
    (folder / "bad.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(SourceError, match=r"bad\.parquet is no readable table"):
        list_corpus(str(folder / "bad.parquet"), "manifest")
    with pytest.raises(SourceError, match=r"is no readable table"):
        list_corpus(str(folder), "manifest")


@pytest.mark.parametrize(
    ("column", "kind"), [(pa.array([["p", "q"]]), r"list<.*: string>"), (pa.array([b"\xff"]), "binary")]
)
def test_a_column_that_is_no_text_is_an_error(folder, column, kind):
    pq.write_table(pa.table({"path": ["a.dcm"], "patient": column}), folder / "list.parquet")
    with pytest.raises(SourceError, match=rf"its column patient is no text \({kind}\); make it a string"):
        list_corpus(str(folder / "list.parquet"), "manifest")
