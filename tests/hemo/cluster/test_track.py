"""What trackers are told."""

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from hemo.cluster.track import check_tracking, flat_figures, flat_settings, tracked
from hemo.config.train import TrackingConfig
from hemo.config.trial import TrialConfig
from hemo.errors import ConfigError
from hemo.learning.figures import EpochFigures


class Listener:
    """A reporter that remembers, and stops at epoch 2."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def epoch(self, figures: EpochFigures) -> bool:
        self.seen.append(figures.epoch)
        return figures.epoch < 2


def _figures(epoch: int) -> EpochFigures:
    return EpochFigures(epoch, {"loss": 0.5 / epoch}, {"loss": 0.25, "auroc": 0.75}, 1e-3, 2.0, 100.0)


def _track(backend: str, out: str) -> Listener:
    listener = Listener()
    config = TrackingConfig(backend=backend)
    with tracked(listener, config, out=out, digest="abc", trial=TrialConfig(name="mine")) as reporter:
        assert [reporter.epoch(_figures(epoch)) for epoch in (1, 2)] == [True, False]
    return listener


def test_without_tracker_the_reporter_is_the_same(tmp_path: Path) -> None:
    listener = Listener()
    with tracked(listener, TrackingConfig(), out=str(tmp_path), digest="abc", trial=TrialConfig()) as reporter:
        assert reporter is listener
    assert list(tmp_path.iterdir()) == []


def test_tensorboard_holds_each_epochs_figures(tmp_path: Path) -> None:
    assert _track("tensorboard", str(tmp_path)).seen == [1, 2]
    events = EventAccumulator(str(tmp_path / "abc" / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("train_loss")] == [(1, 0.5), (2, 0.25)]
    assert {"val_auroc", "learning_rate", "_timestamp", "_runtime"} <= set(events.Tags()["scalars"])


def test_wandb_without_key_writes_an_offline_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    assert _track("wandb", str(tmp_path)).seen == [1, 2]
    runs = list((tmp_path / "abc" / "wandb").glob("offline-run-*/run-abc.wandb"))
    assert len(runs) == 1
    content = runs[0].read_bytes()
    assert all(name in content for name in (b"val_auroc", b"model.backbone", b"_runtime"))


def test_trackers_want_a_mounted_disk() -> None:
    with pytest.raises(ConfigError, match=r"tracking.backend: tensorboard writes to mounted disks only"):
        _track("tensorboard", "memory://records")
    with pytest.raises(ConfigError, match=r"tracking.backend: wandb writes to mounted disks only, not to memory://"):
        check_tracking(TrackingConfig(backend="wandb"), "memory://records")
    check_tracking(TrackingConfig(backend="none"), "memory://records")


def test_figures_and_settings_become_flat() -> None:
    assert flat_figures(_figures(2)) == {
        "epoch": 2.0,
        "learning_rate": 1e-3,
        "epoch_seconds": 2.0,
        "images_per_second": 100.0,
        "train_loss": 0.25,
        "val_loss": 0.25,
        "val_auroc": 0.75,
    }
    assert flat_settings({"a": 1, "b": {"c": 2, "d": {"e": 3}}}) == {"a": 1, "b.c": 2, "b.d.e": 3}
