"""Croissant metadata and hashed splits of a training set."""

import hashlib
import json
import logging
from pathlib import Path

import pyarrow as pa
import pytest

from hemo.config.curate import DatasetConfig
from hemo.curation.card import PartFile, TrainingSetCard, read_card, without_examples
from hemo.curation.public_files import croissant, split_manifest

DESCRIBED = DatasetConfig(
    name="squares",
    description="Bright squares",
    license="https://creativecommons.org/licenses/by/4.0/",
    url="https://example.org/squares",
    creators=("A. Painter",),
    publisher="Gallery",
    cite_as="Painter 2026",
    version="1.0.0",
    date_published="2026-11-27",
)

RDFLIB = pytest.mark.filterwarnings("ignore::DeprecationWarning")
"""Of a class that mlcroissant takes from rdflib."""


def with_parts(folder: str, dataset: DatasetConfig = DESCRIBED) -> TrainingSetCard:
    """Return the card of a made training set with the hashes of its files."""
    parts = [
        PartFile(
            path=path.relative_to(folder).as_posix(),
            rows=8,
            size_bytes=path.stat().st_size,
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        )
        for path in sorted(Path(folder).glob("*/*.parquet"))
    ]
    return read_card(folder).model_copy(update={"parts": tuple(parts), "dataset": dataset})


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def test_the_manifest_has_hashes_in_an_order_that_says_nothing():
    ids, pixels = pa.array(["b", "a", "c"]), pa.array([b"p" * 16, None, b"q" * 16], pa.binary(16))
    text = split_manifest(ids, pixels, ["train", "test", "val"]).decode()
    head, *lines = text.splitlines()
    expected = [f"{sha(b'b')},{sha(b'p' * 16)},train", f"{sha(b'a')},,test", f"{sha(b'c')},{sha(b'q' * 16)},val"]
    assert (head, lines) == ("image,pixels,split", sorted(expected))


def test_equal_splits_have_equal_manifests_in_any_order_and_others_do_not():
    ids, pixels = pa.array(["a", "b"]), pa.array([None, None], pa.binary(16))
    one = split_manifest(ids, pixels, ["train", "test"])
    assert split_manifest(ids[::-1], pixels, ["test", "train"]) == one
    assert split_manifest(ids, pixels, ["test", "train"]) != one


def test_croissant_names_every_file_column_and_split(make_training_set):
    card = with_parts(make_training_set(channels=("brain", "bone")))
    found = croissant(card)
    files = {entry["@id"]: entry for entry in found["distribution"] if entry["@type"] == "cr:FileObject"}
    assert files["train/part-00000.parquet"]["sha256"] == card.parts[2].sha256
    assert (len(files), found["license"]) == (6, "https://creativecommons.org/licenses/by/4.0/")
    splits, images = found["recordSet"]
    fields = {field["name"]: field for field in images["field"]}
    assert {"split", "image", "patient", "label_any"} <= set(fields)
    assert "uint8, 2 x 16 x 16 (channels brain, bone)" in fields["image"]["description"]
    assert (fields["label_any"]["dataType"], fields["flags"]["repeated"]) == ("sc:Integer", True)
    assert [row["splits/name"] for row in splits["data"]] == ["train", "val", "test"]


def test_what_the_user_did_not_give_is_left_out(make_training_set):
    found = croissant(with_parts(make_training_set(), DatasetConfig()))
    assert not {"license", "url", "creator", "publisher", "citeAs", "version"} & set(found)
    assert found["name"] == "hemo-training-set-feedfacefeedface"
    assert found["description"] == "Images with labels of any: 48 in train, 16 in val, 16 in test, split by_patient."


@RDFLIB
def test_mlcroissant_finds_no_fault_and_reads_the_images(make_training_set, caplog):
    mlcroissant = pytest.importorskip("mlcroissant", reason="mlcroissant is not installed")
    folder = make_training_set(label=lambda number, _: None if number == 1 else number % 2)
    Path(folder, "croissant.json").write_text(json.dumps(croissant(with_parts(folder))))
    with caplog.at_level(logging.WARNING):
        dataset = mlcroissant.Dataset(f"{folder}/croissant.json")
        records = {record["images/image_id"]: record for record in dataset.records("images")}
    issues = dataset.metadata.ctx.issues
    assert (issues.errors, issues.warnings, caplog.messages) == (set(), set(), [])
    splits = [record["images/split"] for record in records.values()]
    assert {split: splits.count(split) for split in set(splits)} == {b"train": 48, b"val": 16, b"test": 16}
    first, second = records[b"train-001"], records[b"train-003"]
    assert (first["images/label_any"], second["images/label_any"]) == (None, 1)
    assert (len(second["images/image"]), second["images/patient"]) == (256, b"patient-train-1")


@RDFLIB
def test_mlcroissant_notices_a_changed_file(make_training_set):
    mlcroissant = pytest.importorskip("mlcroissant", reason="mlcroissant is not installed")
    folder = make_training_set()
    metadata = croissant(with_parts(folder))
    metadata["recordSet"] = [
        {
            "@type": "cr:RecordSet",
            "@id": "one",
            "name": "one",
            "field": [
                {
                    "@type": "cr:Field",
                    "@id": "one/image_id",
                    "name": "one/image_id",
                    "dataType": "sc:Text",
                    "source": {"fileObject": {"@id": "val/part-00000.parquet"}, "extract": {"column": "image_id"}},
                }
            ],
        }
    ]
    Path(folder, "croissant.json").write_text(json.dumps(metadata))
    with Path(folder, "val/part-00000.parquet").open("ab") as file:
        file.write(b"x")
    with pytest.raises(Exception, match=r"operation Download\(val/part-00000.parquet\)") as raised:
        list(mlcroissant.Dataset(f"{folder}/croissant.json").records("one"))
    assert "is not identical with the reference" in str(raised.value.__cause__)


def test_a_card_for_others_has_no_ids_and_no_locations(make_training_set):
    card = read_card(make_training_set()).model_copy(
        update={
            "audit": {"linked_patients": 2, "link_examples": ["P1 and P2"]},
            "config": {"shards": "/data/doe_john", "labels": "/x", "split": "by_patient"},
        }
    )
    shown = without_examples(card)
    assert (shown.audit, shown.config) == ({"linked_patients": 2}, {"split": "by_patient"})
