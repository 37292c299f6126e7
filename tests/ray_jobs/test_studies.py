"""The configs in conf/study, each run from corpus to record on tiny files in the corpus's own format."""

import json
from pathlib import Path

import PIL.Image
import pytest

from hemo.cluster.pipeline import check_inputs
from hemo.config.load import load_config
from hemo.config.pipeline import PipelineConfig
from hemo.shards.card import read_card
from ray_jobs.pipeline import main
from tests.photographs import write_photographs

ROOT = Path(__file__).parents[2]
STUDIES = sorted(file.stem for file in (ROOT / "conf/study").glob("*.yaml"))

pytestmark = pytest.mark.timeout(600)


def command(study: str, folder: Path) -> list[str]:
    """Return the command line of a study of `folder/corpus`."""
    file, source, out = ROOT / f"conf/study/{study}.yaml", folder / "corpus", folder / "out"
    return ["--config", str(file), "--convert.source", str(source), "--out", str(out)]


def run(study: str, folder: Path, **changes: object) -> dict[str, dict]:
    """Run a study and return the records of its trials, by their names."""
    flags = [word for key, value in changes.items() for word in (f"--{key.replace('__', '.')}", str(value))]
    main([*command(study, folder), *flags, "--tune.concurrent", "1"])  # one process loads torch for all trials
    records = [json.loads(place.read_text()) for place in (folder / "out/records").glob("*/record.json")]
    assert {record["status"] for record in records} == {"complete"}
    return {record["config"]["name"]: record for record in records}


def accuracy(record: dict) -> float:
    return record["metrics"]["test"]["accuracy"]


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_is_refused_for_missing_weights_only(study, tmp_path):
    """Sides, backbones and grid fit together; nothing is converted or trained."""
    (tmp_path / "corpus").mkdir()
    words = [*command(study, tmp_path), "--tune.trial.model.weights", "none"]
    check_inputs(load_config(PipelineConfig, words, job="pipeline"))


def test_cats_and_dogs_in_class_folders(ray_cluster, tmp_path):
    """Photographs as the web has them: of odd sizes, one in CMYK, one cut short, one no picture at all."""
    for split, count in (("train", 30), ("validation", 10)):
        write_photographs(tmp_path / "corpus" / split, ("cats", "dogs"), count)
    broken = tmp_path / "corpus/train/cats"
    (broken / "0.jpg").write_bytes((broken / "0.jpg").read_bytes()[:300])
    (broken / "1.jpg").write_bytes(b"")
    PIL.Image.open(broken / "2.jpg").convert("CMYK").save(broken / "2.jpg")
    flags = {"tune.trial.model.weights": "none", "tune.trial.training.epochs": 6}
    records = run("cats_dogs", tmp_path, convert__side_px=32, tune__trial__training__learning_rate=1e-3, **flags)
    assert set(records) == {"frozen", "fine_tuned"}
    assert records["frozen"]["metrics"]["test"]["auroc"] > 0.9  # of 16 images: accuracy hangs on the threshold
    card = read_card(str(tmp_path / "out/converted"))
    assert (card.rows, card.reject_reasons) == (78, {"not_image": 2})


def test_chest_xrays_with_a_small_cnn(ray_cluster, tmp_path):
    """Plain goes on to the last epoch; cured and robust see changed images, each others."""
    for split, count in (("train", 40), ("test", 15)):
        name = split + "-person{number}_bacteria.jpeg"
        write_photographs(tmp_path / "corpus" / split, ("NORMAL", "PNEUMONIA"), count, name=name)
    records = run("chest_xray_64_small", tmp_path, tune__trial__training__epochs=5)
    cells = ("plain", "cured", "robust")
    assert {name: record["split"] for name, record in records.items()} == dict.fromkeys(cells, "official")
    assert [records[name]["config"]["augment"]["rotate_degrees"] for name in cells] == [0, 10, 7]
    assert len(records["plain"]["epochs"]) == 5
    assert all(accuracy(record) > 0.8 for record in records.values())
