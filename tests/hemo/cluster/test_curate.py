"""`curate_corpus` end to end on hand-made shards, by Ray."""

import hashlib
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from hemo.cluster.curate import curate_corpus
from hemo.config.curate import CurateConfig
from hemo.curation.card import read_card
from tests.made_shards import write_conversion


@pytest.fixture
def corpus(tmp_path: Path) -> dict[str, str]:
    """Forty images of twenty patients; every third shows a hemorrhage."""
    rows = [
        {"patient": f"P{number // 2}", "series": f"S{number // 2}", "position_mm": float(number)}
        for number in range(40)
    ]
    shards = write_conversion(tmp_path / "shards", rows, unit_rows=7)
    lines = [f"ID_{number:03d},{int(number % 3 == 0)}" for number in range(40)]
    (tmp_path / "labels.csv").write_text("\n".join(["Image,any", *lines]))
    return {"shards": shards, "labels": str(tmp_path / "labels.csv")}


def files_below(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.usefixtures("ray_cluster")
def test_every_image_stands_once_with_its_own_pixels_and_label(tmp_path, corpus, capfd):
    out = tmp_path / "set"
    assert curate_corpus(CurateConfig(**corpus, out=str(out), part_rows=5, seed=1)) == str(out)
    table = pq.read_table(str(out / "train")), pq.read_table(str(out / "val")), pq.read_table(str(out / "test"))
    seen = {}
    for part in table:
        for row in part.to_pylist():
            seen[row["image_id"]] = (row["image"], row["label_any"])
    assert seen == {f"ID_{n:03d}": (bytes([n] * 8), int(n % 3 == 0)) for n in range(40)}
    card = read_card(str(out))
    assert sum(count.rows for count in card.splits.values()) == 40
    assert card.splits["train"].rows == len(table[0])
    assert not (out / ".buckets").exists()
    assert "training set" in capfd.readouterr().err
    before = files_below(out)
    curate_corpus(CurateConfig(**corpus, out=str(out), part_rows=5, seed=1))
    assert files_below(out) == before
