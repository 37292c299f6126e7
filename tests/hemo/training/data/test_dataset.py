"""Parquet parts to arrays; rows and labels of a task."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hemo.config.trial import TrialConfig
from hemo.curation.card import BaseSet, read_card
from hemo.curation.resplit import write_resplit
from hemo.errors import ConfigError, LabelError, SourceError
from hemo.training.data.dataset import (
    read_split,
    read_training_set,
    select_examples,
    select_splits,
    task_classes,
    with_target,
)
from hemo.training.data.examples import UNKNOWN


def test_images_equal_the_bytes_that_plain_pyarrow_reads(make_training_set: Callable[..., str]) -> None:
    folder = make_training_set(channels=("brain", "bone"))
    found = read_split(folder, "train", read_card(folder))
    parts = [pq.read_table(path) for path in sorted(Path(folder, "train").glob("*.parquet"))]
    expected = [np.frombuffer(row, np.uint8) for part in parts for row in part["image"].to_pylist()]
    assert found.images.shape == (48, 2, 16, 16)
    assert found.images.pixels.flags.c_contiguous
    np.testing.assert_array_equal(found.images.pixels.reshape(48, -1), np.stack(expected))


def test_patients_are_those_of_the_set(make_training_set: Callable[..., str]) -> None:
    found = read_training_set(make_training_set()).val
    assert found.patient[:4].tolist() == ["image val-000", "patient-val-0", "patient-val-1", "patient-val-1"]
    assert found.pixel_format[0] == "u12"


def test_null_labels_are_unknown_and_classes_keep_their_order(make_training_set: Callable[..., str]) -> None:
    def label(number: int, name: str) -> int | None:
        return None if (number, name) == (2, "sdh") else int(name == "any")

    found = read_training_set(make_training_set(classes=("any", "sdh"), label=label)).train
    assert found.labels[:4].tolist() == [[1, 0], [1, 0], [1, UNKNOWN], [1, 0]]


def test_an_image_of_another_size_is_refused(make_training_set: Callable[..., str]) -> None:
    folder = Path(make_training_set())
    part = folder / "train" / "part-00000.parquet"
    table = pq.read_table(part)
    images = [b"short", *table["image"].to_pylist()[1:]]
    pq.write_table(table.set_column(table.schema.get_field_index("image"), "image", pa.array(images)), part)
    with pytest.raises(SourceError, match=r"part-00000.parquet: an image is not 256 bytes"):
        read_training_set(str(folder))


def test_a_missing_part_is_refused(make_training_set: Callable[..., str]) -> None:
    folder = Path(make_training_set())
    (folder / "val" / "part-00001.parquet").unlink()
    with pytest.raises(SourceError, match=r"holds 8 rows, its card has 16; run `hemo curate` again"):
        read_training_set(str(folder))


def test_a_class_without_column_is_refused(make_training_set: Callable[..., str]) -> None:
    folder = Path(make_training_set())
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**card, "classes": ["any", "sdh"]}))
    with pytest.raises(SourceError, match="has no column label_sdh"):
        read_training_set(str(folder))


def test_hounsfield_pixels_are_refused(make_training_set: Callable[..., str]) -> None:
    folder = Path(make_training_set())
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**card, "dtype": "int16"}))
    with pytest.raises(SourceError, match="images are int16, training takes uint8"):
        read_training_set(str(folder))


def test_binary_takes_the_target_and_leaves_out_rows_that_lack_it(make_training_set: Callable[..., str]) -> None:
    def label(number: int, name: str) -> int | None:
        return None if number < 3 and name == "sdh" else number % 2

    data = read_training_set(make_training_set(classes=("any", "sdh"), label=label))
    splits = select_splits(data, TrialConfig(target="sdh"))
    assert splits.classes == ("sdh",)
    assert splits.train.rows[:3].tolist() == [3, 4, 5]
    assert splits.train.labels[:3].tolist() == [[1], [0], [1]]
    assert (len(splits.train), splits.train.unlabelled) == (45, 3)


def test_multi_label_takes_all_classes(make_training_set: Callable[..., str]) -> None:
    data = read_training_set(make_training_set(classes=("any", "sdh"), label=lambda number, _: number % 2))
    assert select_splits(data, TrialConfig(task="multi_label")).classes == ("any", "sdh")


def test_multi_class_wants_exactly_one_class(make_training_set: Callable[..., str]) -> None:
    data = read_training_set(make_training_set(classes=("a", "b"), label=lambda number, name: int(number != 1)))
    with pytest.raises(LabelError, match="train-000 has none or several; use multi_label"):
        select_splits(data, TrialConfig(task="multi_class"))


def test_unknown_target_names_the_classes(make_training_set: Callable[..., str]) -> None:
    data = read_training_set(make_training_set())
    with pytest.raises(ConfigError, match=r"trial.target: 'PNEUMONIA' is no class .* it has any"):
        select_splits(data, TrialConfig(target="PNEUMONIA"))


def test_labelled_rows_that_are_all_alike_are_refused(make_training_set: Callable[..., str]) -> None:
    data = read_training_set(make_training_set(label=lambda number, _: None if number % 2 else 0))
    with pytest.raises(SourceError, match="train: all 24 labelled images are alike in any"):
        select_splits(data, TrialConfig())


def test_a_split_without_labels_is_refused(make_training_set: Callable[..., str]) -> None:
    data = read_training_set(make_training_set(rows={"train": 8, "val": 4, "test": 4}, label=lambda n, _: None))
    with pytest.raises(SourceError, match="train: no image has a label of any"):
        select_splits(data, TrialConfig())


def test_any_is_the_only_class_of_a_set_without_a_class_of_that_name(make_training_set):
    """The trial that is trained and recorded states the class; a set of several classes needs it stated."""
    card = read_card(make_training_set(classes=("PNEUMONIA",)))
    assert with_target(TrialConfig(), card).target == "PNEUMONIA"
    assert with_target(TrialConfig(target="any", seed=3), card) == TrialConfig(target="PNEUMONIA", seed=3)
    assert with_target(TrialConfig(target="other"), card).target == "other"
    of_two = card.model_copy(update={"classes": ("a", "b")})
    with pytest.raises(ConfigError, match="'any' is no class of the training set; it has a, b"):
        task_classes(with_target(TrialConfig(), of_two), of_two)
    with_any = card.model_copy(update={"classes": ("any", "b")})
    assert task_classes(with_target(TrialConfig(), with_any), with_any) == ("any",)


@pytest.mark.parametrize("streaming", [False, True])
def test_another_split_has_the_images_of_its_base_and_labels_of_its_own(
    make_training_set: Callable[..., str], tmp_path: Path, streaming: bool
) -> None:
    """Rows 0, 20 and 47 of train, 48 and 63 of val, 64 of test; blocks of 8 rows, of which many are left out."""
    base = make_training_set()
    whole = read_training_set(base)
    rows, labels = [0, 20, 47, 48, 63, 64], [1, 0, None, 1, 0, 1]
    card = read_card(base)
    count = card.splits["train"].model_copy(update={"rows": len(rows)})
    card = card.model_copy(
        update={"base": BaseSet(location=base, digest=card.digest), "splits": {**card.splits, "holdout": count}}
    )
    table = pa.table({"split": ["holdout"] * 6, "row": rows, "label_any": pa.array(labels, pa.uint8())})
    write_resplit(str(tmp_path / "again"), card, table)
    found = read_split(str(tmp_path / "again"), "holdout", card, streaming=streaming)
    stored = np.concatenate([whole.train.images.pixels, whole.val.images.pixels, whole.test.images.pixels])[rows]
    wanted = [np.array([5, 0]), np.array([2, 3, 1, 4])]
    for batch, images in zip(wanted, found.images.batches(wanted), strict=True):
        np.testing.assert_array_equal(images, stored[batch])
    assert found.images.shape == stored.shape
    assert found.image_id.tolist() == ["train-000", "train-020", "train-047", "val-000", "val-015", "test-000"]
    assert found.patient[1] == "patient-train-10"
    assert found.labels[:, 0].tolist() == [1, 0, UNKNOWN, 1, 0, 1]
    ends = [1, 1, 2, 2, 2, 3, 4, 5, 6, 6]  # train has six blocks, val and test two each
    assert found.images.block_ends.tolist() == ends
    examples = select_examples(found, TrialConfig(), card)
    assert examples.block_of.tolist() == [0, 2, 6, 7, 8]
