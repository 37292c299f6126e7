import io
import os
import zipfile
import zlib
from collections import Counter
from pathlib import Path

import fsspec
import numpy as np
import pytest

from hemo.corpus.source_file import SourceFile
from hemo.corpus.sources import read_files
from hemo.corpus.zip import Entry, entries, list_archive, read_directory, read_members
from hemo.errors import SliceError, SourceChangedError, SourceError
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
    info.filename = name  # the constructor would change it
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
        SourceError, match=r"data\.zip is no complete zip: it has no directory at its end; download or copy"
    ):
        listed(tmp_path, b"<html>404</html>")
    with pytest.raises(SourceError, match=r"gone\.zip does not exist"):
        list_archive(str(tmp_path / "gone.zip"))


CONTENT = bytes(range(256)) * 40


def made(tmp_path: Path, data: bytes) -> str:
    (tmp_path / "data.zip").write_bytes(data)
    return str(tmp_path / "data.zip")


def read(source: str) -> list[bytes | SliceError]:
    return read_members(source, list_archive(source))


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_members_are_read_whole_and_in_order(tmp_path, method):
    source = made(tmp_path, zip_of([("a.dcm", CONTENT), ("empty.dcm", b""), ("c.dcm", b"third")], method=method))
    assert read(source) == [CONTENT, b"", b"third"]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_members_elsewhere_are_read_by_ranges(method):
    with fsspec.open("memory://archives/members.zip", "wb") as file:
        file.write(zip_of([("a.dcm", CONTENT), ("b.dcm", b"second")], method=method))
    assert read("memory://archives/members.zip") == [CONTENT, b"second"]


def test_a_member_written_in_passing_has_its_sizes_behind_it(tmp_path):
    class Pipe:
        def __init__(self) -> None:
            self.data = b""

        def write(self, data: bytes) -> int:
            self.data += data
            return len(data)

        def flush(self) -> None: ...

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.dcm", "w") as member:
        member.write(CONTENT)
    assert read(made(tmp_path, pipe.data)) == [CONTENT]


def test_a_long_extra_field_costs_a_second_read(tmp_path):
    info = zipfile.ZipInfo("a.dcm")
    info.extra = b"\x99\x99" + (2000).to_bytes(2, "little") + bytes(2000)
    data = zip_of([(info, CONTENT), ("b.dcm", b"x" * 5000)], method=zipfile.ZIP_STORED)
    assert read(made(tmp_path, data))[0] == CONTENT


def damaged(tmp_path: Path, data: bytes) -> str:
    error = read(made(tmp_path, data))[0]
    assert isinstance(error, SliceError)
    assert error.args[0] == "damaged_member"
    return str(error.args[1])


def test_a_flipped_byte_is_found_by_the_checksum(tmp_path):
    data = zip_of([("a.dcm", CONTENT)], method=zipfile.ZIP_STORED)
    assert "checksum" in damaged(tmp_path, data.replace(CONTENT, b"\1" + CONTENT[1:]))


def test_a_flipped_compressed_byte_is_no_crash(tmp_path):
    data = bytearray(zip_of([("a.dcm", os.urandom(1000) + CONTENT)]))
    outcomes = set()
    for at in range(35, 1000, 7):
        hurt = bytearray(data)
        hurt[at] ^= 0xFF
        outcomes.add(damaged(tmp_path, bytes(hurt)))
    assert outcomes


def test_inflation_stops_at_the_declared_size(tmp_path):
    """One byte more than declared is made, which shows that there would be more."""
    data = zip_of([("a.dcm", bytes(10 << 20))])
    detail = damaged(tmp_path, changed_entry(data, 24, (9000).to_bytes(4, "little")))
    assert detail == "9001 bytes, the zip's directory declares 9000"


def test_a_member_shorter_than_declared_is_damaged(tmp_path):
    data = zip_of([("a.dcm", CONTENT)])
    assert "10240 bytes" in damaged(tmp_path, changed_entry(data, 24, (10_241).to_bytes(4, "little")))


def test_a_lost_local_header_is_damage(tmp_path):
    data = zip_of([("a.dcm", CONTENT)])
    assert "no local header" in damaged(tmp_path, b"XX" + data[2:])


def test_a_zip_replaced_after_listing_stops_the_run(tmp_path):
    source = made(tmp_path, zip_of([("a.dcm", CONTENT)]))
    files = list_archive(source)
    made(tmp_path, zip_of([("a.dcm", CONTENT[::-1] + b"more")]))
    with pytest.raises(SourceChangedError, match="the zip changed after it was listed; run again"):
        read_members(source, files)


def test_a_zip_replaced_elsewhere_stops_the_run():
    place = "memory://archives/changed.zip"
    with fsspec.open(place, "wb") as file:
        file.write(zip_of([("a.dcm", CONTENT)]))
    files = list_archive(place)
    with fsspec.open(place, "wb") as file:
        file.write(b"short")
    with pytest.raises(SourceChangedError, match="the zip changed"):
        read_members(place, files)


def test_a_vanished_zip_is_a_missing_file(tmp_path):
    source = made(tmp_path, zip_of([("a.dcm", CONTENT)]))
    files = list_archive(source)
    Path(source).unlink()
    with pytest.raises(FileNotFoundError):
        read_members(source, files)


def test_no_damage_to_a_zip_is_more_than_an_error(tmp_path):
    """Bytes flipped, cut and spliced: each member is whole, damaged or refused, or the zip is no whole one."""
    contents = {b"first" * 99, CONTENT, b""}
    whole = zip_of([("a.dcm", b"first" * 99), ("b.dcm", CONTENT), ("c.dcm", b"")])
    random, outcomes = np.random.default_rng(7), Counter()
    for _ in range(400):
        data = bytearray(whole)
        for at in random.integers(0, len(data), random.integers(1, 6)):
            data[at] = random.integers(256)
        if random.random() < 0.2:
            del data[random.integers(len(data)) :][: random.integers(50)]
        try:
            read = read_files(made(tmp_path, bytes(data)), list_archive(str(tmp_path / "data.zip")))
        except SourceError:
            outcomes["no complete zip"] += 1
            continue
        assert all(isinstance(member, SliceError) or member in contents for member in read)
        outcomes["damaged" if any(isinstance(member, SliceError) for member in read) else "whole"] += 1
    assert min(outcomes.values()) > 20
    assert len(outcomes) == 3


def directory_entries(data: bytes) -> list[Entry]:
    directory = read_directory(lambda ranges: [data[start:end] for start, end in ranges], len(data))
    return list(entries(directory))


def test_every_member_is_listed_with_where_it_lies():
    data = zip_of([("a/x.dcm", b"x" * 100), ("b.dcm", b"second")], method=zipfile.ZIP_STORED)
    first, second = directory_entries(data)
    assert first == Entry("a/x.dcm", 3, 0, 0, zlib.crc32(b"x" * 100), 100, 100, 0o600 << 16, 0)
    assert (second.name, second.header_offset) == ("b.dcm", 30 + 7 + 100)
    assert data[second.header_offset :].startswith(b"PK\3\4")


def test_a_zip_of_more_than_65535_members_has_its_counts_elsewhere():
    data = zip_of(((f"ID_{number:06d}.dcm", b"") for number in range(66_000)), method=zipfile.ZIP_STORED)
    assert b"PK\6\6" in data[-100:]
    found = directory_entries(data)
    assert (len(found), found[-1].name) == (66_000, "ID_065999.dcm")


def test_sizes_of_more_than_32_bits_lie_in_the_extra_field():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.dcm", b"12345")
    plain = buffer.getvalue()
    at = plain.index(b"PK\1\2")
    extra = b"\x01\x00\x10\x00" + (5_000_000_000).to_bytes(8, "little") + (4_999_999_999).to_bytes(8, "little")
    entry = bytearray(plain[at : plain.index(b"PK\5\6")])
    entry[20:28] = b"\xff" * 8
    entry[30:32] = len(extra).to_bytes(2, "little")
    end = bytearray(plain[plain.index(b"PK\5\6") :])
    end[12:16] = (len(entry) + len(extra)).to_bytes(4, "little")
    found = directory_entries(plain[:at] + bytes(entry) + extra + bytes(end))
    assert (found[0].size_bytes, found[0].compressed_bytes, found[0].header_offset) == (5_000_000_000, 4_999_999_999, 0)


def test_a_comment_behind_and_a_program_before_the_zip_do_not_matter():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.dcm", b"first")
        archive.comment = b"made by PK" * 50
    data = b"#!/bin/sh\n" + buffer.getvalue()
    assert [(entry.name, entry.header_offset) for entry in directory_entries(data)] == [("a.dcm", 10)]


def test_an_empty_zip_has_no_members():
    assert directory_entries(zip_of([])) == []


def test_names_are_utf8_where_the_flag_is_set_and_cp437_else():
    data = zip_of([("Müller.dcm", b"")])
    assert directory_entries(data)[0].name == "Müller.dcm"
    on_dos = changed_entry(changed_entry(data, 8, b"\0\0"), 5, b"\0")
    assert directory_entries(on_dos)[0].name == "M\u251c\u255dller.dcm"
    broken = data.replace("ü".encode(), b"\xff\xfe")
    assert directory_entries(broken)[0].name == "M\\xff\\xfeller.dcm"


def test_names_zipped_on_unix_are_utf8_without_the_flag_where_they_can_be():
    """Info-ZIP's `zip -r` writes the bytes of the folder's names and sets no flag."""
    on_unix = changed_entry(changed_entry(zip_of([("Müller.dcm", b"")]), 8, b"\0\0"), 5, b"\3")
    assert directory_entries(on_unix)[0].name == "Müller.dcm"
    assert directory_entries(on_unix.replace("ü".encode(), b"\x81\x81"))[0].name == "Müüller.dcm"


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data: b"", "no directory at its end"),
        (lambda data: b"just some text", "no directory at its end"),
        (lambda data: data[:-30], "no directory at its end"),
        (lambda data: data[100:], "is cut off"),
        (lambda data: data[: data.index(b"PK\1\2")] + b"PK\5\6" + data[data.index(b"PK\5\6") + 4 :], "cut off"),
        (lambda data: data.replace(b"PK\1\2", b"XX\1\2"), "directory is damaged"),
        (lambda data: changed_entry(data, 28, b"\xff\xff"), "declares 2 members and has 1"),  # a name over the others
    ],
)
def test_a_damaged_zip_is_an_error_with_the_reason(damage, reason):
    data = zip_of([("a.dcm", b"first" * 50), ("b.dcm", b"second")], method=zipfile.ZIP_STORED)
    with pytest.raises(ValueError, match=reason):
        directory_entries(damage(data))
