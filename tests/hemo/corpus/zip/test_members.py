"""Members of a zip come out as they went in, or as `damaged_member`."""

import os
import zipfile
from collections import Counter
from pathlib import Path

import fsspec
import numpy as np
import pytest

from hemo.corpus.sources import read_files
from hemo.corpus.zip.archive import list_archive
from hemo.corpus.zip.members import read_members
from hemo.errors import SliceError, SourceChangedError, SourceError
from tests.zips import changed_entry, zip_of

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
    said = damaged(tmp_path, changed_entry(data, 24, (9000).to_bytes(4, "little")))
    assert said == "9001 bytes, the zip's directory says 9000"


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
            outcomes["no whole zip"] += 1
            continue
        assert all(isinstance(member, SliceError) or member in contents for member in read)
        outcomes["damaged" if any(isinstance(member, SliceError) for member in read) else "whole"] += 1
    assert min(outcomes.values()) > 20
    assert len(outcomes) == 3
