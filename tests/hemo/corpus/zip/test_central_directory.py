"""The directory of a zip, against zips that the standard library writes."""

import io
import zipfile
import zlib

import pytest

from hemo.corpus.zip.central_directory import Entry, entries, read_directory
from tests.zips import changed_entry, zip_of


def listed(data: bytes) -> list[Entry]:
    directory = read_directory(lambda ranges: [data[start:end] for start, end in ranges], len(data))
    return list(entries(directory))


def test_every_member_is_listed_with_where_it_lies():
    data = zip_of([("a/x.dcm", b"x" * 100), ("b.dcm", b"second")], method=zipfile.ZIP_STORED)
    first, second = listed(data)
    assert first == Entry("a/x.dcm", 3, 0, 0, zlib.crc32(b"x" * 100), 100, 100, 0o600 << 16, 0)
    assert (second.name, second.header_offset) == ("b.dcm", 30 + 7 + 100)
    assert data[second.header_offset :].startswith(b"PK\3\4")


def test_a_zip_of_more_than_65535_members_has_its_counts_elsewhere():
    data = zip_of(((f"ID_{number:06d}.dcm", b"") for number in range(66_000)), method=zipfile.ZIP_STORED)
    assert b"PK\6\6" in data[-100:]
    found = listed(data)
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
    found = listed(plain[:at] + bytes(entry) + extra + bytes(end))
    assert (found[0].size_bytes, found[0].compressed_bytes, found[0].header_offset) == (5_000_000_000, 4_999_999_999, 0)


def test_a_comment_behind_and_a_program_before_the_zip_do_not_matter():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.dcm", b"first")
        archive.comment = b"made by PK" * 50
    data = b"#!/bin/sh\n" + buffer.getvalue()
    assert [(entry.name, entry.header_offset) for entry in listed(data)] == [("a.dcm", 10)]


def test_an_empty_zip_has_no_members():
    assert listed(zip_of([])) == []


def test_names_are_utf8_where_the_zip_says_so_and_cp437_else():
    data = zip_of([("Müller.dcm", b"")])
    assert listed(data)[0].name == "Müller.dcm"
    assert listed(changed_entry(data, 8, b"\0\0"))[0].name == "M\u251c\u255dller.dcm"
    broken = data.replace("ü".encode(), b"\xff\xfe")
    assert listed(broken)[0].name == "M\\xff\\xfeller.dcm"


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data: b"", "no directory at its end"),
        (lambda data: b"just some text", "no directory at its end"),
        (lambda data: data[:-30], "no directory at its end"),
        (lambda data: data[100:], "is cut off"),
        (lambda data: data[: data.index(b"PK\1\2")] + b"PK\5\6" + data[data.index(b"PK\5\6") + 4 :], "cut off"),
        (lambda data: data.replace(b"PK\1\2", b"XX\1\2"), "directory is damaged"),
        (lambda data: changed_entry(data, 28, b"\xff\xff"), "promises 2 members and has 1"),  # a name over the others
    ],
)
def test_a_damaged_zip_says_so(damage, reason):
    data = zip_of([("a.dcm", b"first" * 50), ("b.dcm", b"second")], method=zipfile.ZIP_STORED)
    with pytest.raises(ValueError, match=reason):
        listed(damage(data))
