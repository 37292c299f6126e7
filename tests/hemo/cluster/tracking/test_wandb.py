"""Offline runs, read back from what W&B wrote. Nothing here needs a network."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import safetensors.numpy
import wandb
from pydantic import ValidationError
from wandb.sdk.data_types._private import MEDIA_TMP

from hemo.cluster.tracking.trial_tracker import check_tracking, track_test, tracked
from hemo.cluster.tracking.wandb import _print_offline, best_of, model_name, unplaced_weights, wandb_mode
from hemo.config.trial import TrialConfig
from hemo.config.tune import TrackingConfig
from hemo.errors import ConfigError
from hemo.training.data.dataset import read_training_set
from hemo.training.results import EpochMetrics
from hemo.trials.record import TrialRecord, write_record
from hemo.trials.run import run_trial
from tests.hemo.cluster.tracking.test_trial_tracker import run, tracked_trial
from tests.planted import found_below, needles
from tests.training_sets import Maker, training_set_maker
from tests.wandb_runs import LoggedRun, files_of, read_runs

starts_wandb = pytest.mark.slow  # a process for each run

KEY = "0123456789abcdef0123456789abcdefVRXQkey0"  # 40 characters, as W&B's have
WANDB = TrackingConfig(backend="wandb", group="mine")


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stay_offline(tmp_path, monkeypatch)


def stay_offline(place: Path, patch: pytest.MonkeyPatch) -> None:
    """Set a key, W&B's offline mode, and its folders below `place` in place of the home."""
    for name in ("WANDB_BASE_URL", "WANDB_IDENTITY_TOKEN_FILE"):
        patch.delenv(name, raising=False)
    for name, folder in (("WANDB_CACHE_DIR", "cache"), ("WANDB_DATA_DIR", "data"), ("WANDB_CONFIG_DIR", "config")):
        patch.setenv(name, str(place / folder))
    patch.setenv("NETRC", str(place / "netrc"))
    patch.setenv("WANDB_API_KEY", KEY)
    patch.setenv("WANDB_MODE", "offline")


@dataclass(frozen=True)
class Finished:
    """A trial of three epochs after its offline run, which several tests read."""

    place: Path  # where all its files are
    record: TrialRecord
    logged: LoggedRun
    printed: list[str]
    processes: list[int]  # that were left
    began: float
    ended: float

    @property
    def folder(self) -> Path:
        return self.place / "out" / self.record.digest


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, tiny_trial: TrialConfig, processes_in: Callable[[Path], list[int]]
) -> Finished:
    place, printed = tmp_path_factory.mktemp("finished"), list[str]()
    training_set = training_set_maker(place)()
    tracking = WANDB.model_copy(update={"onnx": True})
    trial = tracked_trial(
        tracking, place / "out", training_set, tiny_trial.model_copy(update={"name": "first"}), printed
    )
    began = time.time()
    with pytest.MonkeyPatch.context() as patch:
        stay_offline(place, patch)
        record = run(trial, training_set)
    processes, ended = processes_in(place), time.time()
    return Finished(place, record, the_run(place / "out", record), printed, processes, began, ended)


def the_run(out: Path, record: TrialRecord) -> LoggedRun:
    (logged,) = read_runs(out / record.digest / "wandb")
    return logged


@starts_wandb
def test_an_offline_run_holds_settings_every_epoch_and_the_end(finished: Finished) -> None:
    record, logged = finished.record, finished.logged
    assert [folder for folder in (MEDIA_TMP, wandb.Artifact._TMP_DIR) if Path(folder.name).exists()] == []

    assert (logged.run.run_id, logged.run.display_name) == (record.digest, "first")
    assert (logged.run.project, logged.run.run_group, logged.run.job_type) == ("hemo", "mine", "train")
    assert list(logged.run.tags) == ["binary", "test_resnet", "by_patient"]
    assert logged.config["training.batch_size"] == 8
    assert (logged.config["hardware"], logged.config["commit"]) == (record.hardware, record.commit)
    assert logged.config["versions.torch"] == record.versions["torch"]

    assert [row["_step"] for row in logged.history] == [1, 2, 3]
    for row, epoch in zip(logged.history, record.epochs, strict=True):
        assert {name: row[f"val_{name}"] for name in epoch.val} == pytest.approx(epoch.val)
        assert {name: row[f"train_{name}"] for name in epoch.train} == pytest.approx(epoch.train)
        assert finished.began < row["_timestamp"] < finished.ended
        assert 0 < row["_runtime"] < finished.ended - finished.began
    for split in ("train", "val", "test"):
        assert logged.summary[f"final/{split}_loss"] == pytest.approx(record.metrics[split]["loss"])
    assert (logged.summary["status"], logged.exit_code) == ("complete", 0)
    assert any(name.startswith("proc.memory") for name in logged.system)


@starts_wandb
def test_a_model_names_the_training_set_it_came_from(finished: Finished) -> None:
    record, artifacts = finished.record, finished.logged.artifacts

    used = artifacts["training-set-feedfacefeedface"]
    assert (used.type, used.use_after_commit) == ("dataset", True)
    assert set(used.aliases) == {"feedfacefeedface", "latest"}
    (card,) = files_of(used).values()
    told = json.loads(card.read_text())
    assert (told["digest"], told["splits"]["train"]["rows"]) == ("feedfacefeedface", 48)
    assert not {"config", "audit", "steps"} & told.keys()

    model = artifacts["any-feedfacefeedface"]
    assert (model.type, model.use_after_commit) == ("model", False)
    assert set(model.aliases) == {"latest", "best", record.digest}
    assert json.loads(model.metadata)["thresholds"] == list(record.thresholds)
    files = files_of(model)
    assert set(files) == {"weights.safetensors", "checkpoint.json", "model.onnx"}
    assert files["weights.safetensors"].parent == finished.folder / "checkpoint"
    assert safetensors.numpy.load_file(files["weights.safetensors"])
    assert json.loads(files["checkpoint.json"].read_text())["training_set"] == "feedfacefeedface"


@starts_wandb
def test_nobody_is_told_the_key_a_patient_or_a_path_and_no_process_stays(finished: Finished) -> None:
    """What is printed of the key: see the run that is kept offline."""
    assert finished.printed == []
    assert finished.processes == []
    assert found_below(finished.place, needles(KEY, KEY[:20])) == {}
    patients = needles("patient-train", "patient-val", "train-000", "test-001")
    assert found_below(finished.folder / "wandb", patients) == {}
    logged = finished.logged
    assert "environment" not in logged.kinds  # command line, host, user
    texts = [str((logged.run, logged.summary)), *(artifact.metadata for artifact in logged.artifacts.values())]
    files = [file for artifact in logged.artifacts.values() for file in files_of(artifact).values()]
    assert len(files) == 4
    assert str(finished.place) not in "".join(texts + [file.read_bytes().decode("latin-1") for file in files])


@starts_wandb
def test_the_same_trial_goes_on_in_the_same_run_and_a_killed_one_is_told_as_failed(
    tmp_path: Path, make_training_set: Maker, tiny_trial: TrialConfig
) -> None:
    out, training_set = tmp_path / "out", make_training_set()
    trial = tracked_trial(WANDB, out, training_set, tiny_trial, [])
    data = read_training_set(training_set)
    killed = tracked(trial, run_trial(trial.key, training_set, worker=trial.worker, data=data))
    for _ in range(2):
        next(killed)
    with pytest.raises(KeyboardInterrupt):
        killed.throw(KeyboardInterrupt())
    record = run(trial, training_set)
    first, second = read_runs(out / record.digest / "wandb")
    assert first.run.run_id == second.run.run_id == record.digest
    assert second.run.resume
    assert [row["epoch"] for row in first.history] == [1, 2]
    assert second.history[-1]["epoch"] == 3
    assert (first.exit_code, second.exit_code) == (1, 0)
    assert "status" not in first.summary
    assert "any-feedfacefeedface" not in first.artifacts


@starts_wandb
def test_what_was_measured_later_joins_the_run_and_marks_the_model(
    tmp_path: Path, make_training_set: Maker, tiny_trial: TrialConfig
) -> None:
    out, training_set = tmp_path / "out", make_training_set()
    trial = tracked_trial(TrackingConfig(backend="wandb"), out, training_set, tiny_trial, [])
    record = run(replace(trial, tracking=TrackingConfig()), training_set)
    selected = record.model_copy(update={"metrics": {"test": {"auroc": 0.875}}, "selected_by": "val_loss"})
    track_test(trial, selected)
    logged = the_run(out, record)
    assert logged.summary["final/test_auroc"] == 0.875
    assert set(logged.artifacts["any-feedfacefeedface"].aliases) == {"latest", "best", "selected", record.digest}
    assert logged.history == []


@starts_wandb
def test_without_an_answer_the_run_is_kept_offline(
    tmp_path: Path,
    make_training_set: Maker,
    tiny_trial: TrialConfig,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Port 9 of this machine answers nobody."""
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setattr("hemo.cluster.tracking.wandb.BEGIN_TIMEOUT_S", 1.0)
    out, training_set, printed = tmp_path / "out", make_training_set(), list[str]()
    trial = tracked_trial(TrackingConfig(backend="wandb"), out, training_set, tiny_trial, printed)
    record = run(trial, training_set)
    (folder,) = (out / record.digest / "wandb").glob("offline-run-*")
    (logged,) = read_runs(folder)
    assert len(logged.history) == 3
    (line,) = printed
    assert line.startswith("tracking: W&B cannot be used online (")
    assert line.endswith(f"; the run is kept offline in {out / record.digest / 'wandb'}")
    shown = capfd.readouterr()
    assert KEY not in line + shown.out + shown.err


def test_online_where_there_is_a_key_offline_where_none_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert wandb_mode() == "offline"  # asked for
    monkeypatch.delenv("WANDB_MODE")
    assert wandb_mode() == "online"
    monkeypatch.delenv("WANDB_API_KEY")
    assert wandb_mode() == "offline"
    (tmp_path / "netrc").write_text(f"machine api.wandb.ai login user password {KEY}")
    (tmp_path / "netrc").chmod(0o600)
    assert wandb_mode() == "online"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    with pytest.raises(ConfigError, match=r"WANDB_MODE: 'disabled' is neither online nor offline; .* backend `none`"):
        wandb_mode()


def test_a_key_that_is_none_is_refused_before_work_starts_and_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "sesame")
    _print_offline.cache_clear()
    for _ in range(2):  # as `pipeline` does, then the sweep within it
        check_tracking(TrackingConfig(backend="wandb"), str(tmp_path))
    assert capsys.readouterr().err == "tracking: W&B, offline; `wandb sync` sends the runs later\n"
    monkeypatch.delenv("WANDB_MODE")
    with pytest.raises(
        ConfigError, match=r"WANDB_API_KEY or ~/.netrc\) is malformed: .*40\+ characters, has 6; set"
    ) as refused:
        check_tracking(TrackingConfig(backend="wandb"), str(tmp_path))
    assert "sesame" not in str(refused.value)
    monkeypatch.delenv("WANDB_API_KEY")
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password sesame")
    with pytest.raises(ConfigError, match=r"is malformed: .*40\+ characters"):
        check_tracking(TrackingConfig(backend="wandb"), str(tmp_path))


@pytest.mark.parametrize("project", ["", "of/mine", "what?", "a b", "x" * 129])
def test_a_project_has_a_name_that_wandb_takes(project: str) -> None:
    with pytest.raises(ValidationError, match="project"):
        TrackingConfig(project=project)


def record(digest: str, loss: float, **fields) -> TrialRecord:
    epoch = EpochMetrics(
        epoch=1, train={"loss": 1.0}, val={"loss": loss}, learning_rate=0.1, seconds=1.0, images_per_second=1.0
    )
    known = {"digest": digest, "status": "complete", "config": TrialConfig(), "classes": ("any",), "best_epoch": 1}
    return TrialRecord(**{**known, "training_set": "feed", "split": "by_patient", "epochs": (epoch,), **fields})


def test_models_of_one_question_on_one_set_share_a_name() -> None:
    assert model_name(record("a", 0.5)) == "any-feed"
    assert model_name(record("b", 0.5, config=TrialConfig(task="multi_label"))) == "multi_label-feed"
    assert model_name(record("c", 0.5, config=TrialConfig(target="lung/left: 1"))) == "lung-left--1-feed"


def test_the_best_has_the_lowest_validation_loss_of_its_name(tmp_path: Path) -> None:
    failed = record("f", 0.1, status="failed", epochs=(), best_epoch=0)
    other = record("o", 0.1, training_set="beef")
    external = record("e", 0.1, external=True, epochs=(), best_epoch=0)  # its loss of an epoch is not known
    worse, better = record("w", 0.6), record("b", 0.4)
    for written in (failed, other, external, worse):
        write_record(str(tmp_path), written, None)
    assert best_of(str(tmp_path), worse) == ["best"]
    write_record(str(tmp_path), better, None)
    assert best_of(str(tmp_path), better) == ["best"]
    assert best_of(str(tmp_path), worse) == []


def test_weights_of_a_library_keep_their_name() -> None:
    assert [unplaced_weights(name) for name in ("none", "imagenet")] == ["none", "imagenet"]
