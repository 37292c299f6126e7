import pyarrow.parquet as pq
import pytest

from hemo.errors import SourceError
from hemo.shards.card import read_card, write_card, write_derived
from hemo.shards.convert_unit import build_shard
from hemo.shards.manifest import Unit
from hemo.shards.schema import SHARD_INDEX_SCHEMA, ShardFooter
from hemo.storage import join, write_bytes
from tests.dicom_files import head_file
from tests.hemo.shards.test_convert_unit import task
from tests.units import unit_of


def converted(
    tmp_path, files: dict[str, bytes], units: dict[int, tuple[str, ...]]
) -> tuple[list[Unit], list[ShardFooter]]:
    corpus = tmp_path / "corpus"
    for name, data in files.items():
        (corpus / name).parent.mkdir(parents=True, exist_ok=True)
        (corpus / name).write_bytes(data)
    made = [unit_of(corpus, number, *paths) for number, paths in units.items()]
    footers = []
    for unit in made:
        buffer, footer = build_shard(task(corpus), unit)
        write_bytes(join(str(tmp_path), unit.shard), memoryview(buffer))
        footers.append(footer)
    return made, footers


def test_index_rejects_and_card_account_for_every_file(tmp_path):
    files = {
        "a.dcm": head_file(),
        "b.dcm": head_file(PatientID="other"),
        "c.dcm": b"nothing",
        "d.dcm": head_file(Modality="MR"),
    }
    units, footers = converted(tmp_path, files, {0: ("a.dcm", "c.dcm"), 4: ("b.dcm", "d.dcm")})
    card = write_derived(str(tmp_path), units, footers, ignored=2)
    assert not (tmp_path / "card.json").exists()
    write_card(str(tmp_path), card)
    index = pq.read_table(tmp_path / "index.parquet")
    assert index.schema == SHARD_INDEX_SCHEMA
    assert [(row["image_id"], row["unit"], row["row"]) for row in index.to_pylist()] == [("a", 0, 0), ("b", 4, 0)]
    rejects = pq.read_table(tmp_path / "rejects.parquet").to_pylist()
    assert [(row["source_path"], row["reason"]) for row in rejects] == [("c.dcm", "not_dicom"), ("d.dcm", "not_ct")]
    assert (card.files, card.rows, card.rejects, card.patients, card.ignored_files) == (4, 2, 2, 2, 2)
    assert card.reject_reasons == {"not_dicom": 1, "not_ct": 1}
    assert read_card(str(tmp_path)) == card


def test_the_digest_differs_for_changed_pixels_of_the_same_paths(tmp_path):
    wanted = {0: ("a.dcm",)}
    units, footers = converted(tmp_path, {"a.dcm": head_file()}, wanted)
    before = write_derived(str(tmp_path), units, footers, ignored=0)
    again = write_derived(str(tmp_path), units, footers, ignored=0)
    _, changed = converted(tmp_path, {"a.dcm": head_file(RescaleIntercept="-1000")}, wanted)
    after = write_derived(str(tmp_path), units, changed, ignored=0)
    assert before.digest == again.digest != after.digest


def test_two_files_that_would_be_one_image_are_refused_by_name(tmp_path):
    files = {"x/a.dcm": head_file(), "x/a.ima": head_file()}
    units, footers = converted(tmp_path, files, {0: ("x/a.dcm", "x/a.ima")})
    with pytest.raises(SourceError, match=r"x/a.dcm and x/a.ima would both be image x/a"):
        write_derived(str(tmp_path), units, footers, ignored=0)
    assert not (tmp_path / "card.json").exists()


def test_a_folder_without_card_is_no_finished_conversion(tmp_path):
    with pytest.raises(SourceError, match="is no finished conversion"):
        read_card(str(tmp_path))
