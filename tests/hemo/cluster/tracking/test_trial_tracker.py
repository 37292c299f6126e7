"""What trackers log, and that none of their errors harms a trial."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from hemo.cluster.tracking.trial_tracker import (
    TolerantTracker,
    TrackedTrial,
    check_tracking,
    flat_metrics,
    summary_of,
    tensorboard_folder,
    tracked,
)
from hemo.cluster.tracking.wandb import model_artifact
from hemo.config.trial import ModelConfig, TrialConfig
from hemo.config.tune import TrackingConfig
from hemo.curation.card import read_card
from hemo.digest import digest_of
from hemo.errors import ConfigError
from hemo.shards.embeddings import read_card as read_embeddings_card
from hemo.training.data.dataset import read_training_set
from hemo.training.distributed import Worker
from hemo.training.reporting import Epochs, run_to_end
from hemo.training.results import EpochMetrics
from hemo.trials.record import TrialRecord
from hemo.trials.run import run_trial
from tests.series_sets import SeriesSet
from tests.training_sets import Maker
from tests.trial_runs import trial_key


def metrics(epoch: int) -> EpochMetrics:
    return EpochMetrics(
        epoch=epoch,
        train={"loss": 0.5 / epoch},
        val={"loss": 0.25, "auroc": 0.75},
        learning_rate=1e-3,
        seconds=2.0,
        images_per_second=100.0,
    )


def tracked_trial(tracking: TrackingConfig, out: Path, training_set: str, trial: TrialConfig, printed: list[str]):
    key = trial_key(trial, training_set, out)
    return TrackedTrial(tracking, key, read_card(training_set), Worker(), printed.append)


def run(trial: TrackedTrial, training_set: str) -> TrialRecord:
    data = read_training_set(training_set)
    return run_to_end(tracked(trial, run_trial(trial.key, training_set, worker=trial.worker, data=data)))


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return {
        name: [(event.step, event.value) for event in events.Scalars(name)] for name in sorted(events.Tags()["scalars"])
    }


def walltimes(folder: Path) -> list[float]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return [event.wall_time for event in events.Scalars("val_loss")]


def test_without_a_tracker_epochs_stops_and_the_result_pass(
    tmp_path: Path, make_training_set: Maker, tiny_trial: TrialConfig
) -> None:
    def epochs() -> Epochs[str]:
        stop = yield metrics(1)
        return f"stop {stop}"

    passed = tracked(tracked_trial(TrackingConfig(), tmp_path / "out", make_training_set(), tiny_trial, []), epochs())
    assert next(passed) == metrics(1)
    with pytest.raises(StopIteration, match="stop True"):
        passed.send(True)
    assert not (tmp_path / "out").exists()


def test_a_stop_reaches_a_tracked_trial(tmp_path: Path, make_training_set: Maker, tiny_trial: TrialConfig) -> None:
    folder = make_training_set()
    trial = tracked_trial(TrackingConfig(backend="tensorboard"), tmp_path, folder, tiny_trial, [])
    epochs = tracked(trial, run_trial(trial.key, folder, worker=trial.worker, data=read_training_set(folder)))
    next(epochs)
    with pytest.raises(StopIteration) as end:
        epochs.send(True)
    assert end.value.value.status == "pruned"
    assert scalars(tensorboard_folder(trial.key))["val_loss"][0][0] == 1


def test_tensorboard_holds_each_epochs_figures_and_the_trials_end(
    tmp_path: Path, make_training_set: Maker, tiny_trial: TrialConfig
) -> None:
    printed, training_set = list[str](), make_training_set()
    trial = tracked_trial(TrackingConfig(backend="tensorboard"), tmp_path / "out", training_set, tiny_trial, printed)
    began = time.time()
    record = run(trial, training_set)
    assert [epoch.epoch for epoch in record.epochs] == [1, 2, 3]
    (folder,) = (tmp_path / "out" / "tensorboard").iterdir()
    assert folder.name == f"{tiny_trial.model.backbone} {record.digest[:6]}"  # it has no name
    shown = scalars(folder)
    for name in ("loss", "accuracy"):
        assert shown[f"val_{name}"] == [(it.epoch, pytest.approx(it.val[name])) for it in record.epochs]
    assert "_timestamp" not in shown
    assert all(began < moment < time.time() for moment in walltimes(folder))
    runtimes = [value for _, value in shown["_runtime"]]
    assert runtimes == sorted(runtimes)
    assert runtimes[0] > 0
    assert all(value > 1 for _, value in shown["system/cpu_percent"])
    assert all(100 < value < 100_000 for _, value in shown["system/peak_memory_mb"])
    assert shown["final/test_accuracy"] == [(record.best_epoch, pytest.approx(record.metrics["test"]["accuracy"]))]
    assert printed == []


def test_a_renamed_trial_goes_on_in_the_folder_it_had_and_names_fit_a_folder(
    tmp_path: Path, make_training_set: Maker, tiny_trial: TrialConfig
) -> None:
    key = trial_key(tiny_trial, make_training_set(), tmp_path)
    renamed = replace(key, config=tiny_trial.model_copy(update={"name": "../lr 1e-05, F-D(8)"}))
    assert tensorboard_folder(renamed) == tmp_path / "tensorboard" / f".._lr 1e-05, F-D(8) {key.digest[:6]}"
    tensorboard_folder(renamed).mkdir(parents=True)
    assert tensorboard_folder(key) == tensorboard_folder(renamed)


@pytest.mark.parametrize(
    ("name", "shown"),
    [("n" * 300, "n" * 200), ("ü" * 150, "ü" * 100), ("n" + "頭" * 100, "n" + "頭" * 66)],
    ids=["1 byte", "2 bytes", "3 bytes"],
)
def test_a_long_name_is_cut_to_fit_a_folder(
    tmp_path: Path, make_training_set: Maker, tiny_trial: TrialConfig, name: str, shown: str
) -> None:
    """A disk takes 255 bytes: 200 are left for the name, of which ü takes 2 and 頭 takes 3."""
    printed = list[str]()
    trial = tiny_trial.model_copy(update={"name": name})
    opened = tracked_trial(TrackingConfig(backend="tensorboard"), tmp_path, make_training_set(), trial, printed)
    TolerantTracker(opened).close(failed=False)
    assert printed == []
    (folder,) = (tmp_path / "tensorboard").iterdir()
    assert folder.name == f"{shown} {opened.key.digest[:6]}"


def test_a_tracker_that_fails_is_told_of_once_and_the_trial_goes_on(
    tmp_path: Path, make_training_set: Maker, tiny_trial: TrialConfig
) -> None:
    printed, training_set = list[str](), make_training_set()
    trial = tracked_trial(TrackingConfig(backend="tensorboard"), tmp_path / "out", training_set, tiny_trial, printed)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "tensorboard").write_text("in the way")
    record = run(trial, training_set)
    assert (record.status, len(record.epochs)) == ("complete", 3)
    (line,) = printed
    assert line.startswith("tracking could not start (")
    assert line.endswith("); the trial goes on, and its record has all metrics")


def test_trackers_want_a_mounted_disk() -> None:
    with pytest.raises(ConfigError, match=r"tracking.backend: tensorboard writes to mounted disks only"):
        check_tracking(TrackingConfig(backend="tensorboard"), "memory://records")
    with pytest.raises(ConfigError, match=r"tracking.backend: wandb writes to mounted disks only, not to memory://"):
        check_tracking(TrackingConfig(backend="wandb"), "memory://records")
    check_tracking(TrackingConfig(backend="none"), "memory://records")


def test_a_path_of_weights_becomes_a_hash(tmp_path: Path, make_training_set: Maker) -> None:
    """SHA-256 of `abc` is in FIPS 180-2, appendix B.1."""
    weights = tmp_path / "of-alice.safetensors"
    weights.write_bytes(b"abc")
    trial = TrialConfig(model=ModelConfig(weights=str(weights)))
    settings = tracked_trial(TrackingConfig(), tmp_path, make_training_set(), trial, []).settings
    assert settings["model.weights"].startswith("sha256:ba7816bf8f01cfea414140de5dae2223")
    assert settings["rows.train"] == 48
    assert settings["training_set"] == "feedfacefeedface"
    assert settings["split"] == "by_patient"
    assert {"hardware", "commit", "versions.torch", "versions.wandb", "training.learning_rate"} <= settings.keys()
    assert str(tmp_path) not in str(settings)


def test_a_path_of_embeddings_becomes_a_digest(tmp_path: Path, make_series_set: Callable[..., SeriesSet]) -> None:
    """In the settings, and in the checkpoint's card that goes to W&B."""
    made = make_series_set()
    trial = tracked_trial(TrackingConfig(), tmp_path / "out", made.training_set, made.trial(epochs=1), [])
    digest = digest_of(read_embeddings_card(made.embeddings).inputs)
    assert trial.settings["model.series.embeddings"] == digest
    record = run(trial, made.training_set)
    (tmp_path / "wandb").mkdir()
    artifact = model_artifact(trial.key.records, record, tmp_path / "wandb", onnx=False)
    card = json.loads((tmp_path / "wandb/checkpoint.json").read_text())
    assert card["model"]["series"]["embeddings"] == digest
    assert set(artifact.manifest.entries) == {"checkpoint.json", "weights.safetensors"}
    for sent in (trial.settings, card):
        assert str(tmp_path) not in str(sent)


def test_figures_become_flat() -> None:
    assert flat_metrics(metrics(2)).items() >= {
        ("epoch", 2.0),
        ("learning_rate", 1e-3),
        ("epoch_seconds", 2.0),
        ("images_per_second", 100.0),
        ("train_loss", 0.25),
        ("val_loss", 0.25),
        ("val_auroc", 0.75),
    }


def test_a_summary_has_every_split_and_no_reason() -> None:
    record = TrialRecord(
        digest="abc",
        status="failed",
        reason="FileNotFoundError: /home/alice",
        config=TrialConfig(),
        classes=("any", "epidural"),
        training_set="feed",
        split="by_patient",
        baseline={"val": {"loss": 0.7}},
        best_epoch=2,
        thresholds=(0.25, 0.5),
        metrics={"val": {"loss": 0.5}, "test": {"auroc": 0.875}},
        seconds=12.5,
        parameters=7,
    )
    assert summary_of(record) == {
        "status": "failed",
        "best_epoch": 2,
        "training_seconds": 12.5,
        "parameters": 7,
        "baseline/val_loss": 0.7,
        "final/val_loss": 0.5,
        "final/test_auroc": 0.875,
        "final/threshold_any": 0.25,
        "final/threshold_epidural": 0.5,
    }
