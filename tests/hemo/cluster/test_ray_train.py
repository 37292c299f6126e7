"""Training by Ray Train."""

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray
from ray.train.v2.api.exceptions import WorkerGroupError

from hemo.cluster import ray_train as fit
from hemo.cluster.feed import put_training_set
from hemo.cluster.ray_train import check_workers, train_in_workers, train_model
from hemo.config.trial import TrialConfig
from hemo.config.tune import TrackingConfig, TrainConfig, TrainWorkersConfig
from hemo.curation.card import read_card
from hemo.errors import ConfigError, LabelError, OutputError, SourceError, TrialError
from hemo.output_lock import output_lock
from hemo.training.data.dataset import read_training_set
from hemo.trials.record import read_predictions, read_record
from tests.records import trial_digest
from tests.trial_runs import run_to_record, trial_key

Maker = Callable[..., str]

NO_GPU = TrainWorkersConfig(gpus=0.0)


def test_findings_on_the_classes_of_the_trials_are_printed(make_training_set, tiny_trial, capsys):
    """Nine patients each in val and test; class b is in no image, and no trial is on it."""
    card = read_card(make_training_set(classes=("any", "b"), label=lambda number, name: number % 2 * (name == "any")))
    fit.print_findings([tiny_trial], card)
    assert capsys.readouterr().err.splitlines() == [
        "val has too few patients to choose an epoch, a threshold or a model by: 9 (of at least 10)",
        "test has too few patients to tell models apart by: 9 (of at least 10)",
    ]


@pytest.fixture
def exact_trial(tiny_trial: TrialConfig) -> TrialConfig:
    """Return a trial without batch normalisation and dropout: workers must give the same as one.

    With SGD, because Adam would hide gradients that are wrong by a factor.
    """
    content = tiny_trial.model_dump()
    content["model"] |= {"backbone": "test_vit", "dropout": 0.0}
    content["training"] |= {"optimizer": "sgd", "learning_rate": 0.02}
    content["augment"] |= {"rotate_degrees": 10.0}
    return TrialConfig.model_validate(content)


@pytest.mark.usefixtures("ray_cluster")
def test_two_workers_give_the_curve_of_one(
    make_training_set: Maker,
    exact_trial: TrialConfig,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = make_training_set(rows={"train": 45, "val": 17, "test": 15})  # shares differ in size
    config = TrainConfig(
        training_set=folder,
        out=str(tmp_path / "two"),
        trial=exact_trial,
        workers=TrainWorkersConfig(count=2, cpus=0.5),
        tracking=TrackingConfig(backend="tensorboard"),
    )
    two = train_model(config)
    one = run_to_record(exact_trial, folder, tmp_path / "one")
    assert two.status == one.status == "complete"
    for figures, expected in zip(two.epochs, one.epochs, strict=True):
        assert figures.train == pytest.approx(expected.train, abs=1e-4)
        assert figures.val == pytest.approx(expected.val, abs=1e-4)
    assert (two.workers, one.workers) == (2, 1)
    assert two.metrics["test"]["loss"] == pytest.approx(one.metrics["test"]["loss"], abs=1e-4)
    assert capsys.readouterr().err.count("epoch ") == 3
    left = {path.name for path in (tmp_path / "two" / two.digest).iterdir()}
    assert left == {"record.json", "predictions.parquet", "checkpoint"}
    assert len(list((tmp_path / "two" / "tensorboard").iterdir())) == 1
    assert train_model(config) == two


@pytest.mark.usefixtures("ray_cluster")
def test_a_trial_of_a_search_gets_its_test_metrics(
    make_training_set: Maker, tiny_trial: TrialConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search held test back; the epochs are not trained again, and the result is that of a trial by itself."""
    monkeypatch.setattr(fit, "_run_workers", lambda *_: pytest.fail("trained again"))
    folder, out = make_training_set(), str(tmp_path / "out")
    searched = run_to_record(tiny_trial, folder, out, data=replace(read_training_set(folder), test=None))
    assert set(searched.metrics) == {"train", "val"}
    config = TrainConfig(
        training_set=folder,
        out=out,
        trial=tiny_trial,
        workers=NO_GPU,
        tracking=TrackingConfig(backend="tensorboard"),
    )
    record = train_model(config)
    alone = run_to_record(tiny_trial, folder, tmp_path / "alone")
    assert set(record.metrics) == {"train", "val", "test"}
    assert record.metrics["test"]["loss"] == pytest.approx(alone.metrics["test"]["loss"], abs=1e-4)
    assert (record.digest, record.finished) == (searched.digest, searched.finished)
    assert set(read_predictions(out, record.digest)["split"].to_pylist()) == {"val", "test"}
    assert len(list((tmp_path / "out" / "tensorboard").iterdir())) == 1
    monkeypatch.setattr(fit, "connected", lambda _: pytest.fail("Ray was connected to"))
    assert train_model(config) == record


def test_a_failed_trial_ends_the_job_and_names_its_record(
    make_training_set: Maker, tiny_trial: TrialConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = tiny_trial.model_dump()
    content["training"] |= {"optimizer": "sgd", "learning_rate": 1e30}
    config = TrainConfig(training_set=make_training_set(), out=str(tmp_path), trial=content, workers=NO_GPU)

    def run_here(config: TrainConfig, *_: object) -> None:
        run_to_record(config.trial, config.training_set, config.out)

    monkeypatch.setattr(fit, "_run_workers", run_here)
    monkeypatch.setattr(fit, "put_training_set", lambda *_: None)
    monkeypatch.setattr(fit, "connected", lambda _: nullcontext())
    with pytest.raises(TrialError, match=r"the trial failed: loss is .* in epoch 1, step .* \(record .*\)"):
        train_model(config)


def test_a_record_on_the_disk_of_another_node_is_named(
    make_training_set: Maker, tiny_trial: TrialConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TrainConfig(training_set=make_training_set(), out=str(tmp_path), trial=tiny_trial, workers=NO_GPU)
    monkeypatch.setattr(fit, "_run_workers", lambda *_: None)
    monkeypatch.setattr(fit, "put_training_set", lambda *_: None)
    monkeypatch.setattr(fit, "connected", lambda _: nullcontext())
    monkeypatch.setattr("hemo.storage.SEEN_WITHIN_S", -1.0)
    with pytest.raises(OutputError, match=r"a worker wrote .*/record.json, which this process does not see"):
        train_model(config)


def test_lost_workers_leave_a_failed_record(
    make_training_set: Maker, tiny_trial: TrialConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(*_: object) -> None:
        raise WorkerGroupError("rank 1:\nThe actor died", {1: RuntimeError("The actor died")})

    monkeypatch.setattr(fit, "_run_workers", lose)
    monkeypatch.setattr(fit, "put_training_set", lambda folder, _: SimpleNamespace(card=read_card(folder)))
    monkeypatch.setattr(fit, "connected", lambda _: nullcontext())
    workers = TrainWorkersConfig(count=2, gpus=1.0)
    config = TrainConfig(training_set=make_training_set(), out=str(tmp_path), trial=tiny_trial, workers=workers)
    with pytest.raises(TrialError, match="the trial failed: the workers were lost: The actor died"):
        train_model(config)
    record = read_record(str(tmp_path), trial_digest(tiny_trial, "feedfacefeedface"))
    assert (record.status, record.workers) == ("failed", 2)
    assert re.match(r"2 x (GPU|NVIDIA)", record.hardware)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_several_workers_run_a_failing_trial_once(
    make_training_set: Maker, exact_trial: TrialConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the tracker's first files, one a try, there is one: the group that Ray Train starts next finds the record."""
    content = exact_trial.model_dump()
    content["training"] |= {"optimizer": "sgd", "learning_rate": 1e30}
    folder = make_training_set()
    config = TrainConfig(
        training_set=folder,
        out=str(tmp_path / "out"),
        trial=content,
        workers=TrainWorkersConfig(count=2, cpus=0.5),
        tracking=TrackingConfig(backend="tensorboard"),
    )
    shared = put_training_set(folder, "auto")
    with pytest.raises(TrialError, match=r"the trial failed: loss is .* in epoch 1, step"):
        train_in_workers(config, trial_key(config.trial, folder, config.out), shared)
    assert len(list((tmp_path / "out").glob("tensorboard/*/*.0"))) == 1  # the second has the row of the table


@pytest.mark.usefixtures("ray_cluster")
def test_a_users_error_met_in_a_worker_comes_back_as_it_is(
    make_training_set: Maker, tiny_trial: TrialConfig, tmp_path: Path
) -> None:
    folder = make_training_set(classes=("a", "b"), label=lambda number, name: number % 2)
    config = tiny_trial.model_copy(update={"task": "multi_class"})
    with pytest.raises(LabelError, match="has none or several; use multi_label"):
        train_model(TrainConfig(training_set=folder, out=str(tmp_path), trial=config))


def test_a_finished_trial_is_returned_without_ray(
    make_training_set: Maker, tiny_trial: TrialConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit, "connected", lambda _: pytest.fail("Ray was connected to"))
    folder, out = make_training_set(), str(tmp_path)
    finished = run_to_record(tiny_trial, folder, out)
    assert train_model(TrainConfig(training_set=folder, out=out, trial=tiny_trial)) == finished


def test_the_default_target_is_the_only_class_and_is_what_the_record_states(
    make_training_set: Maker, tiny_trial: TrialConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit, "connected", lambda _: pytest.fail("Ray was connected to"))
    folder, out = make_training_set(classes=("PNEUMONIA",)), str(tmp_path)
    stated = run_to_record(tiny_trial.model_copy(update={"target": "PNEUMONIA"}), folder, out)
    record = train_model(TrainConfig(training_set=folder, out=out, trial=tiny_trial))
    assert (tiny_trial.target, record.config.target, record.digest) == ("any", "PNEUMONIA", stated.digest)


def test_a_trial_that_another_process_trains_is_refused(
    make_training_set: Maker, tiny_trial: TrialConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit, "connected", lambda _: pytest.fail("Ray was connected to"))
    folder = make_training_set()
    config = TrainConfig(training_set=folder, out=str(tmp_path), trial=tiny_trial)
    trial = trial_key(tiny_trial, folder, tmp_path).folder
    with output_lock(trial), pytest.raises(OutputError, match="another run is writing in"):
        train_model(config)


def test_what_cannot_work_is_refused_without_ray(
    make_training_set: Maker, tiny_trial: TrialConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit, "connected", lambda _: pytest.fail("Ray was connected to"))
    out = str(tmp_path / "out")
    wrong = tiny_trial.model_copy(update={"target": "sdh"})
    with pytest.raises(ConfigError, match="'sdh' is no class"):
        train_model(TrainConfig(training_set=make_training_set(), out=out, trial=wrong))
    with pytest.raises(SourceError, match="is no finished training set"):
        train_model(TrainConfig(training_set=str(tmp_path), out=out))


def test_a_worker_needs_two_images_in_each_step(make_training_set: Maker, tiny_trial: TrialConfig) -> None:
    """48 images in eights are six steps of 8: enough for four workers, not for five."""
    card = read_card(make_training_set())

    def check(count: int) -> None:
        check_workers(
            TrainConfig(training_set="set", out="out", trial=tiny_trial, workers=TrainWorkersConfig(count=count)), card
        )

    check(4)
    with pytest.raises(ConfigError, match=r"8 images a step, of 48 to train on, leave one of 5 workers .* with 1 in"):
        check(5)
    with pytest.raises(ConfigError, match=r"one of 9 workers \(workers.count\) with 0 in"):
        check(9)


def test_no_number_of_workers_that_may_run_leaves_one_image(make_training_set: Maker, tiny_trial: TrialConfig) -> None:
    """Steps of 8: four workers have 2 each; three of four take 2 or 3 in two parts, of 1 and 1 at least."""
    card = read_card(make_training_set())

    def check(**workers: int) -> None:
        check_workers(TrainConfig(training_set="set", out="out", trial=tiny_trial, workers=workers), card)

    check(count=2, min_count=1)
    with pytest.raises(
        ConfigError, match=r"one of 3 workers .* with 1 in one of 2 parts \(accumulation, and 3 of 4 work"
    ):
        check(count=4, min_count=1)


def test_the_fewest_workers_that_may_run_are_waited_for_and_no_more(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is one CPU of four workers that take one each; then 4 CPUs on two nodes, neither of which holds three."""
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    nodes = [{"Alive": True, "Resources": {"CPU": 1.0}}]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    for fewest in ("all", 2, 1):
        workers = {"count": 4, "min_count": fewest, "gpus": 0}
        fit._report_missing_resources(TrainConfig(training_set="set", out="out", workers=workers), 0.0)
    nodes[:] = [{"Alive": True, "Resources": {"CPU": 2.0}}] * 2
    for cpus in (2, 3):
        workers = {"cpus": cpus, "gpus": 0}
        fit._report_missing_resources(TrainConfig(training_set="set", out="out", workers=workers), 0.0)
    grow = "fit: unless it grows by itself, give fewer or smaller workers"
    assert capsys.readouterr().err.splitlines() == [
        f"waiting for 4 CPU (workers.count 4); the cluster has 1 CPU now, where 1 of 4 workers {grow}",
        f"waiting for 2 CPU (workers.min_count 2); the cluster has 1 CPU now, where 1 of 2 workers {grow}",
        f"waiting for 3 CPU (workers.count 1); the cluster has 4 CPU on 2 nodes now, where 0 of 1 workers {grow}",
    ]


def test_fewest_workers_above_all_of_them_are_refused() -> None:
    assert (TrainWorkersConfig(count=4).fewest, TrainWorkersConfig(count=4, min_count=2).fewest) == (4, 2)
    with pytest.raises(ValueError, match="min_count 3 is above count 2"):
        TrainWorkersConfig(count=2, min_count=3)


def test_a_tracker_that_cannot_write_is_refused_before_work(make_training_set: Maker, tiny_trial: TrialConfig) -> None:
    tracking = TrackingConfig(backend="wandb")
    with pytest.raises(ConfigError, match="wandb writes to mounted disks only, not to memory://out"):
        train_model(
            TrainConfig(training_set=make_training_set(), out="memory://out", trial=tiny_trial, tracking=tracking)
        )


@pytest.mark.usefixtures("ray_cluster")
def test_more_than_this_machine_has_is_refused_as_tune_does(
    make_training_set: Maker, tiny_trial: TrialConfig, tmp_path: Path
) -> None:
    """Ray has two CPUs, and perhaps a GPU, but not nine."""
    for workers, needed in (({"gpus": 9.0}, "1 CPU, 9 GPU"), ({"cpus": 3, "gpus": 0.0}, "3 CPU")):
        config = TrainConfig(training_set=make_training_set(), out=str(tmp_path), trial=tiny_trial, workers=workers)
        with pytest.raises(ConfigError, match=f"a trial takes {needed}, this machine has 2 CPU.* cannot grow; give"):
            train_model(config)
        shutil.rmtree(config.training_set)


def test_a_trial_that_ended_while_the_lock_was_taken_is_not_trained_again(
    make_training_set: Maker, tiny_trial: TrialConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another run ends it after the first look at its record and before the lock."""
    monkeypatch.setattr(fit, "connected", lambda _: pytest.fail("Ray was connected to"))
    folder = make_training_set()
    config = TrainConfig(training_set=folder, out=str(tmp_path / "out"), trial=tiny_trial)

    @contextmanager
    def lock(folder_of_trial: str) -> Iterator[None]:
        run_to_record(tiny_trial, folder, config.out)
        with output_lock(folder_of_trial):
            yield

    monkeypatch.setattr(fit, "output_lock", lock)
    assert train_model(config).status == "complete"
