import io
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from hemo.cluster.convert import plan_training
from hemo.cluster.convert.estimate import Cluster, estimate_conversion
from hemo.cluster.convert.plan_training import (
    Device,
    PlannedTraining,
    Speeds,
    Step,
    Work,
    all_steps,
    as_json,
    device_of,
    measure,
    passes,
    path_table,
    read_trials,
    step_estimate,
    step_lines,
    steps_of,
)
from hemo.config.convert import PlanConfig
from hemo.config.trial import ModelConfig, SeriesConfig, TrainingConfig, TrialConfig
from hemo.config.tune import TrainConfig
from hemo.errors import ConfigError
from hemo.imaging.settings import image_settings
from hemo.pseudonym import read_pseudonyms
from hemo.trials.speed import TrainingSpeed
from tests.hemo.cluster.convert.test_estimate import MEASURED, WORK

TRAIN = Step("train", "a net", {"trained": Work(36_000, 10), "evaluated": Work(9_000, 40)}, 40_000, "1 x CPU", "noise")
SERIES = Step("series", "a sequence", {"trained": Work(7_200, 2)}, 0, "1 x CPU", "noise")
IMAGES = TrialConfig(training=TrainingConfig(epochs=3))
SEQUENCE = TrialConfig(
    model=ModelConfig(backbone="BiGRU(4)", series=SeriesConfig(embeddings="vectors")), training=TrainingConfig(epochs=2)
)


def config(**changes: object) -> PlanConfig:
    return PlanConfig.model_validate({"source": "/in", "corpus": "rsna", "out": "/out", **changes})


def settings_of(plan: PlanConfig):
    return image_settings(plan, "photo" if plan.corpus == "image_folder" else "dicom", read_pseudonyms(""))


def test_hours_are_examples_over_rates():
    """36,000 at 10/s are 1 h; 9,000 at 40/s are 225 s; at 36 an hour."""
    found = step_estimate(TRAIN, MEASURED, Cluster(1, 2, price_per_node_hour=36.0))
    assert found.hours == pytest.approx(1 + 225 / 3600)
    assert found.cost == pytest.approx(36 * (1 + 225 / 3600))
    assert (found.step, found.bound) == ("train", "compute")


def test_nodes_divide_the_time_and_not_the_cost():
    one, four = (step_estimate(TRAIN, MEASURED, Cluster(nodes, 2, 2.0)) for nodes in (1, 4))
    assert four.hours == pytest.approx(one.hours / 4)
    assert (four.node_hours, four.cost) == (pytest.approx(one.node_hours), pytest.approx(one.cost))
    assert step_estimate(TRAIN, MEASURED, Cluster(1, 2)).cost is None


def test_reading_bounds_what_is_read():
    """1 MB/s at 40 kB each is 25 images/s for all nodes: training at 10 a node keeps up, evaluating not."""
    shared = step_estimate(TRAIN, MEASURED, Cluster(1, 2, storage_bytes_per_s=1e6))
    assert (shared.hours, shared.bound) == (pytest.approx(1 + 360 / 3600), "compute")
    four = step_estimate(TRAIN, MEASURED, Cluster(4, 2, storage_bytes_per_s=1e6))
    assert (four.hours, four.bound) == (pytest.approx(45_000 / 25 / 3600), "shared storage")
    fast = Step("embed", "a net", {"embedded": Work(25_000, 1e6)}, 40_000, "GPU", "noise")
    own = step_estimate(fast, MEASURED, Cluster(2, 2))
    assert (own.hours, own.bound) == (pytest.approx(25_000 / 50_000 / 3600), "read"), "1 GB/s a node: 25,000 images/s"
    assert step_estimate(SERIES, MEASURED, Cluster(1, 2, storage_bytes_per_s=1)).hours == 1, "vectors are in memory"


def test_passes_are_those_of_a_fit():
    """Of 100: 60 train, 10 validation, 30 test. Three epochs: 180; evaluated 70, then 3 x 10, then 100.

    The studies of a sequence model's validation and test are evaluated once more: 70 + 2 x 10 + 100 + 40.
    """
    plan = config(val_fraction=0.1, test_fraction=0.3)
    assert passes(plan, IMAGES, 100) == (180, 200)
    assert passes(plan, SEQUENCE, 100) == (120, 230)


def test_steps_multiply_by_the_workers_of_a_node():
    speed = TrainingSpeed("1 x GPU", 100.0, 400.0, 64, 32, 2.0)
    trials = PlannedTraining(_train(IMAGES), _train(SEQUENCE))
    speeds = Speeds(speed, 300.0, 4, speed, 1)
    train, embed, series = steps_of(config(), trials, speeds, images=100, image_bytes=5.0)
    assert (train.work["trained"].per_s, train.work["evaluated"].per_s, train.example_bytes) == (400, 1600, 5)
    assert embed.work == {"embedded": Work(100, 1200)}
    assert (series.work["trained"].per_s, series.example_bytes) == (100, 0)
    assert len(steps_of(config(), PlannedTraining(_train(IMAGES), None), speeds, images=9, image_bytes=5.0)) == 2


def _train(trial: TrialConfig) -> TrainConfig:
    return TrainConfig(training_set="set", out="records", trial=trial)


def test_the_table_adds_the_steps_up():
    """Conversion 15.1 s; training 1 h 225 s, 64 min; the sequence model 1 h; at 36 an hour 2 h 4 min are 74.40."""
    paths = [
        all_steps(estimate_conversion(WORK, MEASURED, cluster), (TRAIN, SERIES), MEASURED, cluster)
        for cluster in (Cluster(1, 2, 36.0), Cluster(4, 2, 36.0, 1e6))
    ]
    console = Console(width=80, file=io.StringIO())
    console.print(path_table(paths))
    shown = console.file.getvalue().splitlines()
    rows = [re.split(r"\s{2,}", line.strip()) for line in shown if line.strip()[:1].isdigit()]
    assert rows[0] == ["1", "15.1 s", "1 h 04 min", "1 h 00 min", "2 h 04 min", "74.40"]
    assert rows[1][1].endswith("*"), "10,000 files of half a megabyte at 1 MB/s"
    assert rows[1][2:4] == ["30 min*", "15 min"]
    content = json.loads(json.dumps(as_json((TRAIN, SERIES), paths), allow_nan=False))
    assert [(row["nodes"], row["step"]) for row in content["steps"]][2:4] == [(1, "series"), (4, "convert")]
    assert content["measured"][0]["work"]["trained"] == {"examples": 36_000, "per_s": 10}


def test_a_line_says_what_was_measured_and_on_what():
    assert step_lines((TRAIN,)) == [
        "train, a net: a node trained 10/s (36,000 in all), evaluated 40/s (9,000 in all); measured on 1 x CPU, noise"
    ]


def test_a_node_trains_on_all_its_gpus_or_all_its_cpus():
    cpus, gpus = {"Alive": True, "Resources": {"CPU": 8.0}}, {"Alive": True, "Resources": {"CPU": 16.0, "GPU": 4.0}}
    assert device_of("auto", [cpus, gpus]) == Device(workers_a_node=4, cpus=1, gpus=1)
    assert device_of(0, [cpus, gpus]) == Device(workers_a_node=1, cpus=8, gpus=0)
    assert device_of(1, [cpus]) == Device(1, 8, 0), "a plan is made on what is here"
    with pytest.raises(ConfigError, match="has no CPU yet"):
        device_of("auto", [{"Alive": False, "Resources": {"CPU": 8.0}}])


@pytest.mark.parametrize(("gpus", "said"), [(1, True), ("auto", False), (0, False)])
def test_who_wants_gpus_is_told_that_training_is_timed_on_cpus(gpus, said, monkeypatch, capsys):
    monkeypatch.setattr(plan_training.ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": 8.0}}])
    monkeypatch.setattr(plan_training.ray, "get", lambda _: (_ for _ in ()).throw(InterruptedError("here it is timed")))
    monkeypatch.setattr(plan_training, "_on", lambda device, work: SimpleNamespace(remote=lambda *_, **options: None))
    plan = config(train="train.yaml", side_px=16)
    images = TrainConfig.model_validate({"training_set": "set", "out": "records", "workers": {"gpus": gpus}})
    with pytest.raises(InterruptedError):
        measure(plan, PlannedTraining(images, None), settings_of(plan))
    line = "/train.yaml trains on GPUs, and the cluster has none now: training is timed on CPUs; "
    assert (line in capsys.readouterr().err) == said


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"train": "missing.yaml"}, r"--train .*missing.yaml: No such file"),
        ({"train": "series.yaml"}, r"--train .*series.yaml trains BiGRU\(4\): give it as --series"),
        ({"train": "wrong.yaml"}, r"wrong.yaml: trial.epoch: "),
        (
            {"train": "images.yaml", "series": "images.yaml"},
            r"--series .*images.yaml trains CNN\(4\), which takes images",
        ),
        ({"train": "images.yaml", "series": "series.yaml", "corpus": "image_folder"}, "pictures have no series"),
        ({"train": "unknown.yaml"}, r"resnet5O"),
    ],
)
def test_a_wrong_config_is_refused_before_anything_is_measured(fields, line, tmp_path):
    head = "training_set: set\nout: records\n"
    (tmp_path / "images.yaml").write_text(f"{head}trial: {{model: {{backbone: CNN(4)}}}}\n")
    (tmp_path / "unknown.yaml").write_text(f"{head}trial: {{model: {{backbone: resnet5O}}}}\n")
    (tmp_path / "wrong.yaml").write_text(f"{head}trial: {{epoch: 3}}\n")
    sequence = "{backbone: BiGRU(4), series: {embeddings: vectors}}"
    (tmp_path / "series.yaml").write_text(f"{head}trial: {{model: {sequence}}}\n")
    files = {name: str(tmp_path / value) for name, value in fields.items() if name != "corpus"}
    plan = config(**{**fields, **files}, side_px=16)
    with pytest.raises(ConfigError, match=line):
        read_trials(plan, settings_of(plan))


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"series": "s.yaml"}, "series is trained on embeddings of a model of images: give --train"),
        ({"train": "t.yaml", "pixels": "hu16"}, "train takes windows of 8 bits"),
        ({"val_fraction": 0.5, "test_fraction": 0.5}, "leave nothing to train on"),
    ],
)
def test_fields_that_contradict_each_other_are_refused(fields, line):
    with pytest.raises(ValueError, match=line):
        config(**fields)


def test_tasks_of_the_conversion_load_no_torch():
    """Their start is measured, and would be seconds longer."""
    code = "import sys, hemo.cluster.convert.plan; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_nothing_is_planned_without_a_config_of_train():
    assert read_trials(config(), settings_of(config())) is None


def test_the_repository_s_path_of_rsna_is_read():
    plan = config(train=str(Path("conf/train/rsna.yaml")), series="conf/train/rsna_series.yaml")
    trials = read_trials(plan, settings_of(plan))
    assert trials is not None
    assert trials.series is not None
    assert trials.series.trial.model.backbone == "BiGRU(256,256)"
    assert math.isclose(trials.images.trial.training.epochs, 10)
