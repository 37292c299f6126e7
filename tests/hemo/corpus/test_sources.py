import os
from pathlib import Path

import pytest

from hemo.corpus.sources import list_corpus, read_files
from hemo.errors import SourceError
from tests.zips import link, zip_of


def fill(root: Path, *names: str) -> str:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return str(root)


def test_an_rsna_corpus_is_its_dcm_files_sorted_by_path(tmp_path):
    source = fill(tmp_path, "stage_2_train/ID_b.dcm", "stage_2_train/ID_a.dcm", "stage_2_train.csv")
    listing = list_corpus(source, "rsna")
    assert [file.path for file in listing.files] == ["stage_2_train/ID_a.dcm", "stage_2_train/ID_b.dcm"]
    assert (listing.files[0].size_bytes, listing.ignored) == (22, 1)


def test_every_file_of_a_dicom_export_counts(tmp_path):
    """Scanners write names without ending, and a DICOMDIR beside them."""
    assert len(list_corpus(fill(tmp_path, "S1/I10", "DICOMDIR", "x.txt"), "dicom").files) == 3


def test_an_image_folder_is_its_pictures_whatever_the_case_of_the_ending(tmp_path):
    listing = list_corpus(fill(tmp_path, "train/NORMAL/a.JPEG", "train/NORMAL/b.png", "notes.md"), "image_folder")
    assert [file.path for file in listing.files] == ["train/NORMAL/a.JPEG", "train/NORMAL/b.png"]


def test_the_mark_changes_with_the_file(tmp_path):
    source = fill(tmp_path, "a.dcm")
    before = list_corpus(source, "rsna").files[0]
    os.utime(tmp_path / "a.dcm", ns=(1, 1))
    assert list_corpus(source, "rsna").files[0].mark == "1" != before.mark


def test_links_are_followed_and_circles_walked_once(tmp_path):
    source = fill(tmp_path / "source", "a.dcm")
    fill(tmp_path / "elsewhere", "b.dcm")
    (tmp_path / "source/loop").symlink_to(tmp_path / "source")
    (tmp_path / "source/linked").symlink_to(tmp_path / "elsewhere")
    assert [file.path for file in list_corpus(source, "rsna").files] == ["a.dcm", "linked/b.dcm"]


def test_a_link_to_nothing_is_an_error(tmp_path):
    source = fill(tmp_path, "a.dcm")
    (tmp_path / "b.dcm").symlink_to(tmp_path / "gone")
    with pytest.raises(SourceError, match=r"b\.dcm: No such file.*repair the link"):
        list_corpus(source, "rsna")


def test_a_name_that_is_no_utf8_is_an_error(tmp_path):
    source = fill(tmp_path, "a.dcm")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/M\xfcller.dcm")).touch()
    with pytest.raises(SourceError, match="is no UTF-8 name; rename the file"):
        list_corpus(source, "rsna")


def test_two_files_that_would_be_one_image_are_refused_by_name(tmp_path):
    source = fill(tmp_path, "stage_1/ID_a.dcm", "stage_2/ID_a.dcm")
    with pytest.raises(SourceError, match=r"stage_1/ID_a\.dcm and stage_2/ID_a\.dcm would both be image ID_a"):
        list_corpus(source, "rsna")
    assert len(list_corpus(source, "dicom").files) == 2


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_a_zip_holds_twice_is_refused_by_name(tmp_path):
    (tmp_path / "data.zip").write_bytes(zip_of([("x/a.dcm", b"1"), ("b.dcm", b"2"), ("x/a.dcm", b"3")]))
    with pytest.raises(SourceError, match=r"data\.zip holds x/a\.dcm twice; zip it again"):
        list_corpus(str(tmp_path / "data.zip"), "dicom")


def test_a_refused_member_stays_in_the_listing_and_clashes_with_no_id(tmp_path):
    (tmp_path / "data.zip").write_bytes(zip_of([("ID_a.dcm", b"good"), (link("x/ID_a.dcm"), b"/etc/passwd")]))
    source = str(tmp_path / "data.zip")
    files = list_corpus(source, "rsna").files
    assert [file.path for file in files] == ["ID_a.dcm", "x/ID_a.dcm"]
    data, refusal = read_files(source, files)
    assert data == b"good"
    assert refusal.args == ("unsafe_member", "it is a link or device, no file")


def test_a_file_that_is_no_zip_is_no_source(tmp_path):
    (tmp_path / "data.tar").write_bytes(b"")
    with pytest.raises(SourceError, match=r"data\.tar is no folder and no \.zip"):
        list_corpus(str(tmp_path / "data.tar"), "dicom")


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(SourceError, match="is empty"):
        list_corpus(str(tmp_path), "dicom")


def test_a_missing_folder_is_refused():
    with pytest.raises(SourceError, match="/no/such/place does not exist"):
        list_corpus("/no/such/place", "rsna")


def test_a_folder_without_such_files_is_refused_with_what_was_there(tmp_path):
    with pytest.raises(SourceError, match=r"holds no .dcm files \(1 others\); is --corpus rsna right"):
        list_corpus(fill(tmp_path, "a.jpeg"), "rsna")


def test_files_are_read_by_their_relative_path(tmp_path):
    source = fill(tmp_path, "x/y.dcm")
    assert read_files(source, list_corpus(source, "rsna").files) == [b"x/y.dcm"]
