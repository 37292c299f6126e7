import os
import zipfile
from pathlib import Path

import pytest

from hemo.corpus.files import file_on_disk, list_bucket, list_folder, read_from_folder, read_objects
from hemo.corpus.source_file import SourceFile
from hemo.corpus.sources import list_corpus, read_files
from hemo.errors import SourceChangedError, SourceError
from hemo.storage import filesystem, write_bytes
from tests.s3 import s3_environment, slow_s3  # noqa: F401 (fixtures)
from tests.zips import zip_of


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
    with pytest.raises(SourceError, match="I10 is a folder, device or pipe, not a file; leave it out"):
        list(list_folder(str(tmp_path)))


def test_the_root_is_cut_off_every_path(tmp_path):
    (tmp_path / "x/y").mkdir(parents=True)
    (tmp_path / "x/y/z.dcm").touch()
    for root in (str(tmp_path), f"{tmp_path}/"):
        assert [file.path for file in list_folder(root)] == ["x/y/z.dcm"]


def test_a_folder_is_listed_by_its_own_name_not_by_that_of_a_link(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train/x.png").touch()
    for name in ("aa", "zz"):
        (tmp_path / name).symlink_to("train")
    (tmp_path / "zz_more").mkdir()
    (tmp_path / "zz_more/link").symlink_to("../train")
    assert [file.path for file in list_folder(str(tmp_path))] == ["train/x.png"]


@pytest.fixture(scope="module")
def bucket(s3_environment) -> str:  # noqa: F811
    filesystem("s3://corpus")[0].mkdir("corpus")
    for name in ("train/ID_b.dcm", "train/ID_a.dcm", "train/empty.dcm", "odd [1]*?/ID_c.dcm", "notes.md"):
        write_bytes(f"s3://corpus/{name}", b"" if "empty" in name else name.encode())
    filesystem("s3://corpus")[0].touch("corpus/folder/")
    return "s3://corpus"


def test_objects_are_listed_by_path_with_their_etag(bucket):
    """The MD5 of the content: `printf train/ID_a.dcm | md5sum`."""
    listing = list_corpus(bucket, "rsna")
    assert [file.path for file in listing.files] == [
        "odd [1]*?/ID_c.dcm", "train/ID_a.dcm", "train/ID_b.dcm", "train/empty.dcm",
    ]  # fmt: skip
    assert (listing.files[1].size_bytes, listing.ignored) == (14, 1)
    assert listing.files[1].mark == "9477e0ba806846f5a99cb737e742aa31"


def test_many_objects_are_read_in_order_empty_and_oddly_named_ones_as_well(bucket):
    files = list_corpus(bucket, "rsna").files
    assert read_files(bucket, files) == [b"odd [1]*?/ID_c.dcm", b"train/ID_a.dcm", b"train/ID_b.dcm", b""]


def test_a_listing_is_never_an_old_one(bucket):
    before = len(list(list_bucket(f"{bucket}/train")))
    write_bytes(f"{bucket}/train/new.txt", b"new")
    assert len(list(list_bucket(f"{bucket}/train"))) == before + 1


@pytest.mark.parametrize("size_bytes", [13, 15, 0])
def test_an_object_of_another_size_stops_the_run(bucket, size_bytes):
    file = SourceFile("train/ID_a.dcm", size_bytes, "etag")
    with pytest.raises(SourceChangedError, match=r"train/ID_a\.dcm changed after the corpus was listed"):
        read_objects([f"{bucket}/train/ID_a.dcm"], [file])


def test_a_vanished_object_is_a_missing_file(bucket):
    with pytest.raises(FileNotFoundError, match=r"\[Errno 2\] No such file or directory: 'corpus/train/gone\.dcm'"):
        read_objects([f"{bucket}/train/gone.dcm"], [SourceFile("train/gone.dcm", 5, "etag")])


def test_a_zip_in_a_bucket_is_read_in_place(bucket):
    write_bytes(f"{bucket}/data.zip", zip_of([("ID_a.dcm", b"a" * 999), ("ID_b.dcm", b"b")]))
    listing = list_corpus(f"{bucket}/data.zip", "rsna")
    assert read_files(f"{bucket}/data.zip", listing.files) == [b"a" * 999, b"b"]
    stored = zip_of([("ID_a.dcm", b"a" * 999), ("ID_b.dcm", b"b")], method=zipfile.ZIP_STORED)
    write_bytes(f"{bucket}/data.zip", b"\0" * 99 + stored[:40])
    with pytest.raises(SourceChangedError, match="the zip changed"):
        read_files(f"{bucket}/data.zip", listing.files)


def test_a_missing_bucket_is_a_source_error(s3_environment):  # noqa: F811
    with pytest.raises(SourceError, match="s3://nosuch/place is empty; give the folder, zip or bucket"):
        list_corpus("s3://nosuch/place", "rsna")
    with pytest.raises(SourceError, match=r"s3://nosuch/data\.zip does not exist"):
        list_corpus("s3://nosuch/data.zip", "rsna")


def test_objects_are_requested_concurrently_and_once(slow_s3):  # noqa: F811
    files = [SourceFile(f"ID_{number}.dcm", 10, "etag") for number in range(24)]
    assert read_files("s3://slow", files) == [b"0123456789"] * 24
    assert slow_s3.most_at_once > 10  # botocore's own limit; a busy machine may not manage all 24
    assert slow_s3.answered == 24


def test_a_storage_that_is_busy_is_a_passing_fault(slow_s3):  # noqa: F811
    slow_s3.refuses, slow_s3.seconds = True, 0
    with pytest.raises(OSError, match="reduce your request rate") as raised:
        read_files("s3://slow", [SourceFile("ID_a.dcm", 10, "etag")])
    assert raised.value.errno == 16  # EBUSY, which `hemo.cluster.ray_data.TRANSIENT_ERRORS` retries


def test_a_storage_that_is_away_is_a_passing_fault_when_reading_and_the_users_when_listing(slow_s3):  # noqa: F811
    slow_s3.shutdown()
    slow_s3.server_close()
    with pytest.raises((ConnectionError, TimeoutError)):
        read_files("s3://slow", [SourceFile("ID_a.dcm", 10, "etag")])
    with pytest.raises(SourceError, match=r"s3://slow cannot be listed \(.*AWS_ENDPOINT_URL"):
        list_corpus("s3://slow", "rsna")
