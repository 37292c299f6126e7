"""The entry point of `train`."""

from pathlib import Path

import numpy as np
import pytest

from hemo.config.load import load_config
from hemo.config.trial import TrialConfig
from hemo.config.tune import TrainConfig
from hemo.curation.card import label_counts, split_finding
from hemo.trials.record import TrialRecord
from ray_jobs import train

CONF = Path(__file__).parents[2] / "conf" / "train"


def test_the_table_has_a_split_a_row_and_gaps_for_what_is_not_defined() -> None:
    record = TrialRecord(
        digest="d",
        status="complete",
        config=TrialConfig(),
        classes=("any",),
        training_set="t",
        split="by_patient",
        best_epoch=0,
        parameters=11_177_025,
        megabytes=44.74,
        latency_ms=12.34,
        inference_images_per_second=150.4,
        inference_batch_size=8,
        thresholds=(0.25,),
        baseline={"train": {"loss": 0.75, "accuracy": 0.5}},
        metrics={"val": {"loss": 0.5, "accuracy": 0.75}},
    )
    assert train.metrics_text(record).splitlines() == [
        "best epoch 0 of 0; thresholds: any 0.250",
        "11,177,025 parameters, 44.7 MB; 12.3 ms for one image, 150 images/s in batches of 8",
        "          split         loss     accuracy        auroc       recall  specificity    precision           f1",
        "at start: train       0.7500       0.5000            -            -            -            -            -",
        "            val       0.5000       0.7500            -            -            -            -            -",
    ]


def test_how_many_workers_ran_is_shown_where_it_changed(make_record) -> None:
    """Two from the first epoch, one from the third, two from the fifth on; always two: no line."""
    record = make_record({})
    counts = (2, 2, 1, 1, 2, 2, 2, 2, 2, 2)
    epochs = [epoch.model_copy(update={"workers": n}) for epoch, n in zip(record.epochs, counts, strict=True)]
    changed = record.model_copy(update={"epochs": tuple(epochs)})
    assert "workers: 2 from epoch 1, 1 from epoch 3, 2 from epoch 5" in train.metrics_text(changed).splitlines()
    assert "workers" not in train.metrics_text(changed.model_copy(update={"epochs": tuple(epochs[:2])}))


def test_a_threshold_that_validation_cannot_choose_is_no_number() -> None:
    """Validation has 12 images of 3 patients, none of them positive."""
    finding = split_finding("val", 3, label_counts(("any",), np.zeros((12, 1), np.uint8), np.arange(12) // 4))
    record = TrialRecord(
        digest="d",
        status="complete",
        config=TrialConfig(),
        classes=("any",),
        training_set="t",
        split="by_patient",
        thresholds=(None,),
        metrics={"val": {"loss": 0.5, "specificity": 1.0}},
        findings=(finding,),
    )
    lines = train.metrics_text(record).splitlines()
    assert lines[0] == "best epoch 0 of 0; thresholds: any undefined: all images of val are alike in it, 0.5 is applied"
    assert lines[2].split() == ["val", "0.5000", "-", "-", "-", "1.0000", "-", "-"]
    assert lines[3] == (
        "accuracy, threshold and best epoch of val mean nothing: val has too few patients to choose an epoch, "
        "a threshold or a model by: 3 (of at least 10), with any 0 (of at least 5), without any 3 (of at least 5)"
    )


@pytest.mark.parametrize("file", sorted(path.name for path in CONF.glob("*.yaml")))
def test_conf_files_are_valid_and_say_how_to_run_them(file: str) -> None:
    config = load_config(TrainConfig, ["--config", str(CONF / file)], job="train")
    assert config.trial.name
    assert f"#   hemo train --config conf/train/{file}" in (CONF / file).read_text()


def test_an_unknown_flag_is_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        train.main(["--training_set", str(tmp_path), "--out", str(tmp_path / "out"), "--no_such_flag", "1"])
    assert ended.value.code == 2
    assert "--no_such_flag" in capsys.readouterr().err


@pytest.mark.usefixtures("ray_cluster")
def test_a_folder_that_is_no_training_set_is_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        train.main(["--training_set", str(tmp_path), "--out", str(tmp_path / "out")])
    assert ended.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"hemo: {tmp_path} is no finished training set (it has no card.json); `hemo curate` makes one"]
