"""A folder's files: listed, and read only as they were listed."""

import os
from pathlib import Path

import pytest

from hemo.corpus.folder import file_on_disk, list_folder, read_from_folder
from hemo.errors import SourceChangedError, SourceError


@pytest.fixture
def place(tmp_path: Path) -> str:
    (tmp_path / "a.dcm").write_bytes(b"before")
    return str(tmp_path / "a.dcm")


def test_a_file_is_read_as_it_was_listed(place):
    assert read_from_folder(place, file_on_disk(place, "a.dcm")) == b"before"


@pytest.mark.parametrize("content", [b"longer than before", b"", b"BEFORE"])
def test_a_file_that_changed_after_the_listing_stops_the_run(place, content):
    file = file_on_disk(place, "a.dcm")
    Path(place).write_bytes(content)
    os.utime(place, ns=(5, 5))
    with pytest.raises(SourceChangedError, match=r"a\.dcm changed after the corpus was listed; run again"):
        read_from_folder(place, file)


def test_a_vanished_file_is_missing_and_a_folder_in_its_place_is_one(place):
    file = file_on_disk(place, "a.dcm")
    Path(place).unlink()
    with pytest.raises(FileNotFoundError):
        read_from_folder(place, file)
    Path(place).mkdir()
    with pytest.raises(IsADirectoryError):
        read_from_folder(place, file)


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path):
    os.mkfifo(tmp_path / "I10")
    with pytest.raises(SourceError, match="I10 is a folder, device or pipe, no file; leave it out"):
        list(list_folder(str(tmp_path)))


def test_the_root_is_cut_off_every_path(tmp_path):
    (tmp_path / "x/y").mkdir(parents=True)
    (tmp_path / "x/y/z.dcm").touch()
    for root in (str(tmp_path), f"{tmp_path}/"):
        assert [file.path for file in list_folder(root)] == ["x/y/z.dcm"]
