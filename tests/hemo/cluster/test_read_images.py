"""`read_images` gives the pixels of `convert`, and nothing vanishes."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from hemo.cluster.read_images import decoded_corpus, image_tables, reject_tables
from hemo.config.convert import ReadConfig
from hemo.corpus.sources import media_of
from hemo.errors import SourceError
from hemo.imaging.settings import image_settings
from hemo.pseudonym import Pseudonymiser
from hemo.shards.convert_unit import UnitTask, build_shard
from hemo.shards.reader import images_of
from tests.dicom_files import head_file, write_slices
from tests.units import unit_of

pytestmark = pytest.mark.usefixtures("ray_cluster")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = write_slices(tmp_path / "corpus", 5)
    (folder / "ID_5.dcm").write_bytes(b"no DICOM")
    (folder / "ID_6.dcm").write_bytes(head_file(Modality="MR"))
    return folder


def test_rows_are_those_of_a_shard_with_images_as_arrays(corpus):
    config = ReadConfig(source=str(corpus), corpus="rsna", side_px=16, unit_files=2)
    task = UnitTask(
        str(corpus),
        image_settings(config, media_of(config.source, config.corpus), Pseudonymiser()),
        Pseudonymiser(),
        read_threads=1,
    )
    shard, _ = build_shard(task, unit_of(corpus, 0, *(f"ID_{number}.dcm" for number in range(7))))
    stored = pq.read_table(shard)
    rows = decoded_corpus(config, image_tables).take_all()
    rows.sort(key=lambda row: row["image_id"])
    assert [row["image_id"] for row in rows] == stored["image_id"].to_pylist()
    assert [row["patient"] for row in rows] == ["ID_p0", "ID_p0", "ID_p1", "ID_p1", "ID_p2"]
    pictures = images_of(stored["image"].combine_chunks(), (3, 16, 16), "uint8")
    np.testing.assert_array_equal(np.stack([row["image"] for row in rows]), pictures)
    assert rows[0]["image"].dtype == np.uint8


def test_hounsfield_units_come_as_int16(corpus):
    config = ReadConfig(source=str(corpus), corpus="rsna", side_px=32, pixels="hu16")
    row = next(iter(decoded_corpus(config, image_tables).iter_rows()))
    assert (row["image"].dtype, row["image"].shape, int(row["image"][0, 0, 0])) == (np.int16, (1, 32, 32), -1024)


def test_what_is_no_image_is_listed_with_its_reason(corpus):
    config = ReadConfig(source=str(corpus), corpus="rsna", side_px=16, unit_files=3)
    rejects = decoded_corpus(config, reject_tables).take_all()
    found = {row["source_path"]: row["reason"] for row in rejects}
    assert found == {"ID_5.dcm": "not_dicom", "ID_6.dcm": "not_ct"}


def test_a_missing_source_is_an_error_at_once():
    with pytest.raises(SourceError, match="does not exist"):
        decoded_corpus(ReadConfig(source="/no/such/place", corpus="rsna"), image_tables)


def test_a_file_that_changed_meanwhile_is_an_error(corpus):
    images = decoded_corpus(ReadConfig(source=str(corpus), corpus="rsna", side_px=16), image_tables)
    (corpus / "ID_0.dcm").write_bytes(head_file())
    with pytest.raises(Exception, match=r"ID_0\.dcm changed after the corpus was listed"):
        images.take_all()
