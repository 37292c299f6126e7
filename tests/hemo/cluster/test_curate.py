"""`curate_corpus` end to end on hand-made shards, by Ray."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hemo.cluster import curate
from hemo.cluster.curate import curate_corpus, read_inputs
from hemo.config.curate import CurateConfig
from hemo.curation.card import read_card
from hemo.digest import digest_of
from hemo.errors import ConfigError, LabelError, OutputError, SourceError
from hemo.pseudonym import pseudonymiser
from hemo.shards.card import read_card as read_conversion_card
from hemo.shards.schema import FOOTER_KEY
from tests.hemo.library.test_embeddings import write_embeddings
from tests.made_shards import write_conversion

SPLITS = ("train", "val", "test")


@pytest.fixture
def corpus(tmp_path: Path) -> dict[str, str]:
    """Forty images of twenty patients; every third shows a hemorrhage."""
    rows = [{"patient": f"P{n // 2}", "series": f"S{n // 2}", "position_mm": float(n)} for n in range(40)]
    shards = write_conversion(tmp_path / "shards", rows, unit_rows=7)
    write_labels(tmp_path / "labels.csv", {n: int(n % 3 == 0) for n in range(40)})
    return {"shards": shards, "labels": str(tmp_path / "labels.csv"), "out": str(tmp_path / "set")}


def write_labels(file: Path, labels: dict[int, int]) -> None:
    file.write_text("\n".join(["Image,any", *(f"ID_{number:03d},{label}" for number, label in labels.items())]))


def files_below(folder: str) -> dict[str, str]:
    files = [path for path in sorted(Path(folder).rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def alone(unit: str, work: Any, tables: Any, **shared: Any) -> list[str]:
    """Do in this process, one after the other, what Ray does on many."""
    return [work(table, **shared)["done"][0].as_py() for table in tables]


def mixed(workers: int, unit: str, work: Any, tables: Any, **shared: Any) -> list[str]:
    """Do it in threads, last things first."""
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(lambda table: work(table, **shared)["done"][0].as_py(), reversed(tables)))


@pytest.mark.usefixtures("ray_cluster")
def test_every_image_stands_once_and_the_bytes_do_not_depend_on_workers(tmp_path, corpus, capfd, monkeypatch):
    config = CurateConfig(**corpus, part_rows=5, seed=1)
    assert curate_corpus(config) == config.out
    splits = {split: pq.read_table(f"{config.out}/{split}").to_pylist() for split in SPLITS}
    seen = {row["image_id"]: (row["image"], row["label_any"]) for rows in splits.values() for row in rows}
    assert seen == {f"ID_{n:03d}": (bytes([n] * 8), int(n % 3 == 0)) for n in range(40)}
    card = read_card(config.out)
    assert {split: card.splits[split].rows for split in SPLITS} == {split: len(rows) for split, rows in splits.items()}
    assert sum(count.rows for count in card.splits.values()) == 40
    assert card.digest in capfd.readouterr().err
    monkeypatch.setattr(curate, "_run", alone)
    by_one = config.model_copy(update={"out": str(tmp_path / "by_one")})
    curate_corpus(by_one)
    assert files_below(by_one.out) == files_below(config.out)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_any_order_of_tasks_on_any_number_of_workers_gives_the_same_bytes(tmp_path, corpus, monkeypatch, workers):
    monkeypatch.setattr(curate, "_run", alone)
    in_order = CurateConfig(**corpus, part_rows=3, neighbours=1)
    curate_corpus(in_order)
    monkeypatch.setattr(curate, "_run", partial(mixed, workers))
    any_order = in_order.model_copy(update={"out": str(tmp_path / "any_order")})
    curate_corpus(any_order)
    assert files_below(any_order.out) == files_below(in_order.out)


@pytest.mark.usefixtures("no_ray")
def test_the_folds_of_a_corpus_test_every_image_once_and_their_cards_say_which_is_which(tmp_path, corpus, capsys):
    tested: list[str] = []
    for fold in range(1, 4):
        config = CurateConfig(**corpus | {"out": str(tmp_path / f"fold_{fold}")}, split="folds", folds=3, fold=fold)
        tested += pq.read_table(f"{curate_corpus(config)}/test")["image_id"].to_pylist()
        assert read_card(config.out).split == f"fold {fold} of 3 by patient"
        assert f"fold {fold} of 3 by patient" in capsys.readouterr().err
    assert sorted(tested) == [f"ID_{n:03d}" for n in range(40)]
    with pytest.raises(OutputError, match=r"made otherwise \(fold 3 there, 1 now\)"):
        curate_corpus(CurateConfig(**corpus | {"out": config.out}, split="folds", folds=3))


@pytest.mark.usefixtures("no_ray")
def test_every_equal_image_is_listed_beside_the_card_and_counted_on_the_terminal(tmp_path, corpus, capsys):
    """Images 4 and 30 are equal and contradict each other; they link patients P2 and P15."""
    rows = [{"patient": f"P{n // 2}", "pixel_digest": bytes([4 if n == 30 else n] * 16)} for n in range(40)]
    shards = write_conversion(tmp_path / "equal", rows, unit_rows=7)
    out = curate_corpus(CurateConfig(**corpus | {"shards": shards}))
    listed = pq.read_table(f"{out}/audit.parquet").to_pylist()
    assert [(row["image_id"], row["patient"], row["conflict"]) for row in listed] == [
        ("ID_004", "P2", True),
        ("ID_030", "P15", True),
    ]
    assert {row["linked_patient"] for row in listed} == {"patient P15"}
    assert listed[0]["split"] == listed[1]["split"] is not None
    shown = capsys.readouterr().err
    assert "- 2 patients are linked by equal pixels, in 1 groups of up to 2" in shown
    assert "- 1 of 1 groups of equal pixels have conflicting labels" in shown


@pytest.mark.usefixtures("no_ray")
def test_a_series_without_patient_is_a_patient_for_the_card_the_set_and_the_loader(tmp_path, corpus, capsys):
    """Ten series of four slices without PatientID, in the study of one patient the last."""
    rows = [{"patient": None, "study": f"T{n // 36}", "series": f"X{n // 4}"} for n in range(40)]
    rows = [row | {"study": None} if n < 36 else row for n, row in enumerate(rows)]
    rows[39]["patient"] = "P"
    shards = write_conversion(tmp_path / "blank", rows, unit_rows=7)
    out = curate_corpus(CurateConfig(**corpus | {"shards": shards}, seed=1))
    parts = {split: pq.read_table(f"{out}/{split}") for split in SPLITS}
    patients = {split: set(part["patient"].to_pylist()) for split, part in parts.items()}
    assert sorted(name for names in patients.values() for name in names) == ["P", *(f"series X{n}" for n in range(9))]
    assert {split: read_card(out).splits[split].patients for split in SPLITS} == {
        split: len(names) for split, names in patients.items()
    }
    assert read_card(out).grouped_by == {"patient": 1, "study": 3, "series": 36, "image": 0}
    assert (
        "39 of 40 images have no patient id, their patient is their study (3), series (36)" in capsys.readouterr().err
    )


@pytest.mark.usefixtures("no_ray")
def test_a_set_of_an_earlier_version_is_refused_with_the_cure(corpus):
    out = curate_corpus(CurateConfig(**corpus))
    card = Path(out, "card.json")
    card.write_text(card.read_text().replace('"schema_version": 4', '"schema_version": 3'))
    with pytest.raises(SourceError, match=r"is of schema version 3, this hemo reads 4; run `hemo curate` again"):
        read_card(out)


@pytest.mark.usefixtures("ray_cluster")
def test_what_a_worker_refuses_reaches_the_caller(corpus):
    Path(corpus["shards"], "shards", "unit-000002.parquet").unlink()
    with pytest.raises(SourceError, match=r"^/\S+unit-000002\.parquet is in the index but does not exist"):
        curate_corpus(CurateConfig(**corpus))
    assert not Path(corpus["out"], "card.json").exists()


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copy in this process: what is tested is not how tasks are scheduled."""
    monkeypatch.setattr(curate, "_run", alone)


@pytest.mark.usefixtures("no_ray")
def test_a_complete_set_is_left_alone_and_an_interrupted_one_made_anew(corpus, monkeypatch, capsys):
    config = CurateConfig(**corpus)
    curate_corpus(config)
    before = files_below(config.out)
    Path(config.out, "card.json").unlink()
    Path(config.out, "train", "part-000009.parquet").write_bytes(b"of an earlier run")
    Path(config.out, "val", ".part-000000.parquet.0123456789abcdef.tmp").write_bytes(b"of a killed one")
    Path(config.out, ".buckets").mkdir()
    Path(config.out, ".buckets", "read-000000.arrow").write_bytes(b"cut off")
    curate_corpus(config)
    assert files_below(config.out) == before
    monkeypatch.setattr(curate, "_copy", None)
    capsys.readouterr()
    assert curate_corpus(config) == config.out
    assert capsys.readouterr().err == f"curate: {config.out} is complete\n"


@pytest.mark.usefixtures("no_ray")
def test_the_card_has_the_flow_from_files_to_splits_and_the_hash_of_every_file(tmp_path, corpus):
    rows = [{"patient": f"P{n // 2}", "flags": ["blank", "noise"] if n < 4 else []} for n in range(40)]
    shards = write_conversion(tmp_path / "flagged", rows, unit_rows=7)
    card = read_card(curate_corpus(CurateConfig(**corpus | {"shards": shards}, drop_flags=("blank", "noise"))))
    assert (card.conversion.files, card.conversion.rows, card.conversion.rejects) == (40, 40, 0)
    (clean,) = [step for step in card.steps if step.name == "clean"]
    assert (clean.removed, clean.reasons) == (4, {"blank": 4, "noise": 4})
    hashes = files_below(corpus["out"])
    assert {part.path: part.sha256 for part in card.parts} == {
        name: digest for name, digest in hashes.items() if "/" in name
    }
    assert sum(part.rows for part in card.parts) == 36
    assert card.split_digest == hashes["split_manifest.csv"]
    head, *lines = Path(corpus["out"], "split_manifest.csv").read_text().splitlines()
    names = {line.split(",")[0] for line in lines}
    assert (head, len(names)) == ("image,pixels,split", 36)
    assert hashlib.sha256(b"ID_020").hexdigest()[:32] in names


@pytest.mark.usefixtures("no_ray")
def test_another_description_rewrites_the_cards_and_copies_nothing(corpus, monkeypatch):
    curate_corpus(CurateConfig(**corpus))
    before = files_below(corpus["out"])
    monkeypatch.setattr(curate, "_copy", None)
    curate_corpus(CurateConfig(**corpus, dataset={"name": "heads", "license": "CC0-1.0"}))
    after = files_below(corpus["out"])
    assert {name for name in before if before[name] != after[name]} == {"card.json", "croissant.json"}
    metadata = json.loads(Path(corpus["out"], "croissant.json").read_text())
    assert (metadata["name"], metadata["license"]) == ("heads", "CC0-1.0")
    assert read_card(corpus["out"]).dataset.name == "heads"


@pytest.mark.usefixtures("no_ray")
def test_a_run_folder_may_move(tmp_path, corpus, monkeypatch):
    curate_corpus(CurateConfig(**corpus))
    moved = tmp_path / "moved"
    moved.mkdir()
    for place in ("shards", "labels.csv", "set"):
        (tmp_path / place).rename(moved / place)
    monkeypatch.setattr(curate, "_copy", None)
    there = {name: location.replace(str(tmp_path), str(moved)) for name, location in corpus.items()}
    assert curate_corpus(CurateConfig(**there)) == str(moved / "set")


KEY = "a secret of tests"


@pytest.fixture
def pseudonymous(tmp_path: Path, corpus: dict[str, str]) -> dict[str, str]:
    """The same corpus, converted with a pseudonym key, and the key's file."""
    (tmp_path / "key").touch(mode=0o600)
    (tmp_path / "key").write_text(KEY)
    name = pseudonymiser(KEY.encode())
    rows = [
        {
            "image_id": name("image", f"ID_{n:03d}"),
            "source_path": name("path", f"a/ID_{n:03d}.dcm"),
            "patient": name("patient", f"P{n // 2}"),
        }
        for n in range(40)
    ]
    shards = write_conversion(tmp_path / "keyed", rows, unit_rows=7)
    card = json.loads(Path(shards, "card.json").read_text())
    card["image"]["key_fingerprint"] = name.fingerprint
    Path(shards, "card.json").write_text(json.dumps(card))
    return corpus | {"shards": shards, "pseudonym_key": str(tmp_path / "key")}


@pytest.mark.usefixtures("no_ray")
@pytest.mark.parametrize("named", ["ID_{:03d}", "a/ID_{:03d}.dcm"])
def test_a_table_of_true_names_labels_pseudonyms(pseudonymous, named):
    lines = ["Image,any", *(f"{named.format(n)},{int(n % 3 == 0)}" for n in range(40))]
    Path(pseudonymous["labels"]).write_text("\n".join(lines))
    out = curate_corpus(CurateConfig(**pseudonymous))
    rows = [row for split in SPLITS for row in pq.read_table(f"{out}/{split}").to_pylist()]
    assert sorted((row["image"][0], row["label_any"]) for row in rows) == [(n, int(n % 3 == 0)) for n in range(40)]
    assert KEY not in Path(out, "card.json").read_text()


def test_under_a_key_the_digest_of_the_inputs_does_not_verify_a_guessed_label_file(pseudonymous, monkeypatch):
    """It is the HMAC of the digest that anybody could compute who has the shards and guesses the labels."""
    config = CurateConfig(**pseudonymous)
    keyed, plain = read_inputs(config).digest, []
    monkeypatch.setattr("hemo.cluster.curate.digest_of", lambda content: plain.append(digest_of(content)) or plain[0])
    read_inputs(config)
    assert keyed == pseudonymiser(KEY.encode())("inputs", plain[0])[:16]


@pytest.mark.usefixtures("no_ray")
def test_the_pseudonym_key_is_required_and_must_be_that_of_the_shards(tmp_path, corpus, pseudonymous):
    with pytest.raises(ConfigError, match="holds pseudonyms, which no table names; give --pseudonym_key FILE"):
        curate_corpus(CurateConfig(**pseudonymous | {"pseudonym_key": ""}))
    (tmp_path / "other").touch(mode=0o600)
    (tmp_path / "other").write_text("another secret of tests")
    with pytest.raises(ConfigError, match=r"other is not the key of .*keyed; give the key `convert` was given"):
        curate_corpus(CurateConfig(**pseudonymous | {"pseudonym_key": str(tmp_path / "other")}))
    with pytest.raises(ConfigError, match=r"is not the key of .*shards; it keeps ids as they are, so give no key"):
        curate_corpus(CurateConfig(**corpus, pseudonym_key=pseudonymous["pseudonym_key"]))
    Path(pseudonymous["labels"]).write_text("Image,any\nx,1\n")
    with pytest.raises(LabelError, match="none of the 1 keys matches an image under its pseudonym; a key is a path"):
        curate_corpus(CurateConfig(**pseudonymous))


@pytest.mark.usefixtures("no_ray")
def test_corrected_labels_make_the_set_anew(tmp_path, corpus):
    config = CurateConfig(**corpus)
    curate_corpus(config)
    first = read_card(config.out)
    write_labels(tmp_path / "labels.csv", {number: int(number % 4 == 0) for number in range(40)})
    curate_corpus(config)
    second = read_card(config.out)
    assert (first.steps[0].left.positives, second.steps[0].left.positives) == ({"any": 14}, {"any": 10})
    assert first.digest != second.digest


@pytest.mark.usefixtures("no_ray")
def test_another_config_in_out_is_refused_with_what_differs(corpus):
    curate_corpus(CurateConfig(**corpus))
    before = files_below(corpus["out"])
    with pytest.raises(OutputError, match=r"made otherwise \(split by_patient there, by_image now; seed 0 there, 3"):
        curate_corpus(CurateConfig(**corpus, split="by_image", seed=3))
    assert files_below(corpus["out"]) == before


@pytest.mark.usefixtures("no_ray")
def test_a_set_of_other_images_is_not_replaced(tmp_path, corpus):
    """Without its card as well; more images of the same corpus go on."""
    rows = [{"image_id": f"X_{n}", "patient": f"P{n // 2}"} for n in range(40)]
    others = corpus | {"shards": write_conversion(tmp_path / "other", rows), "labels": str(tmp_path / "other.csv")}
    Path(others["labels"]).write_text("\n".join(["Image,any", *(f"X_{n},{int(n % 3 == 0)}" for n in range(40))]))
    curate_corpus(CurateConfig(**corpus))
    before = files_below(corpus["out"])
    refused = f"out: {corpus['out']} holds a training set of other images"
    with pytest.raises(OutputError, match=rf"^{refused} \(shards {corpus['shards']}\); give another folder$"):
        curate_corpus(CurateConfig(**others))
    assert files_below(corpus["out"]) == before
    Path(corpus["out"], "card.json").unlink()
    with pytest.raises(OutputError, match=f"^{refused}; give another folder$"):
        curate_corpus(CurateConfig(**others))
    assert files_below(corpus["out"]) == {name: digest for name, digest in before.items() if name != "card.json"}


@pytest.mark.usefixtures("no_ray")
def test_what_a_killed_worker_left_of_a_part_is_removed(corpus, monkeypatch):
    copy = curate._copy

    def copy_with_a_kill(*arguments):
        parts = copy(*arguments)
        Path(corpus["out"], "val", ".part-000000.parquet.0123456789abcdef.tmp").write_bytes(b"PAR1")
        return parts

    monkeypatch.setattr(curate, "_copy", copy_with_a_kill)
    curate_corpus(CurateConfig(**corpus))
    assert [name for name in files_below(corpus["out"]) if name.endswith(".tmp")] == []


@pytest.mark.usefixtures("no_ray")
def test_files_of_others_are_never_touched(corpus):
    with pytest.raises(OutputError, match="holds the card of something else"):
        curate_corpus(CurateConfig(**corpus | {"out": corpus["shards"]}))
    image = Path(corpus["out"], "train", "NORMAL", "x.jpeg")
    image.parent.mkdir(parents=True)
    image.write_bytes(b"a picture")
    with pytest.raises(OutputError, match=r"holds train/NORMAL/x\.jpeg, which no training set has"):
        curate_corpus(CurateConfig(**corpus))
    assert image.read_bytes() == b"a picture"


@pytest.mark.usefixtures("no_ray")
def test_neighbours_and_footer_agree_with_the_card(corpus):
    config = CurateConfig(**corpus, neighbours=1)
    curate_corpus(config)
    card = read_card(config.out)
    assert card.channels[0] == "brain_previous"
    assert card.image["neighbours"] == 1
    file = pq.ParquetFile(Path(config.out, "train", "part-000000.parquet"))
    footer = json.loads(file.metadata.metadata[FOOTER_KEY])
    assert footer["channels"] == list(card.channels)
    assert footer["classes"] == ["any"]
    image = file.read(columns=["image"])["image"][0].as_py()
    assert len(image) == len(card.channels) * card.height_px * card.width_px


@pytest.mark.usefixtures("no_ray")
def test_class_folders_are_labels(tmp_path):
    rows = [{"source_class": ("NORMAL", "PNEUMONIA")[n % 2]} for n in range(60)]
    shards = write_conversion(tmp_path / "xray", rows)
    out = curate_corpus(CurateConfig(shards=shards, labels="source_class", out=str(tmp_path / "set")))
    for row in pq.read_table(f"{out}/train").to_pylist():
        assert row["label_PNEUMONIA"] == 1 - row["label_NORMAL"] == int(row["source_class"] == "PNEUMONIA")


@pytest.fixture
def listed(tmp_path: Path, corpus: dict[str, str]) -> dict[str, str]:
    """The same shards as if converted from a table of files, whose column `bleed` nobody stored."""
    lines = ["path,patient,bleed", *(f"train/ID_{n:03d}.dcm,P{n // 2},{'no' if n % 3 else 'yes'}" for n in range(40))]
    table = tmp_path / "files.csv"
    table.write_text("\n".join(lines))
    card_file = Path(corpus["shards"], "card.json")
    entry = {"location": str(table), "sha256": hashlib.sha256(table.read_bytes()).hexdigest()}
    card_file.write_text(json.dumps({**json.loads(card_file.read_text()), "file_table": entry}))
    return corpus | {"labels": "manifest"}


@pytest.mark.usefixtures("no_ray")
def test_the_table_of_files_is_the_table_of_labels(listed, tmp_path):
    """Its location comes from the shards' card; a set made with the location given is the same set."""
    config = CurateConfig(**listed)
    out = curate_corpus(config)
    rows = [row for split in SPLITS for row in pq.read_table(f"{out}/{split}").to_pylist()]
    assert {row["image_id"] for row in rows if row["label_bleed"]} == {f"ID_{n:03d}" for n in range(0, 40, 3)}
    given = CurateConfig(**listed | {"labels": str(tmp_path / "files.csv")})
    assert read_card(out).inputs_digest == read_inputs(given).digest
    with pytest.raises(LabelError, match=r"files\.csv has no column 'blead' \(did you mean bleed\?\)"):
        curate_corpus(config.model_copy(update={"label_columns": ("blead",), "out": str(tmp_path / "other")}))


def test_a_table_of_files_that_moved_or_changed_is_refused_with_the_way_out(listed, corpus, pseudonymous, tmp_path):
    table, config = tmp_path / "files.csv", CurateConfig(**listed)
    content = table.read_text()
    table.write_text(content.replace("no", "yes", 1))
    with pytest.raises(SourceError, match=r"files\.csv has changed since .*; if its labels .*, give --labels .*files"):
        read_inputs(config)
    table.unlink()
    with pytest.raises(SourceError, match=r"files\.csv, from which .*shards was converted: No such file .* --labels F"):
        read_inputs(config)
    (tmp_path / "moved.csv").write_text(content)
    assert read_inputs(CurateConfig(**listed | {"labels": str(tmp_path / "moved.csv")})).label_file == content.encode()
    other = write_conversion(tmp_path / "of_a_folder", [{}] * 4)
    with pytest.raises(SourceError, match="of_a_folder was not converted from a table of files; give a CSV or Parquet"):
        read_inputs(CurateConfig(**listed | {"shards": other}))
    card_file = Path(pseudonymous["shards"], "card.json")
    card_file.write_text(card_file.read_text().replace('"rsna"', '"manifest"'))
    with pytest.raises(SourceError, match=r"keyed does not name its table, as .*; give the table and --pseudonym_key"):
        read_inputs(CurateConfig(**pseudonymous | {"labels": "manifest", "pseudonym_key": ""}))


@pytest.mark.usefixtures("no_ray")
def test_missing_inputs_are_named(tmp_path, corpus):
    with pytest.raises(SourceError, match=r"labels: .*none\.csv: No such file"):
        curate_corpus(CurateConfig(**corpus | {"labels": str(tmp_path / "none.csv")}))
    Path(corpus["shards"], "card.json").unlink()
    with pytest.raises(SourceError, match="is no finished conversion"):
        curate_corpus(CurateConfig(**corpus))


@pytest.mark.usefixtures("no_ray")
def test_a_refusal_leaves_an_older_set_whole(tmp_path, corpus):
    config = CurateConfig(**corpus)
    curate_corpus(config)
    before = files_below(config.out)
    write_labels(tmp_path / "labels.csv", dict.fromkeys(range(40), 0))
    with pytest.raises(LabelError, match="all alike"):
        curate_corpus(config)
    assert files_below(config.out) == before


@pytest.mark.usefixtures("ray_cluster")
def test_near_duplicates_are_a_finding_and_embeddings_decide(tmp_path, corpus, monkeypatch, capfd):
    """Images 0 and 39, of the first and the last patient, have nearly the same vector; all others point apart."""
    monkeypatch.setattr(curate, "_run", alone)
    vectors = np.eye(40, dtype=np.float32)
    vectors[39] = vectors[0] + 0.01 * vectors[39]
    ids = pa.table({"image_id": [f"ID_{n:03d}" for n in range(40)]})
    write_embeddings(tmp_path / "embeddings", vectors, ids, read_conversion_card(corpus["shards"]).digest)
    plain = CurateConfig(**corpus)
    curate_corpus(plain)
    assert "near_duplicates" not in read_card(corpus["out"]).audit
    embedded = plain.model_copy(update={"embeddings": str(tmp_path / "embeddings")})
    curate_corpus(embedded)
    audit = read_card(corpus["out"]).audit
    assert (audit["near_duplicates"]["pairs"], audit["near_duplicates"]["images"]) == (1, 2)
    assert audit["near_duplicates_examples"] == ["ID_000 of P0 ~ ID_039 of P19"]
    assert "1 pairs of 2 images of different patients are nearly the same" in capfd.readouterr().err
    (pair,) = pq.read_table(f"{corpus['out']}/near_duplicates.parquet").to_pylist()
    assert pair["cosine"] > 0.99
    curate_corpus(embedded)
    assert "is complete" in capfd.readouterr().err
    curate_corpus(plain)
    assert not Path(corpus["out"], "near_duplicates.parquet").exists()
