import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hemo.config.convert import ConvertConfig, ImagesConfig
from hemo.corpus.source_file import SourceFile
from hemo.corpus.sources import list_corpus, media_of
from hemo.errors import HemoError, SourceChangedError
from hemo.imaging.image import REASONS, pixel_digest
from hemo.imaging.settings import image_settings
from hemo.pseudonym import Pseudonymiser, pseudonymiser
from hemo.shards.convert_unit import UnitTask, build_shard, read_ahead, read_batches, read_unit, unit_rows
from hemo.shards.manifest import Unit, unit_digest
from hemo.shards.reader import images_of
from hemo.shards.schema import ShardFooter, read_footer
from hemo.storage import write_bytes
from tests.dicom_files import head_file
from tests.units import unit_of
from tests.zips import link, zip_folder, zip_of


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "ID_a.dcm").write_bytes(head_file(PatientID="JANE DOE"))
    (folder / "ID_b.dcm").write_bytes(head_file(PixelData=b"\0" * 10))
    (folder / "ID_c.dcm").write_bytes(head_file(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]))
    return folder


NAMES = ("ID_a.dcm", "ID_b.dcm", "ID_c.dcm")


def task(corpus: Path, pseudonyms: Pseudonymiser | None = None) -> UnitTask:
    pseudonyms = pseudonyms or Pseudonymiser()
    config = ConvertConfig(
        source=str(corpus), corpus="dicom", out="/nowhere", side_px=16, public_ids=pseudonyms.keeps_ids,
        pseudonym_key="" if pseudonyms.keeps_ids else "/key",
    )  # fmt: skip
    return UnitTask(
        str(corpus),
        image_settings(config, media_of(config.source, config.corpus), pseudonyms),
        pseudonyms,
        read_threads=2,
    )


def test_every_file_is_a_row_or_a_reject(corpus):
    buffer, footer = build_shard(task(corpus), unit_of(corpus, 3, *NAMES))
    table = pq.read_table(buffer)
    assert table["image_id"].to_pylist() == ["ID_a", "ID_c"]
    assert table["flags"].to_pylist() == [[], ["localizer"]]
    assert [(reject.source_path, reject.reason) for reject in footer.rejects] == [("ID_b.dcm", "truncated")]
    assert (footer.files, footer.rows, footer.unit) == (3, 2, 3)


def test_where_a_slice_lies_is_part_of_its_row(corpus):
    (corpus / "ID_d.dcm").write_bytes(head_file(SliceThickness="4.0", ImageOrientationPatient=[0, 1, 0, 0, 0, -1]))
    (corpus / "ID_e.dcm").write_bytes(head_file(ImageOrientationPatient=None))
    buffer, _ = build_shard(task(corpus), unit_of(corpus, 0, "ID_a.dcm", "ID_d.dcm", "ID_e.dcm"))
    rows = pq.read_table(buffer, columns=["position_mm", "orientation", "slice_thickness_mm"]).to_pylist()
    assert [list(row.values()) for row in rows] == [
        [47.25, [1, 0, 0, 0, 1, 0], None],
        [125.0, [0, 1, 0, 0, 0, -1], 4.0],
        [None, None, None],
    ]


def test_the_scanner_is_named_and_under_a_key_a_pseudonym(corpus):
    key = pseudonymiser(b"a secret of sixteen bytes")
    named = {"Manufacturer": "GE  MEDICAL SYSTEMS", "ManufacturerModelName": "Revolution CT"}
    (corpus / "ID_g.dcm").write_bytes(head_file(**named))
    unit = unit_of(corpus, 0, "ID_a.dcm", "ID_g.dcm")
    rows = [pq.read_table(build_shard(task(corpus, *names), unit)[0])["scanner"].to_pylist() for names in ((), (key,))]
    assert rows == [
        [None, "GE MEDICAL SYSTEMS Revolution CT"],
        [None, key("scanner", "GE MEDICAL SYSTEMS Revolution CT")],
    ]


def test_hounsfield_units_are_stored_as_16_bits(corpus):
    """Stored as HU + 1024: the middle of the head has 30 to 37 HU, the mean of 30 and 31 goes up."""
    given = task(corpus)
    settings = given.settings.model_copy(update={"pixels": "hu16", "windows": ()})
    buffer, footer = build_shard(replace(given, settings=settings), unit_of(corpus, 3, *NAMES))
    assert (footer.dtype, footer.channels) == ("int16", ("hu",))
    images = images_of(pq.read_table(buffer)["image"], (1, 16, 16), footer.dtype)
    assert images.shape == (2, 1, 16, 16)
    np.testing.assert_array_equal(images[0, 0, 4, 3:6], [-1000, 31, 33])


def test_the_footer_on_disk_is_the_footer_returned(corpus, tmp_path):
    buffer, footer = build_shard(task(corpus), unit_of(corpus, 3, *NAMES))
    (tmp_path / "shard.parquet").write_bytes(buffer)
    assert read_footer(str(tmp_path / "shard.parquet")) == footer
    assert footer.digest == unit_digest(unit_of(corpus, 3, *NAMES), footer.settings)


def test_the_digest_covers_paths_and_settings(corpus):
    digests = {
        unit_digest(unit_of(corpus, 3, *NAMES), task(corpus).settings.model_dump(mode="json")),
        unit_digest(unit_of(corpus, 3, *NAMES[:2]), task(corpus).settings.model_dump(mode="json")),
        unit_digest(
            unit_of(corpus, 3, *NAMES),
            task(corpus, pseudonymiser(b"a secret of sixteen bytes")).settings.model_dump(mode="json"),
        ),
    }
    assert len(digests) == 3


def test_under_a_key_the_digest_does_not_verify_guessed_paths(corpus):
    pseudonyms = pseudonymiser(b"a secret of sixteen bytes")
    _, footer = build_shard(task(corpus, pseudonyms), unit_of(corpus, 3, *NAMES))
    guess = unit_digest(unit_of(corpus, 3, *NAMES), footer.settings)
    assert footer.digest == unit_digest(unit_of(corpus, 3, *NAMES), footer.settings, pseudonyms) != guess


def test_the_same_unit_gives_the_same_bytes(corpus):
    assert build_shard(task(corpus), unit_of(corpus, 3, *NAMES))[0].equals(
        build_shard(task(corpus), unit_of(corpus, 3, *NAMES))[0]
    )


def test_no_identifier_survives_under_a_key(corpus):
    buffer, _ = build_shard(task(corpus, pseudonymiser(b"a secret of sixteen bytes")), unit_of(corpus, 3, *NAMES))
    plain = pq.read_table(buffer).to_pylist()
    for planted in ("JANE", "ID_a", "ID_b", "ID_study", "ID_series"):
        assert planted.encode() not in buffer.to_pybytes()
        assert planted not in str(plain)


def test_an_unreadable_file_fails_the_unit_instead_of_becoming_a_reject(corpus):
    unit = unit_of(corpus, 3, *NAMES)
    (corpus / "ID_b.dcm").unlink()
    with pytest.raises(FileNotFoundError):
        build_shard(task(corpus), unit)


@pytest.mark.parametrize("change", [Path.unlink, lambda file: file.write_bytes(b"other")])
def test_under_a_key_no_fault_of_a_file_names_it(corpus, change):
    unit = unit_of(corpus, 3, *NAMES)
    change(corpus / NAMES[1])
    with pytest.raises((OSError, SourceChangedError), match=NAMES[1]):
        list(read_unit(task(corpus), unit))
    with pytest.raises((OSError, SourceChangedError)) as refused:
        list(read_unit(task(corpus, pseudonymiser(b"a secret of sixteen bytes")), unit))
    assert NAMES[1] not in str(refused.value)


def test_files_are_read_ahead_in_order(corpus):
    files = unit_of(corpus, 3, *NAMES).files
    assert [file for file, data in read_ahead(str(corpus), files, threads=2) if data] == list(files)


def shard_from(source: str, corpus: str = "dicom", key: bytes = b"") -> tuple[pa.Buffer, ShardFooter]:
    """Return the shard of a whole source."""
    pseudonyms = Pseudonymiser(key)
    config = ImagesConfig(
        source=source, corpus=corpus, side_px=16, public_ids=not key, pseudonym_key="/key" if key else ""
    )
    made = UnitTask(
        source, image_settings(config, media_of(config.source, config.corpus), pseudonyms), pseudonyms, read_threads=2
    )
    return build_shard(made, Unit(0, list_corpus(source, corpus).files))


def test_folder_zip_and_bucket_give_the_same_bytes(corpus, tmp_path):
    whole, _ = shard_from(str(corpus))
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        archive = zip_folder(corpus, tmp_path / f"{method}.zip", method=method)
        assert shard_from(str(archive))[0].equals(whole)
        write_bytes("memory://unit/data.zip", archive.read_bytes())
        assert shard_from("memory://unit/data.zip")[0].equals(whole)
    for file in corpus.iterdir():
        write_bytes(f"memory://unit/bucket/{file.name}", file.read_bytes())
    assert shard_from("memory://unit/bucket")[0].equals(whole)


def test_an_image_folder_is_the_same_from_a_zip(tmp_path):
    for name, grey in (("train/NORMAL/IM-0001-a.png", 40), ("train/PNEUMONIA/person7_b.png", 200)):
        (tmp_path / "corpus" / name).parent.mkdir(parents=True)
        PIL.Image.new("L", (20, 30), grey).save(tmp_path / "corpus" / name)
    whole, _ = shard_from(str(tmp_path / "corpus"), "image_folder")
    zipped, _ = shard_from(str(zip_folder(tmp_path / "corpus", tmp_path / "data.zip")), "image_folder")
    assert zipped.equals(whole)
    assert pq.read_table(zipped)["source_class"].to_pylist() == ["NORMAL", "PNEUMONIA"]


def test_hostile_members_are_rejects_of_their_unit_without_names(tmp_path):
    data = zip_of([("a.dcm", head_file()), ("../JANE.dcm", b"x"), (link("JANE.dcm"), b"/etc/passwd")])
    at = data.index(b"PK\3\4") + 200
    (tmp_path / "data.zip").write_bytes(data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :])
    shard, footer = shard_from(str(tmp_path / "data.zip"), key=b"a secret of sixteen bytes")
    assert sorted(reject.reason for reject in footer.rejects) == ["damaged_member", "unsafe_member", "unsafe_member"]
    assert {reject.reason for reject in footer.rejects} <= set(REASONS)
    assert b"JANE" not in shard.to_pybytes()


def test_a_table_goes_before_the_header(corpus):
    table = corpus / "list.csv"
    table.write_text("path,image_id,patient,source_class,source_split\nID_a.dcm,first,P9,sick,train\nID_c.dcm,,,,\n")
    first, second = pq.read_table(shard_from(str(table), "manifest")[0]).to_pylist()
    assert (first["image_id"], first["patient"], first["study"]) == ("first", "P9", "ID_study")
    assert (first["source_class"], first["source_split"], first["source_path"]) == ("sick", "train", "ID_a.dcm")
    assert (second["image_id"], second["patient"], second["source_class"]) == ("ID_c", "ID_patient", None)


def test_identities_of_a_table_are_pseudonyms_under_a_key(corpus):
    """The same patient by table and by header gets the same pseudonym."""
    (corpus / "list.csv").write_text("path,image_id,patient\nID_a.dcm,JANE-1,ID_patient\nID_c.dcm,JANE-2,\n")
    shard, _ = shard_from(str(corpus / "list.csv"), "manifest", key=b"a secret of sixteen bytes")
    rows = pq.read_table(shard)
    assert len(set(rows["patient"].to_pylist())) == 1
    assert b"JANE" not in shard.to_pybytes()
    assert "JANE" not in str(rows.to_pylist())


def picture_folder(folder: Path) -> Path:
    """Write the same picture to three folders of which one is named after a patient, and another picture."""
    for name, grey in (
        ("train/NORMAL/a.png", 40),
        ("train/Doe_John_1950/b.png", 40),
        ("Doe_John_1950/NORMAL/c.png", 40),
        ("test/NORMAL/d.png", 41),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.new("L", (20, 30), grey).save(folder / name)
    return folder


def picture_rows(folder: Path, key: bytes, *public_classes: str) -> list[dict[str, object]]:
    """Return the rows of a picture folder under a key, in the order of their paths."""
    pseudonyms = Pseudonymiser(key)
    config = ImagesConfig(
        source=str(folder), corpus="image_folder", side_px=16, pseudonym_key="/key", public_classes=public_classes
    )
    work = UnitTask(str(folder), image_settings(config, "photo", pseudonyms), pseudonyms, read_threads=1)
    shard, _ = build_shard(work, Unit(0, list_corpus(str(folder), "image_folder").files))
    assert b"Doe" not in shard.to_pybytes()
    return pq.read_table(shard).to_pylist()


KEY = b"a secret of sixteen bytes"


def test_under_a_key_only_public_classes_and_known_splits_keep_their_names(tmp_path):
    """The paths in order: Doe_John_1950/NORMAL, test/NORMAL, train/Doe_John_1950, train/NORMAL."""
    folder, key = picture_folder(tmp_path), Pseudonymiser(KEY)
    rows = picture_rows(folder, KEY, "NORMAL")
    hidden = key("class", "Doe_John_1950")
    assert [row["source_class"] for row in rows] == ["NORMAL", "NORMAL", hidden, "NORMAL"]
    assert [row["source_split"] for row in rows] == [None, "test", "train", "train"]
    normal = key("class", "NORMAL")
    assert [row["source_class"] for row in picture_rows(folder, KEY)] == [normal, normal, hidden, normal]


def test_under_a_key_pixel_digests_are_keyed_and_equal_for_equal_pixels(tmp_path):
    folder, key = picture_folder(tmp_path), Pseudonymiser(KEY)
    plain = [pixel_digest(np.full((30, 20, 3), grey, np.uint8)) for grey in (40, 41, 40, 40)]
    digests = [row["pixel_digest"] for row in picture_rows(folder, KEY)]
    assert digests == [key.keyed_digest("pixels", digest) for digest in plain]
    assert len({*plain, *digests}) == 4
    assert not {row["pixel_digest"] for row in picture_rows(folder, KEY[::-1])} & {*plain, *digests}


def test_class_and_split_of_a_table_are_hidden_under_a_key(corpus):
    (corpus / "list.csv").write_text("path,source_class,source_split\nID_a.dcm,JANE,JANE\nID_c.dcm,,Train\n")
    rows = pq.read_table(shard_from(str(corpus / "list.csv"), "manifest", key=KEY)[0]).to_pylist()
    assert [row["source_class"] for row in rows] == [Pseudonymiser(KEY)("class", "JANE"), None]
    assert [row["source_split"] for row in rows] == [None, "Train"]


@pytest.mark.parametrize("place", ["images_of_dicom", "ShardBuilder.add"])
def test_the_text_of_an_unforeseen_error_is_kept_where_names_are_public_only(corpus, monkeypatch, place):
    def defective(*_: object) -> None:
        raise ValueError("no number: JANE")

    monkeypatch.setattr(f"hemo.shards.convert_unit.{place}", defective)
    unit = unit_of(corpus, 3, *NAMES)
    with pytest.raises(ValueError, match="JANE"):
        build_shard(task(corpus), unit)
    with pytest.raises(HemoError, match=r"^a file of unit 3: ValueError, its text left out: it may name patients; "):
        build_shard(task(corpus, pseudonymiser(KEY)), unit)


def test_predict_and_read_images_do_not_show_the_text_of_an_unforeseen_error_either(corpus, monkeypatch):
    """They take the rows and build no shard."""

    def defective(*_: object) -> None:
        raise ValueError("no number: JANE")

    monkeypatch.setattr("hemo.shards.convert_unit.images_of_dicom", defective)
    with pytest.raises(HemoError, match=r"^a file of unit 3: ValueError, its text left out"):
        list(unit_rows(task(corpus, pseudonymiser(KEY)), unit_of(corpus, 3, *NAMES)))


def test_a_table_of_pictures_is_read_as_pictures(tmp_path):
    PIL.Image.new("L", (20, 20), 77).save(tmp_path / "a.png")
    (tmp_path / "list.csv").write_text("path,patient\na.png,p1\n")
    row = pq.read_table(shard_from(str(tmp_path / "list.csv"), "manifest")[0]).to_pylist()[0]
    assert (row["pixel_format"], row["patient"], row["image"]) == ("rgb8", "p1", bytes([77]) * 3 * 16 * 16)


def test_a_changed_file_is_named_only_where_names_are_public(corpus):
    unit = unit_of(corpus, 3, *NAMES)
    (corpus / "ID_b.dcm").write_bytes(b"changed")
    with pytest.raises(SourceChangedError, match=r"ID_b\.dcm changed"):
        build_shard(task(corpus), unit)
    with pytest.raises(SourceChangedError, match=r"^a file of unit 3 changed after the corpus was listed"):
        build_shard(task(corpus, pseudonymiser(b"a secret of sixteen bytes")), unit)


def test_large_files_are_read_few_at_a_time():
    """Up to 4 MiB or 8 files a read: 3 + 1 + 5 + 5 MiB, then nine small ones."""
    sizes = [3 << 20, 1 << 20, 5 << 20, 5 << 20, *[1] * 9]
    files = [SourceFile(str(number), size, "") for number, size in enumerate(sizes)]
    assert [len(batch) for batch in read_batches(files)] == [2, 1, 1, 8, 1]


def test_no_storage_fault_names_a_file_under_a_key(corpus, monkeypatch):
    def fail(*_: object) -> None:
        raise ConnectionError("could not reach http://bucket/JANE.dcm")

    monkeypatch.setattr("hemo.shards.convert_unit.read_files", fail)
    unit = unit_of(corpus, 3, *NAMES)
    with pytest.raises(ConnectionError, match=r"JANE\.dcm"):
        build_shard(task(corpus), unit)
    with pytest.raises(ConnectionError, match=r"^\[Errno 5\] the storage cannot be reached$"):
        build_shard(task(corpus, pseudonymiser(b"a secret of sixteen bytes")), unit)


class HostDownError(OSError):
    """Has a constructor of its own, as aiohttp.ClientConnectorError has."""

    def __init__(self, key: object, error: OSError) -> None:
        super().__init__(error.errno, error.strerror)
        self.host = key.host  # type: ignore[attr-defined]


def test_under_a_key_a_connection_error_stays_one_whatever_its_constructor(corpus, monkeypatch):
    def refuse(*_):
        error = HostDownError.__new__(HostDownError)
        OSError.__init__(error, 111, "Connection refused")
        error.errno, error.strerror = 111, "Connection refused"
        raise error

    monkeypatch.setattr("hemo.shards.convert_unit.read_ahead", refuse)
    keyed = task(corpus, pseudonymiser(b"a secret of sixteen bytes"))
    with pytest.raises(ConnectionRefusedError) as raised:
        list(unit_rows(keyed, unit_of(corpus, 0, *NAMES)))
    assert (raised.value.errno, str(raised.value)) == (111, "[Errno 111] Connection refused")
