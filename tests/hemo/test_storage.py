"""Paths and URIs alike: whole files or none."""

import os
import re
import stat
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest

from hemo import storage
from hemo.errors import OutputError, SourceError, StorageError
from tests.s3 import s3_environment  # noqa: F401 (a fixture)
from tests.zips import zip_of


@pytest.fixture(params=["disk", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty folder, once on disk and once in an object store's stead."""
    if request.param == "disk":
        yield str(tmp_path / "set")
        return
    yield "memory://set"
    memory = fsspec.filesystem("memory")
    if memory.exists("/set"):
        memory.rm("/set", recursive=True)


def test_what_was_written_is_read_and_listed(place: str) -> None:
    storage.write_bytes(storage.join(place, "b", "two.bin"), b"\x00\x02")
    storage.write_bytes(storage.join(place, "a.bin"), b"\x01")
    assert storage.read_bytes(storage.join(place, "b", "two.bin")) == b"\x00\x02"
    assert storage.read_range(storage.join(place, "b", "two.bin"), 1, 2) == b"\x02"
    assert storage.list_files(place) == ["a.bin", "b/two.bin"]
    assert storage.exists(storage.join(place, "b"))
    assert not storage.exists(storage.join(place, "c"))


def test_a_second_write_replaces_the_first(place: str) -> None:
    file = storage.join(place, "a.bin")
    storage.write_bytes(file, b"longer than the second")
    storage.write_bytes(file, b"2")
    assert storage.read_bytes(file) == b"2"
    assert storage.list_files(place) == ["a.bin"]


def test_a_file_has_another_mark_once_it_was_written_again(place: str) -> None:
    """Also with content of the same size; nothing else changes its mark."""
    assert storage.list_changes(place) == {}
    storage.write_bytes(storage.join(place, "a.bin"), b"1")
    storage.write_bytes(storage.join(place, "b", "two.bin"), b"1")
    before = storage.list_changes(place)
    assert list(before) == ["a.bin", "b/two.bin"]
    assert storage.list_changes(place) == before
    storage.write_bytes(storage.join(place, "b", "two.bin"), b"2")
    after = storage.list_changes(place)
    assert [name for name in after if after[name] != before[name]] == ["b/two.bin"]


def test_json_comes_back_and_ends_with_a_newline(place: str) -> None:
    file = storage.join(place, "card.json")
    storage.write_json(file, {"rows": 2, "names": ["a"]})
    assert storage.read_json(file) == {"rows": 2, "names": ["a"]}
    assert storage.read_bytes(file) == b'{\n  "rows": 2,\n  "names": [\n    "a"\n  ]\n}\n'


def test_numbers_of_a_list_have_one_line(place: str) -> None:
    """So a matrix has one a row; texts and what only looks like a list of numbers stay as they are."""
    value = {
        "matrix": [[1, -2], [3.5, 1e-07]],
        "none": [],
        "gap": [1, None],
        "text": "[\n 1,\n 2 ]",
        "rows": [{"a": 1}],
    }
    storage.write_json(storage.join(place, "x.json"), value)
    assert storage.read_json(storage.join(place, "x.json")) == value
    text = storage.read_bytes(storage.join(place, "x.json")).decode()
    assert text.startswith('{\n  "matrix": [\n    [1, -2],\n    [3.5, 1e-07]\n  ],\n  "none": [],\n  "gap": [\n    1,')


def test_json_without_meaning_is_refused(place: str) -> None:
    with pytest.raises(ValueError, match="Out of range float values"):
        storage.write_json(storage.join(place, "x.json"), {"loss": float("inf")})
    assert storage.list_files(place) == []


def test_reading_json_that_is_missing_or_broken_names_the_file(place: str) -> None:
    file = storage.join(place, "card.json")
    with pytest.raises(SourceError, match=r"card.json does not exist"):
        storage.read_json(file)
    storage.write_bytes(file, b"{")
    with pytest.raises(SourceError, match=r"card.json is no JSON: Expecting property name"):
        storage.read_json(file)


def test_a_folder_in_place_of_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot be read: Is a directory"):
        storage.read_json(str(tmp_path))


def test_removing_takes_files_and_folders_and_minds_nothing(place: str) -> None:
    storage.write_bytes(storage.join(place, "b", "two.bin"), b"2")
    storage.remove(storage.join(place, "b"))
    storage.remove(storage.join(place, "b"))
    assert storage.list_files(place) == []


def test_an_empty_object_that_stands_for_a_folder_is_no_file(s3_environment: dict[str, str]) -> None:  # noqa: F811
    """Ray makes such objects, and so does the AWS console."""
    fsspec.filesystem("s3").mkdir("marked")
    fsspec.filesystem("s3").touch("marked/out/ray/")
    storage.write_bytes("s3://marked/out/card.json", b"{}")
    assert storage.list_files("s3://marked") == ["out/card.json"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "shard.parquet"
    storage.write_bytes(str(file), b"old")

    def disk_full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(OSError, match=rf"\[Errno 28\] {re.escape(str(file))}: No space left on device"):
        storage.write_bytes(str(file), b"new")
    assert file.read_bytes() == b"old"
    assert storage.list_files(str(tmp_path)) == ["shard.parquet"]


def test_files_have_the_permissions_of_the_umask(tmp_path: Path) -> None:
    """Mask 027 leaves rw-r-----: other users of a cluster in the group can read."""
    old = os.umask(0o027)
    try:
        storage.write_bytes(str(tmp_path / "a"), b"")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_paths_become_absolute_and_uris_keep_their_scheme() -> None:
    assert storage.absolute("a/../b") == str(Path.cwd() / "b")
    assert storage.absolute("file:///data/x/") == "/data/x"
    assert storage.absolute("gs://bucket/x/") == "gs://bucket/x"
    assert storage.join("s3://bucket/", "a", "b") == "s3://bucket/a/b"


def test_local_means_mounted() -> None:
    assert storage.is_local("/data")
    assert not storage.is_local("memory://data")


def test_an_unknown_scheme_is_an_error() -> None:
    with pytest.raises(
        SourceError, match=r"^nfs4://x/y: Protocol not known: nfs4; give a folder or a URI that fsspec supports"
    ):
        storage.exists("nfs4://x/y")


def test_a_writable_folder_is_left_as_it_was(place: str) -> None:
    storage.require_writable(place)
    assert storage.list_files(place) == []


def test_a_file_in_place_of_the_folder_cannot_be_written_in(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(
        OutputError, match=r"^out: cannot write in .*/out \((File exists|Not a directory)\); give a folder"
    ):
        storage.require_writable(str(tmp_path / "out"))


def test_a_folder_without_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(self: Path, mode: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", forbidden)
    with pytest.raises(
        OutputError, match=r"^out: cannot write in /.* \(Permission denied\); give a folder you may write to$"
    ):
        storage.require_writable(str(tmp_path / "out"))


def test_only_the_names_of_unfinished_writes_are_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "replace", lambda self, target: self)  # as if killed before the rename
    storage.write_bytes(str(tmp_path / "ID_1.dcm"), b"x")
    (left,) = storage.list_files(str(tmp_path))
    assert left.startswith(".ID_1.dcm.")
    assert storage.is_temporary(left)
    assert not any(map(storage.is_temporary, ["ID_1.dcm", ".ID_1.dcm", "scratch.tmp", f"{left}.dcm", left[1:]]))


def test_a_folder_that_cannot_be_created_is_an_error() -> None:
    with pytest.raises(OutputError, match=r"cannot write in /proc/x \(the folder may not be created\); give"):
        storage.require_writable("/proc/x")


def test_a_member_of_a_zip_is_a_location_like_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data.zip").write_bytes(zip_of([("labels/train.csv", b"ID,Label")]))
    monkeypatch.chdir(tmp_path)
    location = storage.absolute("zip://labels/train.csv::data.zip")
    assert location == f"zip://labels/train.csv::{tmp_path}/data.zip"
    assert storage.absolute(location) == location
    assert storage.exists(location)
    assert storage.read_bytes(location) == b"ID,Label"
    assert storage.absolute("zip://a.csv::s3://bucket/data.zip") == "zip://a.csv::s3://bucket/data.zip"


@pytest.mark.parametrize(
    "use",
    [
        lambda: storage.exists("memory://set"),
        lambda: storage.read_bytes("memory://set/a"),
        lambda: storage.write_bytes("memory://set/a", b""),
        lambda: storage.list_files("memory://set"),
        lambda: storage.remove("memory://set"),
    ],
)
def test_exceptions_of_one_storage_become_one_line(use, monkeypatch: pytest.MonkeyPatch) -> None:
    class NoCredentialsError(Exception): ...

    def fail(*_: object, **__: object) -> None:
        raise NoCredentialsError("Unable to\nlocate credentials")

    for name in ("exists", "cat_file", "pipe_file", "find"):
        monkeypatch.setattr(fsspec.get_filesystem_class("memory"), name, fail)
    with pytest.raises(StorageError, match=r"cannot be accessed \(NoCredentialsError: Unable to locate credentials\)"):
        use()


def test_an_output_without_credentials_is_the_users_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no credentials")

    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "pipe_file", fail)
    with pytest.raises(OutputError, match=r"cannot write in memory://set .*no credentials\)\); give a folder"):
        storage.require_writable("memory://set")


def test_many_may_ask_at_once_whether_they_may_write(tmp_path):
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(storage.require_writable, [str(tmp_path)] * 200)) == [None] * 200
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (20_480, "20.5 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (7_300_000_000, "7.3 GB"),
        (4_500_000_000_000_000, "4,500.0 TB"),
    ],
)
def test_a_size_has_a_unit_that_fits(size_bytes: int, text: str) -> None:
    assert storage.size_text(size_bytes) == text


def test_files_of_workers_that_this_process_does_not_see_in_time_are_an_error(tmp_path, monkeypatch):
    """Of three on a disk and one on a bucket, which all see, the third is on another machine's disk."""
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    files = storage.WrittenFiles()
    for name in "abc":
        files.add(str(tmp_path / name))
    files.add("memory://set/d")
    (tmp_path / "a").touch()
    clock[0] += storage.SEEN_WITHIN_S
    files.check()
    (tmp_path / "b").touch()
    clock[0] += 1
    message = rf"^out: a worker wrote {tmp_path}/c, which this process does not see: .* its node; give a folder"
    with pytest.raises(OutputError, match=message):
        files.check()
    with pytest.raises(OutputError, match=message):
        files.wait()
    (tmp_path / "c").touch()
    files.wait()
