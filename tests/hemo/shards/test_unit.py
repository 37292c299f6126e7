from pathlib import Path

import pyarrow.parquet as pq
import pytest

from hemo.config.convert import ConvertConfig
from hemo.imaging.pseudonym import Pseudonymiser, pseudonymiser
from hemo.imaging.settings import image_settings
from hemo.shards.footer import read_footer, unit_digest
from hemo.shards.unit import UnitTask, build_shard, read_ahead
from tests.dicom_files import head_file
from tests.units import unit_of


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
    return UnitTask(str(corpus), image_settings(config, pseudonyms), pseudonyms, read_threads=2)


def test_every_file_is_a_row_or_a_reject(corpus):
    buffer, footer = build_shard(task(corpus), unit_of(corpus, 3, *NAMES))
    table = pq.read_table(buffer)
    assert table["image_id"].to_pylist() == ["ID_a", "ID_c"]
    assert table["flags"].to_pylist() == [[], ["localizer"]]
    assert [(reject.source_path, reject.reason) for reject in footer.rejects] == [("ID_b.dcm", "truncated")]
    assert (footer.files, footer.rows, footer.unit) == (3, 2, 3)


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


def test_files_are_read_ahead_in_order(corpus):
    files = unit_of(corpus, 3, *NAMES).files
    assert [file for file, data in read_ahead(str(corpus), files, threads=2) if data] == list(files)
