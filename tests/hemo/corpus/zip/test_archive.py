"""Which members of a zip are refused, and why."""

import zipfile

import fsspec
import pytest

from hemo.corpus.source_file import SourceFile
from hemo.corpus.zip.archive import list_archive
from hemo.errors import SourceError
from tests.zips import changed_entry, link, zip_of


def listed(tmp_path, data: bytes) -> list[SourceFile]:
    (tmp_path / "data.zip").write_bytes(data)
    return list_archive(str(tmp_path / "data.zip"))


def refusals(tmp_path, data: bytes) -> list[str]:
    return [file.refused.code if file.refused else "" for file in listed(tmp_path, data)]


def test_members_are_listed_with_size_and_checksum(tmp_path):
    files = listed(tmp_path, zip_of([("train/", b""), ("train/a.dcm", b"123456789")]))
    assert [(file.path, file.size_bytes, file.mark) for file in files] == [("train/a.dcm", 9, "cbf43926")]


@pytest.mark.parametrize(
    "name",
    [
        "../a.dcm",
        "x/../../a.dcm",
        "/etc/a.dcm",
        "C:/a.dcm",
        "c:a.dcm",
        "x\\a.dcm",
        "./a.dcm",
        "x//a.dcm",
        "x/..",
        "a\0b",
    ],
)
def test_names_that_lead_elsewhere_are_refused(tmp_path, name):
    info = zipfile.ZipInfo("x")
    info.filename = name  # the constructor would mend it
    assert refusals(tmp_path, zip_of([(info, b""), ("good.dcm", b"")])) == ["unsafe_member", ""]


def test_dots_within_a_name_are_no_reason(tmp_path):
    assert refusals(tmp_path, zip_of([("a..b/...c/.d/1.2.840.dcm", b"")])) == [""]


def test_links_are_refused(tmp_path):
    assert refusals(tmp_path, zip_of([(link("a.dcm"), b"/etc/passwd")])) == ["unsafe_member"]


@pytest.mark.parametrize("flags", [b"\x01\x00", b"\x41\x00", b"\x40\x00"])
def test_encrypted_members_are_refused(tmp_path, flags):
    assert refusals(tmp_path, changed_entry(zip_of([("a.dcm", b"x")]), 8, flags)) == ["encrypted_member"]


def test_other_compression_is_refused_with_its_number(tmp_path):
    file = listed(tmp_path, zip_of([("a.dcm", b"x" * 50)], method=zipfile.ZIP_LZMA))[0]
    assert file.refused == ("unsupported_member", "compression method 14; stored (0) and deflated (8) members are read")


def test_a_bomb_by_ratio_is_refused_and_a_blank_slice_is_not(tmp_path):
    """524 kB of one value deflate 400 : 1 and more; 17 MB of it are no slice."""
    data = zip_of([("blank.dcm", bytes(524_288)), ("bomb.dcm", bytes(17 << 20))])
    assert refusals(tmp_path, data) == ["", "oversized_member"]


@pytest.mark.parametrize(
    ("at", "size"),
    [
        (24, (1 << 30) + 1),  # inflated size: too much for an image
        (20, 100_000),  # compressed size: more than it could be
    ],
)
def test_sizes_that_cannot_be_are_refused(tmp_path, at, size):
    data = zip_of([("a.dcm", b"x" * 9), ("b.dcm", bytes(200_000))], method=zipfile.ZIP_STORED)
    assert refusals(tmp_path, changed_entry(data, at, size.to_bytes(4, "little"))) == ["oversized_member", ""]


def test_members_that_share_bytes_are_refused(tmp_path):
    """The second entry points into the first member: the way of bombs that need no ratio."""
    data = zip_of([("a.dcm", b"x" * 500), ("b.dcm", b"y" * 500)], method=zipfile.ZIP_STORED)
    overlapped = changed_entry(data, 42, (100).to_bytes(4, "little"), entry=1)
    assert refusals(tmp_path, overlapped) == ["unsafe_member", ""]
    behind_the_end = changed_entry(data, 42, (10_000_000).to_bytes(4, "little"), entry=1)
    assert refusals(tmp_path, behind_the_end) == ["", "unsafe_member"]


def test_a_zip_elsewhere_is_listed_by_ranges():
    with fsspec.open("memory://archives/data.zip", "wb") as file:
        file.write(zip_of([("a.dcm", b"123456789")]))
    (found,) = list_archive("memory://archives/data.zip")
    assert (found.path, found.mark, found.member.header_offset) == ("a.dcm", "cbf43926", 0)


def test_no_zip_is_an_error_that_names_it(tmp_path):
    with pytest.raises(
        SourceError, match=r"data\.zip is no whole zip: it has no directory at its end; download or copy"
    ):
        listed(tmp_path, b"<html>404</html>")
    with pytest.raises(SourceError, match=r"gone\.zip does not exist"):
        list_archive(str(tmp_path / "gone.zip"))
