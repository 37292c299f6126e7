import hashlib
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from hemo.cluster.convert.job import convert_corpus
from hemo.cluster.convert.tasks import Outcome, convert_batch
from hemo.config.convert import ConvertConfig
from hemo.corpus.sources import list_corpus
from hemo.errors import ConfigError, HemoError, OutputError, RejectLimitError, SourceError
from hemo.output_lock import LOCK_FILE, output_lock
from hemo.shards.card import FileTable, read_card
from hemo.shards.convert_unit import UnitTask
from hemo.shards.manifest import Unit
from tests.dicom_files import head_file, write_slices
from tests.photographs import write_photographs
from tests.zips import zip_folder


@pytest.fixture(autouse=True)
def no_ray(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Convert in this process, except in tests with a cluster: most are not about how tasks are scheduled."""
    if "ray_cluster" not in request.fixturenames:
        monkeypatch.setattr("hemo.cluster.convert.job.convert_units", convert_here)


def convert_here(task: UnitTask, units: Sequence[Unit], out: str) -> Iterator[Outcome]:
    return convert_batch(units, task=task, out=out)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_slices(tmp_path / "corpus", 10)


@pytest.fixture
def config(corpus: Path) -> Callable[..., ConvertConfig]:
    def made(**changes) -> ConvertConfig:
        given = {
            "source": str(corpus),
            "corpus": "rsna",
            "out": str(corpus.parent / "out"),
            "side_px": 16,
            "unit_files": 3,
        }
        return ConvertConfig(**{**given, **changes})

    return made


@pytest.fixture
def key(tmp_path: Path) -> str:
    """The file of a pseudonym key, which nobody else may read."""
    file = tmp_path / "hospital.key"
    file.touch(mode=0o600)
    file.write_text("a secret of sixteen bytes")
    return str(file)


def contents(out: str) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in Path(out).rglob("*") if path.is_file()}


def times(out: str) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in Path(out, "shards").iterdir()}


@pytest.mark.usefixtures("ray_cluster")
def test_every_unit_becomes_a_shard_and_the_sums_agree(config):
    out = convert_corpus(config())
    assert sorted(contents(out)) == [
        "card.json", "index.parquet", "manifest.parquet", "rejects.parquet",
        *(f"shards/unit-{number:06d}.parquet" for number in range(4)),
    ]  # fmt: skip
    card = read_card(out)
    assert (card.files, card.rows, card.rejects, card.units, card.patients) == (10, 10, 0, 4, 5)
    rows = pq.read_table(Path(out, "shards"))
    assert sorted(rows["image_id"].to_pylist()) == [f"ID_{number}" for number in range(10)]


@pytest.mark.usefixtures("ray_cluster")
def test_an_interrupted_run_ends_with_the_same_bytes(config):
    """What a kill leaves: some shards, half a temporary file, no card."""
    whole = contents(convert_corpus(config()))
    out = Path(config().out)
    (out / "card.json").unlink()
    (out / "shards/unit-000001.parquet").unlink()
    (out / "shards/unit-000002.parquet").write_bytes(whole["shards/unit-000002.parquet"][:100])
    (out / "shards/.unit-000001.parquet.0123456789abcdef.tmp").write_bytes(b"half")
    assert contents(convert_corpus(config())) == whole


def test_a_finished_run_is_left_alone(config):
    out = convert_corpus(config())
    before = times(out)
    assert times(convert_corpus(config())) == before


def test_what_a_damaged_zip_lacked_is_there_after_another_download(config, corpus):
    """The zip's directory declares the same before and after."""
    archive = zip_folder(corpus, corpus.parent / "corpus.zip", method=zipfile.ZIP_STORED)
    whole = archive.read_bytes()
    archive.write_bytes(whole[:1000] + bytes([whole[1000] ^ 1]) + whole[1001:])
    changes = {"source": str(archive), "max_reject_fraction": 0.5}
    out = convert_corpus(config(**changes))
    assert read_card(out).reject_reasons == {"damaged_member": 1}
    before = times(out)
    archive.write_bytes(whole)
    assert read_card(convert_corpus(config(**changes))).rejects == 0
    after = times(out)
    assert [name for name in before if before[name] != after[name]] == ["unit-000000.parquet"]


def test_new_and_changed_files_cost_their_own_units_only(config, corpus):
    out = convert_corpus(config())
    before = times(out)
    (corpus / "ID_new.dcm").write_bytes(head_file())
    (corpus / "ID_0.dcm").write_bytes(head_file(PatientID="ID_other"))
    (corpus / "ID_9.dcm").unlink()
    convert_corpus(config())
    after = times(out)
    assert {name for name in before if before[name] == after.get(name)} == {
        "unit-000001.parquet",
        "unit-000002.parquet",
    }
    assert set(after) == {"unit-000000.parquet", "unit-000001.parquet", "unit-000002.parquet", "unit-000004.parquet"}
    index = pq.read_table(Path(out, "index.parquet"))
    assert "ID_other" in index["patient"].to_pylist()
    assert "ID_9" not in index["image_id"].to_pylist()
    assert read_card(out).rows == 10


def test_under_a_key_a_later_run_finds_what_changed(config, corpus, key):
    """The manifest has neither sizes nor marks, but keyed marks that can be compared."""
    keyed = config(pseudonym_key=key)
    before = times(convert_corpus(keyed))
    assert times(convert_corpus(keyed)) == before
    (corpus / "ID_4.dcm").write_bytes(head_file(PatientID="ID_other"))
    after = times(convert_corpus(keyed))
    assert [name for name in before if before[name] != after[name]] == ["unit-000001.parquet"]


def test_classes_that_become_pseudonyms_are_counted_and_a_misspelt_one_is_named(tmp_path, key, capsys):
    write_photographs(tmp_path / "corpus", ("NORMAL", "Doe_John_1950"), 2)

    def printed(*public_classes: str) -> str:
        out = tmp_path / "-".join(["out", *public_classes])
        convert_corpus(
            ConvertConfig(
                source=str(tmp_path / "corpus"), corpus="image_folder", out=str(out), side_px=16,
                pseudonym_key=key, public_classes=public_classes,
            )
        )  # fmt: skip
        return capsys.readouterr().err

    assert "convert: 0 of 2 classes keep their names, the others become pseudonyms; --public_classes" in printed()
    misspelt = printed("NORMALL")
    assert "convert: no file is of the public_classes NORMALL\n" in misspelt
    assert "Doe" not in misspelt
    assert "classes" not in printed("NORMAL", "Doe_John_1950")
    with pytest.raises(OutputError, match=r"made otherwise \(public_classes \[NORMALL\] there, none now\)"):
        convert_corpus(
            ConvertConfig(
                source=str(tmp_path / "corpus"), corpus="image_folder", out=str(tmp_path / "out-NORMALL"), side_px=16,
                pseudonym_key=key,
            )
        )  # fmt: skip


def test_a_file_that_only_changes_leaves_no_old_index(config, corpus):
    """It becomes a reject: the sums, the index and the shards must all say so."""
    before = read_card(convert_corpus(config()))
    (corpus / "ID_4.dcm").write_bytes(head_file(PixelData=b"\0"))
    card = read_card(convert_corpus(config(max_reject_fraction=1)))
    index = pq.read_table(Path(config().out, "index.parquet"))
    rows = pq.read_table(Path(config().out, "shards"))
    assert (card.rows, card.rejects, before.rows) == (9, 1, 10)
    assert index["image_id"].to_pylist() == rows["image_id"].to_pylist()
    assert card.digest != before.digest


def test_files_of_others_are_never_touched(config, tmp_path):
    out = Path(config().out)
    (out / "shards").mkdir(parents=True)
    (out / "shards/mine.parquet").write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"mine\.parquet is no shard of hemo's"):
        convert_corpus(config())
    (out / "shards/mine.parquet").unlink()
    (out / "card.json").write_text('{"schema_version": 1}')
    with pytest.raises(OutputError, match=r"holds the card\.json of another job"):
        convert_corpus(config())


def test_shards_of_another_version_are_not_taken_for_damaged(config):
    shard = Path(convert_corpus(config()), "shards/unit-000000.parquet")
    table = pq.read_table(shard)
    pq.write_table(table.replace_schema_metadata({b"hemo": b'{"schema_version": 99}'}), shard)
    with pytest.raises(OutputError, match="is a shard of version 99"):
        convert_corpus(config())


def test_a_conversion_of_an_older_version_is_named_as_such_by_every_job(config):
    """Version 2 had no scanner."""
    out = convert_corpus(config())
    for shard in Path(out, "shards").iterdir():
        table = pq.read_table(shard)
        footer = pq.read_metadata(shard).metadata[b"hemo"].replace(b'"schema_version":3', b'"schema_version":2')
        pq.write_table(table.replace_schema_metadata({b"hemo": footer}), shard)
    card = Path(out, "card.json")
    card.write_text(card.read_text().replace('"schema_version": 3', '"schema_version": 2'))
    with pytest.raises(OutputError, match=r"is a shard of version 2, this hemo writes 3; give another folder"):
        convert_corpus(config())
    wanted = r"card\.json is of schema version 2, this hemo reads 3; run `hemo convert` again into another folder"
    with pytest.raises(SourceError, match=wanted):
        read_card(out)


def test_under_a_key_no_file_below_out_names_anybody(tmp_path, key):
    corpus = tmp_path / "corpus"
    for name in ("DOE_JANE/im1.dcm", "DOE_JANE/im2.dcm", "DOE_JANE/report.txt"):
        (corpus / name).parent.mkdir(parents=True, exist_ok=True)
        (corpus / name).write_bytes(head_file(PatientID="DOE_JANE"))
    config = ConvertConfig(
        source=str(corpus), corpus="dicom", out=str(tmp_path / "out"), side_px=16, pseudonym_key=key, unit_files=2
    )
    whole = contents(convert_corpus(config))
    for path in Path(config.out).rglob("*.parquet"):
        assert "DOE_JANE" not in str(pq.read_table(path).to_pylist())
        assert b"DOE_JANE" not in path.read_bytes()
    (Path(config.out) / "shards/unit-000001.parquet").unlink()
    assert contents(convert_corpus(config)) == whole


def test_shards_made_with_other_settings_are_never_mixed(config):
    convert_corpus(config())
    with pytest.raises(OutputError, match="side_px 16 there, 32 now"):
        convert_corpus(config(side_px=32))


def test_the_output_of_another_source_is_left_alone(config, tmp_path):
    convert_corpus(config())
    (tmp_path / "other").mkdir()
    (tmp_path / "other/ID_x.dcm").write_bytes(head_file())
    with pytest.raises(OutputError, match="holds the conversion of another source"):
        convert_corpus(config(source=str(tmp_path / "other")))
    assert read_card(config().out).rows == 10


def test_a_name_in_both_sources_does_not_make_them_one(config, corpus, tmp_path):
    """Names such as DICOMDIR and IM-0001-0001.dcm are in many; the first conversion would be removed."""
    convert_corpus(config())
    (tmp_path / "other").mkdir()
    name = min(path.name for path in corpus.iterdir() if path.is_file())
    (tmp_path / "other" / name).write_bytes(head_file())
    with pytest.raises(OutputError, match="another source, or every file of the source has changed; give an empty"):
        convert_corpus(config(source=str(tmp_path / "other")))
    assert read_card(config().out).rows == 10


@pytest.mark.usefixtures("ray_cluster")
def test_too_many_rejects_stop_the_run_before_the_rest_is_converted(config, corpus):
    """The limit is passed as soon as the rest, were it faultless, could not make up for it."""
    for number in range(400):
        (corpus / f"ID_a{number:03}.dcm").write_bytes(head_file(PixelData=b"\0") if number < 20 else b"")
    limited = config(unit_files=1, max_reject_fraction=0.02)
    with pytest.raises(
        RejectLimitError, match=r"(9|1\d) of 410 inputs were rejected, .* 0\.02: .*; a run with a higher one lists them"
    ):
        convert_corpus(limited)
    assert 9 <= len(times(limited.out)) < 300
    assert not Path(limited.out, "card.json").exists()
    card = read_card(convert_corpus(config(unit_files=1, max_reject_fraction=1)))
    assert (card.rows, card.reject_reasons) == (10, {"not_dicom": 380, "truncated": 20})


def test_a_limit_passed_in_the_end_only_leaves_index_and_rejects(config, corpus):
    (corpus / "ID_bad.dcm").write_bytes(head_file(PixelData=b"\0"))
    with pytest.raises(RejectLimitError, match=r"1 of 11 inputs were rejected, .* 0.05: truncated 1"):
        convert_corpus(config(unit_files=11))
    assert read_card(config().out).rejects == 1
    convert_corpus(config(unit_files=11, max_reject_fraction=0.1))


def test_a_second_run_in_the_same_folder_is_refused_while_the_first_goes_on(config):
    out = Path(config().out)
    with output_lock(str(out)):
        with pytest.raises(OutputError, match=r"another run is writing in .*/out \(process \d+ on .*\); wait"):
            convert_corpus(config())
        assert [path.name for path in out.iterdir()] == [LOCK_FILE]
    assert read_card(convert_corpus(config())).rows == 10


@pytest.mark.parametrize("place", ["", "shards/"])
def test_what_a_killed_run_left_half_written_goes_even_if_all_is_done(config, place):
    whole = contents(convert_corpus(config()))
    Path(config().out, f"{place}.index.parquet.0123456789abcdef.tmp").write_bytes(b"half")
    assert contents(convert_corpus(config())) == whole


def test_a_disk_that_is_full_for_the_index_is_reported(config, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hemo.cluster.convert.job.write_derived", full)
    with pytest.raises(HemoError, match=r"convert stopped: .*/out: No space left on device; free some, .*; run it ag"):
        convert_corpus(config())
    monkeypatch.undo()
    assert read_card(convert_corpus(config())).rows == 10


def test_an_output_that_workers_have_on_another_disk_is_refused_at_the_first_shard(config, tmp_path, monkeypatch):
    """Here a worker writes below the folder `node`; the message names the shard where it should be."""

    def on_other_disk(task: UnitTask, units: Sequence[Unit], out: str) -> Iterator[Outcome]:
        yield from convert_batch(units[:1], task=task, out=str(tmp_path / "node"))
        pytest.fail("went on")

    monkeypatch.setattr("hemo.cluster.convert.job.convert_units", on_other_disk)
    monkeypatch.setattr("hemo.storage.SEEN_WITHIN_S", -1.0)
    with pytest.raises(OutputError, match=r"out: a worker wrote .*/out/shards/unit-000000.parquet, which this process"):
        convert_corpus(config())
    assert (tmp_path / "node/shards/unit-000000.parquet").exists()


def test_shards_of_the_last_units_must_be_seen_too(config, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "hemo.cluster.convert.job.convert_units",
        lambda task, units, out: convert_batch(units, task=task, out=str(tmp_path / "node")),
    )
    monkeypatch.setattr("hemo.storage.SEEN_WITHIN_S", 0.5)
    with pytest.raises(OutputError, match=r"out: a worker wrote .*/out/shards/unit-00000\d.parquet, which this"):
        convert_corpus(config())


@pytest.mark.usefixtures("ray_cluster")
def test_four_workers_write_the_bytes_of_two(config, corpus, make_ray_folder):
    """And one process alone those of two: see test_units."""
    out, folder = corpus.parent / "by_four", make_ray_folder()
    flags = ["--source", str(corpus), "--corpus", "rsna", "--out", str(out), "--side_px", "16", "--unit_files", "1"]
    local = ["--cluster.address", "local", "--cluster.cpus", "4", "--cluster.temp_dir", str(folder)]
    command = [sys.executable, "-m", "ray_jobs.convert", *flags, *local]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    shutil.rmtree(out / "log")  # of the command
    assert contents(str(out)) == contents(convert_corpus(config(unit_files=1)))


def test_a_missing_key_file_is_refused(config, tmp_path):
    with pytest.raises(ConfigError, match=r"pseudonym_key: .*none.key"):
        convert_corpus(config(pseudonym_key=str(tmp_path / "none.key")))


def test_an_unwritable_folder_is_refused_before_any_work(config):
    with pytest.raises(OutputError, match="cannot write in /proc/hemo"):
        convert_corpus(config(out="/proc/hemo"))


def test_an_empty_folder_is_refused(config, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="is empty"):
        convert_corpus(config(source=str(tmp_path / "empty")))


@pytest.mark.usefixtures("ray_cluster")
def test_a_file_that_cannot_be_read_stops_the_run_instead_of_becoming_a_reject(config, corpus, monkeypatch):
    """It vanishes between listing and reading."""
    listing = list_corpus(str(corpus), "rsna")
    monkeypatch.setattr("hemo.cluster.convert.job.list_corpus", lambda *_: listing)
    (corpus / "ID_0.dcm").unlink()
    with pytest.raises(HemoError, match=r"convert stopped: .*No such file.*run"):
        convert_corpus(config())
    assert not Path(config().out, "card.json").exists()


def test_the_real_slices_convert_without_a_reject(shared_data, tmp_path):
    config = ConvertConfig(source=str(shared_data / "rsna"), corpus="rsna", out=str(tmp_path / "rsna"), side_px=64)
    card = read_card(convert_corpus(config))
    assert (card.rows, card.rejects, card.pixel_formats) == (27, 0, {"i16": 20, "u12": 7})


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize(
    ("folder", "rows", "reasons"),
    [
        ("head_ct_bsd", 41, {"not_dicom": 1, "dicomdir": 1}),
        ("dicom_odd", 14, {"not_ct": 94, "no_pixels": 50, "not_dicom": 11, "dicomdir": 8}),
    ],
)
def test_every_odd_file_is_a_row_or_a_reject(shared_data, tmp_path, folder, rows, reasons):
    config = ConvertConfig(
        source=str(shared_data / folder), corpus="dicom", out=str(tmp_path / folder), side_px=64,
        public_ids=True, max_reject_fraction=1,
    )  # fmt: skip
    card = read_card(convert_corpus(config))
    assert (card.rows, card.reject_reasons) == (rows, reasons)
    assert card.files == card.rows + card.rejects


@pytest.fixture
def table(corpus: Path) -> Path:
    """A table of the ten files, with a column that `convert` does not store."""
    file = corpus / "files.csv"
    file.write_text("\n".join(["path,bleed", *(f"ID_{number}.dcm,{number % 2}" for number in range(10))]))
    return file


def test_the_card_names_the_table_of_files_where_it_was_last_read(config, table, capsys):
    """A table that moved, or got another label, is named anew; no file is converted again for it."""
    out = convert_corpus(config(source=str(table), corpus="manifest", public_ids=True))
    assert "not used: bleed; `curate --labels manifest` reads labels from them" in capsys.readouterr().err
    found = read_card(out).file_table
    assert found == FileTable(location=str(table), sha256=hashlib.sha256(table.read_bytes()).hexdigest())
    before = times(out)
    moved = table.rename(table.with_name("moved.csv"))
    moved.write_text(moved.read_text().replace("ID_3.dcm,1", "ID_3.dcm,0"))
    convert_corpus(config(source=str(moved), corpus="manifest", public_ids=True))
    assert read_card(out).file_table == FileTable(
        location=str(moved), sha256=hashlib.sha256(moved.read_bytes()).hexdigest()
    )
    assert times(out) == before


def test_under_a_key_and_of_a_folder_the_card_names_no_table(config, table, tmp_path, key, capsys):
    assert read_card(convert_corpus(config())).file_table is None
    keyed = {"pseudonym_key": key, "out": str(tmp_path / "keyed")}
    assert read_card(convert_corpus(config(source=str(table), corpus="manifest", **keyed))).file_table is None
    assert "--labels manifest" not in capsys.readouterr().err
