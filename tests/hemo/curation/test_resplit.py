"""Another split of a training set: its rows come back as they were written, or are refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from hemo.curation.card import BaseSet, Count, TrainingSetCard, read_card
from hemo.curation.resplit import read_base_card, read_resplit, require_own_images, write_resplit
from hemo.errors import ConfigError, SourceError

COUNT = Count(rows=2, patients=1, positives={}, blanks={}, patients_with={}, patients_without={}, grouped_by={})


@pytest.fixture
def resplit(make_training_set: Callable[..., str], tmp_path: Path) -> tuple[str, TrainingSetCard]:
    base = make_training_set()
    card = read_card(base).model_copy(
        update={
            "base": BaseSet(location=base, digest="feedfacefeedface"),
            "splits": {"train": COUNT, "val": COUNT.model_copy(update={"rows": 1})},
        }
    )
    rows = pa.table({"split": ["train", "val", "train"], "row": [70, 3, 5], "label_any": [1, 0, None]})
    write_resplit(str(tmp_path / "again"), card, rows)
    return str(tmp_path / "again"), card


def test_rows_come_back_by_split_and_ascending(resplit: tuple[str, TrainingSetCard]) -> None:
    folder, card = resplit
    assert read_card(folder) == card
    assert read_resplit(folder, "train", card).to_pydict() == {"row": [5, 70], "label_any": [None, 1]}
    assert read_resplit(folder, "val", card)["row"].to_pylist() == [3]


def test_a_list_that_is_gone_or_another_is_refused(resplit: tuple[str, TrainingSetCard]) -> None:
    folder, card = resplit
    more = card.model_copy(update={"splits": {"train": COUNT.model_copy(update={"rows": 3})}})
    with pytest.raises(SourceError, match=r"rows\.parquet is not the list that its card describes; remove the folder"):
        read_resplit(folder, "train", more)
    Path(folder, "rows.parquet").write_bytes(b"PAR1")
    with pytest.raises(SourceError, match=r"rows\.parquet is damaged; remove the folder and run the job"):
        read_resplit(folder, "train", card)
    Path(folder, "rows.parquet").unlink()
    with pytest.raises(SourceError, match=r"again has no rows\.parquet; remove the folder"):
        read_resplit(folder, "train", card)


def test_images_that_are_others_by_now_are_refused(resplit: tuple[str, TrainingSetCard]) -> None:
    folder, card = resplit
    assert read_base_card(folder, card).digest == "feedfacefeedface"
    assert card.base is not None
    path = Path(card.base.location, "card.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "digest": "0123456789abcdef"}))
    with pytest.raises(SourceError, match=r"splits training set feedfacefeedface, and .*/set holds 0123456789abcdef"):
        read_base_card(folder, card)


def test_a_job_that_needs_the_images_names_the_folder_that_has_them(resplit: tuple[str, TrainingSetCard]) -> None:
    folder, card = resplit
    with pytest.raises(ConfigError, match=rf"^images: {folder} is another split of the images of .*/set and has none"):
        require_own_images(folder, card.base, "images")
    require_own_images(folder, None, "images")
