"""docs/how-to/labels.md, run from top to bottom on pictures and tables made here."""

import re
import shlex
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import hemo
from hemo.curation.card import read_card
from ray_jobs.__main__ import main

PAGE = (Path(__file__).parents[2] / "docs/how-to/labels.md").read_text()
COMMANDS = [
    shlex.split(line)[1:]
    for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
]


def write_corpus(folder: Path) -> None:
    """Write sixty pictures of thirty patients; every third image is bright and has a bleed."""
    labels, files = ["image;age; hemorrhage;finding"], ["path,patient,hemorrhage"]
    for number in range(60):
        bleed, patient = number % 3 == 0, f"P{number // 2:02d}"
        path = folder / "pictures/ward" / f"{patient}-{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 60, (64, 64))
        Image.fromarray((noise + 150 * bleed).astype(np.uint8)).save(path)
        answer, finding = ("yes", "bleed") if bleed else ("no", "cyst" if number % 3 == 1 else "normal")
        labels.append(f"{path.name};61;{answer};{finding}")
        files.append(f"{path.relative_to(folder)},{patient},{answer}")
    (folder / "labels.csv").write_text("\n".join(labels))
    (folder / "files.csv").write_text("\n".join(files))


def labels_of(training_set: str) -> dict[str, list[int]]:
    """Return the labels of each image, in the order of the classes."""
    rows = [row for split in ("train", "val", "test") for row in pq.read_table(f"{training_set}/{split}").to_pylist()]
    return {row["image_id"]: [row[f"label_{name}"] for name in read_card(training_set).classes] for row in rows}


@pytest.mark.usefixtures("ray_cluster")
def test_pictures_and_a_table_become_training_sets(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    write_corpus(tmp_path)
    for words in COMMANDS:
        main(words)
    shown = capfd.readouterr().err
    assert "curate: columns of the labels that are not used: age, finding" in shown
    ids = [f"ward/P{n // 2:02d}-{n:03d}" for n in range(60)]
    assert labels_of("runs/own/set") == {name: [int(n % 3 == 0)] for n, name in enumerate(ids)}
    assert read_card("runs/own/set").split == "by_patient"
    assert read_card("runs/own/findings").classes == ("bleed", "cyst", "normal")
    one_hot = np.eye(3, dtype=int).tolist()
    assert labels_of("runs/own/findings") == {name: one_hot[n % 3] for n, name in enumerate(ids)}
    listed = read_card("runs/own/listed_set")
    assert (listed.classes, listed.split) == (("hemorrhage",), "by_patient")
    assert len(labels_of("runs/own/listed_set")) == 60
    assert hemo.Trials("runs/own/records").to_pandas()["status"].tolist() == ["complete"]


@pytest.mark.usefixtures("ray_cluster")
def test_in_python_the_columns_are_arguments(tmp_path):
    write_corpus(tmp_path)
    shards = hemo.convert(
        source=str(tmp_path / "pictures"), corpus="image_folder", patient_pattern=r"^(P\d+)-", side_px=32,
        out=str(tmp_path / "shards"),
    )  # fmt: skip
    training_set = hemo.curate(
        shards=shards.path, labels=str(tmp_path / "labels.csv"), label_key="image", label_columns=["hemorrhage"],
        out=str(tmp_path / "set"),
    )  # fmt: skip
    assert training_set.classes == ("hemorrhage",)
    assert sum(len(split) for split in (training_set.train, training_set.val, training_set.test)) == 60
