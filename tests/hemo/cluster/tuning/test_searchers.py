"""The study of a search: what is reported to it, and how it resumes."""

import json
import pickle
import time
import traceback
from wsgiref.util import setup_testing_defaults

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import TrialState
from optuna_dashboard import wsgi
from pydantic import ValidationError
from ray.tune.search import Searcher

from hemo.cluster.tuning.searchers import (
    JOURNAL,
    MOST_INVALID,
    RECORD_WAIT_S,
    CellSearcher,
    StudySearcher,
    TimeLimit,
    ended_trials,
    open_study,
    queue_points,
    tune_point,
)
from hemo.config.trial import TrialConfig
from hemo.config.tune import TuneConfig
from hemo.config.validation import validated
from hemo.errors import ConfigError, LockedError
from hemo.output_lock import LOCK_FILE, output_lock
from hemo.storage import write_bytes
from hemo.sweeps.space import search_space
from hemo.trials.key import TrialKeys

SEARCH = {"space": {"model.dense_width": {"low": 8, "high": 64}}, "trials": 4, "seed": 1}


def cells(tmp_path):
    keys = TrialKeys(str(tmp_path), "feed")
    return [keys.key(TrialConfig(name=name, seed=seed)) for seed, name in enumerate("ab")]


def job(tmp_path, **search):
    return TuneConfig(training_set="/set", out=str(tmp_path), search={**SEARCH, **search})


def begin(config, digest="feed"):
    study = open_study(config, config.search, digest)
    space = search_space(config.trial, config.search)
    return study, StudySearcher(study, space, config, TrialKeys(config.out, digest), config.search.trials)


def recorded(trial):
    return True


def states(study):
    return [trial.state for trial in study.get_trials()]


def test_each_way_to_end_is_told_as_it_was(tmp_path):
    config = job(tmp_path)
    study, searcher = begin(config)
    for name in "abcd":
        searcher.suggest(name)
        searcher.on_trial_result(name, {"epoch": 1, "val_loss": 0.5})
    searcher.on_trial_complete("a", {"epoch": 3, "val_loss": 0.25, "status": "complete"})
    searcher.on_trial_complete("b", {"epoch": 1, "val_loss": 0.5})  # stopped by the scheduler: no status
    searcher.on_trial_complete("c", {"epoch": 1, "status": "failed"})
    searcher.on_trial_complete("d", error=True)
    assert states(study) == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.FAIL]
    assert (study.trials[0].value, study.trials[1].intermediate_values) == (0.25, {1: 0.5})
    assert len(ended_trials(study, config.trial)) == 4


def test_the_study_has_the_epochs_before_a_trial_was_resumed_once_each(tmp_path):
    """Its process was lost after the third epoch: the fourth comes with all that are saved."""
    study, searcher = begin(job(tmp_path))
    searcher.suggest("a")
    losses = [{"epoch": epoch, "val_loss": 1 / epoch} for epoch in (1, 2, 3, 4)]
    for epochs in (losses[:3], losses):
        searcher.on_trial_result("a", {**epochs[-1], "earlier": epochs[:-1]})
    assert study.trials[0].intermediate_values == {1: 1.0, 2: 0.5, 3: 1 / 3, 4: 0.25}


def test_a_trial_without_the_metric_counts_as_failed(tmp_path):
    study, searcher = begin(job(tmp_path, metric="val_auroc"))
    searcher.suggest("a")
    searcher.on_trial_result("a", {"epoch": 1, "val_loss": 0.5})
    searcher.on_trial_complete("a", {"epoch": 1, "val_loss": 0.5, "status": "complete"})
    assert states(study) == [TrialState.FAIL]


def test_what_ended_without_a_record_is_queued_again(tmp_path):
    """Of four ended trials one record is missing: one is left to run, the same point; then the search is done."""
    config = job(tmp_path)
    study, searcher = begin(config)
    points = [searcher.suggest(name)["trial"]["model"]["dense_width"] for name in "abcd"]
    for name in "abcd":
        searcher.on_trial_complete(name, {"epoch": 1, "val_loss": 0.5, "status": "complete"})
    assert queue_points(study, config, recorded) == 0
    assert queue_points(study, config, lambda trial: trial.model.dense_width != points[2]) == 1
    study, searcher = begin(config)
    assert searcher.suggest("e")["trial"]["model"]["dense_width"] == points[2]
    searcher.on_trial_complete("e", {"epoch": 1, "val_loss": 0.5, "status": "complete"})
    assert queue_points(study, config, recorded) == 0


def test_a_shared_database_keeps_searches_of_other_folders_apart(tmp_path):
    storage = f"sqlite:///{tmp_path}/study.db"
    names = {begin(job(tmp_path / out, storage=storage))[0].study_name for out in ("a", "b", "a")}
    assert len(names) == 2


def test_several_objectives_are_told_together(tmp_path):
    """Optuna takes no figures on the way of them; a trial that lacks one counts as failed."""
    both = {"objectives": ["val_accuracy", "latency_ms"], "metric": "val_accuracy", "scheduler": "none"}
    study, searcher = begin(job(tmp_path, **both))
    for name in "ab":
        searcher.suggest(name)
        searcher.on_trial_result(name, {"epoch": 1, "val_accuracy": 0.5})
    searcher.on_trial_complete("a", {"epoch": 3, "val_accuracy": 0.75, "latency_ms": 4.5, "status": "complete"})
    searcher.on_trial_complete("b", {"epoch": 3, "val_accuracy": 0.75, "status": "complete"})
    assert study.directions == [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE]
    assert (study.trials[0].values, states(study)) == ([0.75, 4.5], [TrialState.COMPLETE, TrialState.FAIL])
    assert study.metric_names == ["val_accuracy", "latency_ms"]


def test_no_point_is_asked_for_when_the_time_is_over(tmp_path):
    study, late = begin(job(tmp_path))
    late._limit = TimeLimit(0)
    assert late.suggest("a") == Searcher.FINISHED
    assert (late.begun, states(study)) == (0, [])
    _, early = begin(job(tmp_path).model_copy(update={"hours": 1}))
    early.suggest("b")
    assert (early.begun, len(study.trials)) == (1, 1)


def test_a_point_that_runs_already_waits_and_others_go_first(tmp_path):
    """Of 16, 16, 24 and one that is drawn, the second 16 begins last, when the first has ended; all four run."""
    study, searcher = begin(job(tmp_path))
    for width in (16, 16, 24, 32):
        study.enqueue_trial({"model.dense_width": width})
    widths = [searcher.suggest(name)["trial"]["model"]["dense_width"] for name in "abc"]
    assert widths == [16, 24, 32]
    assert [searcher.suggest("d"), searcher.suggest("d")] == [None, None]
    assert (searcher.begun, len(study.trials)) == (3, 4)
    searcher.on_trial_complete("a", {"status": "complete", "epoch": 1, "val_loss": 0.5})
    assert searcher.suggest("d")["trial"]["model"]["dense_width"] == 16
    assert (searcher.begun, searcher.suggest("e")) == (4, Searcher.FINISHED)
    searcher.on_trial_complete("d", {"status": "complete", "epoch": 1, "val_loss": 0.25})
    assert [trial.value for trial in study.trials] == [0.5, 0.25, None, None]


def test_points_that_wait_are_bounded(tmp_path):
    """A space of one point: one runs, sixteen wait, and no more are drawn."""
    one = {"model.dense_width": {"choices": [8]}}
    study, searcher = begin(job(tmp_path, space=one, trials=100))
    assert searcher.suggest("a")
    assert [searcher.suggest("b"), searcher.suggest("b")] == [None, None]
    assert len(study.trials) == 17


def test_without_file_locks_a_sweep_knows_its_own_trials():
    bucket = TrialKeys("memory://records", "feed").key(TrialConfig(name="a"))
    searcher = CellSearcher([bucket, bucket], TimeLimit())
    assert (searcher.suggest("1"), searcher.suggest("2")) == (tune_point(bucket), None)
    searcher.on_trial_complete("1", {"status": "complete"})
    assert searcher.suggest("2") == tune_point(bucket)


def test_a_trial_is_locked_while_it_runs(tmp_path):
    """As `train` locks the one it trains."""
    first, second = cells(tmp_path)
    searcher = CellSearcher([first, second], TimeLimit())
    for name in "12":
        searcher.suggest(name)
    for cell in (first, second):
        with pytest.raises(LockedError, match="another run is writing in"), output_lock(cell.folder):
            pass
    searcher.on_trial_complete("1", {"status": "complete"})
    with output_lock(first.folder):
        pass
    searcher.close()
    with output_lock(second.folder):
        pass


def test_a_trial_that_another_process_trains_waits_and_others_go_first(tmp_path, capsys):
    first, second = cells(tmp_path)
    searcher = CellSearcher([first, second], TimeLimit())
    with output_lock(first.folder):
        assert searcher.suggest("1") == tune_point(second)
        assert [searcher.suggest("2"), searcher.suggest("2")] == [None, None]
    assert searcher.suggest("2") == tune_point(first)
    assert searcher.suggest("3") == Searcher.FINISHED
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"a waits: out: another run is writing in {first.folder} (process ")


def test_on_a_bucket_interrupted_trials_are_not_waited_for_one_by_one(monkeypatch):
    """Three were interrupted: each is free once it was seen unchanged for a lease, all three at the same time."""
    monkeypatch.setattr("hemo.output_lock.LEASE_S", 0.5)
    keys = TrialKeys("memory://interrupted", "feed")
    trials = [keys.key(TrialConfig(name=name, seed=seed)) for seed, name in enumerate("abc")]
    for key in trials:
        write_bytes(f"{key.folder}/{LOCK_FILE}", b'{"run": "killed"}')
    searcher = CellSearcher(trials, TimeLimit())
    began = time.monotonic()
    assert searcher.suggest("1") is None
    assert time.monotonic() - began < 0.4
    time.sleep(0.6)
    assert [searcher.suggest(name)["digest"] for name in "123"] == [key.digest for key in trials]
    searcher.close()


def test_a_stopped_trial_is_locked_until_its_record_is_written(tmp_path, monkeypatch):
    """The scheduler stops it before its process has written the record: its twin would train again."""
    cell, _ = cells(tmp_path)
    searcher = CellSearcher([cell, cell, cell], TimeLimit())
    searcher.suggest("1")
    searcher.on_trial_complete("1", {"epoch": 1, "val_loss": 0.5})
    assert searcher.suggest("2") is None
    (tmp_path / cell.digest / "record.json").write_text("{}")
    assert searcher.suggest("2") == tune_point(cell)
    searcher.on_trial_complete("2", {"epoch": 1, "val_loss": 0.5})
    (tmp_path / cell.digest / "record.json").unlink()
    assert searcher.suggest("3") is None
    later = time.monotonic() + RECORD_WAIT_S + 1
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert searcher.suggest("3") == tune_point(cell)


def test_a_search_of_one_metric_keeps_its_study(tmp_path):
    """Objectives, which joined later, are in the name only where there are several."""
    study, _ = begin(job(tmp_path))
    assert study.study_name == "hemo-39e66eb22fae4f66"


def test_a_suggestion_is_a_whole_trial(tmp_path):
    _, searcher = begin(job(tmp_path, first=[{"model.dense_width": 24}]))
    queue_points(searcher._study, job(tmp_path, first=[{"model.dense_width": 24}]), recorded)
    trial = searcher.suggest("a")["trial"]
    assert (trial["model"]["dense_width"], trial["model"]["backbone"], trial["name"]) == (24, "resnet18", "dense 24")


def test_a_killed_search_goes_on(tmp_path):
    """Of three trials one ended, one failed, one was running: two points are queued again, three are left."""
    config = job(tmp_path)
    study, searcher = begin(config)
    points = [searcher.suggest(name)["trial"]["model"]["dense_width"] for name in "abc"]
    searcher.on_trial_complete("a", {"epoch": 3, "val_loss": 0.25, "status": "complete"})
    searcher.on_trial_complete("b", error=True)
    study, searcher = begin(config)
    assert queue_points(study, config, recorded) == 3
    assert [searcher.suggest(name)["trial"]["model"]["dense_width"] for name in "de"] == points[1:]
    study, searcher = begin(config)
    assert queue_points(study, config, recorded) == 3
    assert [searcher.suggest(name)["trial"]["model"]["dense_width"] for name in "fg"] == points[1:]


def test_a_journal_that_a_full_disk_cut_in_the_middle_of_a_line_goes_on(tmp_path):
    """The end of the second trial is lost: it counts as interrupted, its point is queued again, three are left."""
    config = job(tmp_path)
    _, searcher = begin(config)
    points = [searcher.suggest(name)["trial"]["model"]["dense_width"] for name in "ab"]
    for name in "ab":
        searcher.on_trial_complete(name, {"epoch": 1, "val_loss": 0.5, "status": "complete"})
    journal = tmp_path / JOURNAL
    content = journal.read_bytes()
    journal.write_bytes(content[:-20])
    study, searcher = begin(config)
    assert states(study) == [TrialState.COMPLETE, TrialState.RUNNING]
    whole = b"".join(content.splitlines(keepends=True)[:-1])
    assert journal.read_bytes().startswith(whole + b'{"op_code":0,')
    assert queue_points(study, config, recorded) == 3
    assert searcher.suggest("c")["trial"]["model"]["dense_width"] == points[1]
    assert states(begin(config)[0]) == [TrialState.COMPLETE, TrialState.FAIL, TrialState.RUNNING]


ONE_CYCLE = {
    "training.schedule": {"choices": ["cosine", "one_cycle"]},
    "training.warmup_epochs": {"low": 0, "high": 3},
}
"""Half of these points are no trials: one_cycle has a warm-up of its own."""


def test_a_point_that_breaks_a_rule_between_fields_is_drawn_again(tmp_path, capsys):
    config = job(tmp_path, space=ONE_CYCLE, trials=6)
    study, searcher = begin(config)
    drawn = [searcher.suggest(name)["trial"]["training"] for name in "abcdef"]
    assert {trial["schedule"] for trial in drawn} == {"cosine"}
    failed = [trial.params["training.schedule"] for trial in study.trials if trial.state == TrialState.FAIL]
    assert (failed, searcher.begun) == (["one_cycle"] * (len(study.trials) - 6), 6)
    assert len(failed) > 1
    printed = [line for line in capsys.readouterr().err.splitlines() if "makes no valid trial" in line]
    assert len(printed) == 1
    assert "schedule one_cycle includes a warm-up: leave out warmup_epochs" in printed[0]


def test_points_that_make_no_trial_do_not_keep_a_search_from_going_on(tmp_path):
    """Of one trial that ended, one that runs and one point that makes none, one is queued again."""
    config = job(tmp_path, space=ONE_CYCLE)
    study, searcher = begin(config)
    study.enqueue_trial({"training.schedule": "one_cycle", "training.warmup_epochs": 1.0})
    for warmup_epochs in (1.0, 2.0):
        study.enqueue_trial({"training.schedule": "cosine", "training.warmup_epochs": warmup_epochs})
    assert [searcher.suggest(name)["trial"]["training"]["warmup_epochs"] for name in "ab"] == [1.0, 2.0]
    searcher.on_trial_complete("a", {"epoch": 3, "val_loss": 0.25, "status": "complete"})
    study, _ = begin(config)
    assert queue_points(study, config, recorded) == 3
    assert states(study) == [TrialState.FAIL, TrialState.COMPLETE, TrialState.FAIL, TrialState.WAITING]
    assert [trial.training.warmup_epochs for trial in ended_trials(study, config.trial)] == [1.0, 2.0]


def test_drawn_points_are_checked_as_cells_are(tmp_path):
    losses = {"training.loss": {"choices": ["default", "dice"]}, "training.label_smoothing": {"low": 0.1, "high": 0.2}}
    config = job(tmp_path, space=losses, trials=6, metric="val_auroc")
    study, searcher = begin(config)
    assert {searcher.suggest(name)["trial"]["training"]["loss"] for name in "abcdef"} == {"default"}
    assert TrialState.FAIL in states(study)


def test_layer_decay_of_a_backbone_without_stages_is_drawn_again(tmp_path, capsys):
    space = {
        "model.backbone": {"choices": ["resnet10t", "CNN(8,8)"]},
        "training.layer_decay": {"choices": [1.0, 0.8]},
    }
    config = job(tmp_path, space=space)
    study, searcher = begin(config)
    study.enqueue_trial({"model.backbone": "CNN(8,8)", "training.layer_decay": 0.8})
    wanted = [("CNN(8,8)", 1.0), ("resnet10t", 0.8)]
    for backbone, layer_decay in wanted:
        study.enqueue_trial({"model.backbone": backbone, "training.layer_decay": layer_decay})
    drawn = [searcher.suggest(name)["trial"] for name in "ab"]
    assert [(trial["model"]["backbone"], trial["training"]["layer_decay"]) for trial in drawn] == wanted
    assert states(study) == [TrialState.FAIL, TrialState.RUNNING, TrialState.RUNNING]
    assert "layer_decay: timm does not know the stages of CNN(8,8); leave it at 1" in capsys.readouterr().err
    assert len(ended_trials(study, config.trial)) == 0
    assert queue_points(study, config, recorded) == 4
    assert states(study)[3:] == [TrialState.WAITING] * 2


def test_a_space_without_trials_ends_with_the_rule_that_they_break(tmp_path):
    scaled = {"augment.strength": {"low": 0, "high": 2}, "augment.shift_fraction": {"low": 0, "high": 0.6}}
    config = job(tmp_path, space=scaled)
    study, searcher = begin(config)
    searcher._space = {
        "augment.strength": optuna.distributions.FloatDistribution(1.9, 2),
        "augment.shift_fraction": optuna.distributions.FloatDistribution(0.59, 0.6),
    }
    assert [searcher.suggest("a"), searcher.suggest("b")] == [Searcher.FINISHED] * 2
    assert states(study) == [TrialState.FAIL] * MOST_INVALID
    with pytest.raises(ConfigError, match=r"x shift_fraction 0\.\d+ must be less than 1; .*100 points .*narrow it"):
        raise searcher.exhausted


def test_first_points_are_queued_once(tmp_path):
    config = job(tmp_path, first=[{"model.dense_width": 9}, {"model.dense_width": 10}])
    for _ in range(2):
        study, _searcher = begin(config)
        queue_points(study, config, recorded)
    assert states(study) == [TrialState.WAITING] * 2


def test_another_question_is_another_study(tmp_path):
    """More trials continue a study; another training set or metric does not."""
    names = {
        begin(job(tmp_path, **fields), digest)[0].study_name
        for fields, digest in (
            ({}, "feed"),
            ({"trials": 9}, "feed"),
            ({}, "beef"),
            ({"metric": "val_accuracy"}, "feed"),
        )
    }
    assert len(names) == 3
    assert (tmp_path / JOURNAL).exists()


def test_a_study_that_goes_on_does_not_draw_the_same_points_again(tmp_path):
    config = job(tmp_path)
    drawn = []
    for name in "ab":
        _, searcher = begin(config)
        drawn.append(searcher.suggest(name)["trial"]["model"]["dense_width"])
        searcher.on_trial_complete(name, {"epoch": 1, "val_loss": 0.5, "status": "complete"})
    assert drawn[0] != drawn[1]


def test_a_higher_accuracy_is_better(tmp_path):
    study, _ = begin(job(tmp_path, metric="val_accuracy"))
    assert study.direction == optuna.study.StudyDirection.MAXIMIZE


def test_storage_by_url_and_refusals(tmp_path):
    study, _ = begin(job(tmp_path, storage=f"sqlite:///{tmp_path}/study.db"))
    assert (tmp_path / "study.db").exists()
    assert study.study_name.startswith("hemo-")
    with pytest.raises(ConfigError, match=r"search\.storage: nonsense cannot be opened .*give `journal` or an RDB URL"):
        begin(job(tmp_path, storage="nonsense"))
    remote = TuneConfig(training_set="/set", out="memory://records", search=SEARCH)
    with pytest.raises(ConfigError, match=r"a journal needs a mounted disk and cannot lie in memory://records"):
        begin(remote)


@pytest.mark.parametrize(
    "storage",
    [
        "postgresql://user:sesame@host:5432/studies",
        "postgresql://user:pa@ss:sesame@host/studies",  # Python quotes what it takes for the port
        "postgresql://host/studies?user=me&password=sesame",
        "sqlite://user:sesame@/study.db",
        "user:sesame@host/studies",
    ],
)
def test_the_password_of_a_database_is_not_shown(tmp_path, monkeypatch, storage):
    """Taken from the environment; a command line or file with it is refused, without showing it again."""
    monkeypatch.setenv("STUDIES", storage)
    config = job(tmp_path, storage="env:STUDIES")
    with pytest.raises(ConfigError, match=r"search\.storage: env:STUDIES cannot be opened") as refused:
        begin(config)
    assert "sesame" not in "".join(traceback.format_exception(refused.value))
    with pytest.raises(ValidationError, match=r"holds a password, .* give env:NAME") as invalid:
        job(tmp_path, storage=storage)
    with pytest.raises(ConfigError, match=r"^--search.storage: holds a password, .*, not '.*\*\*\*.*'$") as refused:
        validated(TuneConfig, {"training_set": "/set", "out": "/out", "search": {**SEARCH, "storage": storage}})
    assert "sesame" not in f"{invalid.value}{refused.value}"


def test_a_database_named_by_a_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("STUDIES", f"sqlite:///{tmp_path}/study.db")
    begin(job(tmp_path, storage="env:STUDIES"))
    assert (tmp_path / "study.db").exists()
    monkeypatch.delenv("STUDIES")
    with pytest.raises(ConfigError, match=r"search\.storage: env:STUDIES: no such variable .*; export STUDIES"):
        begin(job(tmp_path, storage="env:STUDIES"))


def test_tune_stores_no_url_of_a_database(tmp_path):
    _, searcher = begin(job(tmp_path, storage=f"sqlite:///{tmp_path}/sesame.db"))
    assert b"sesame" in pickle.dumps(searcher._study)
    assert b"sesame" not in pickle.dumps(searcher)


def test_each_cell_once_in_order(tmp_path):
    searcher = CellSearcher(cells(tmp_path), TimeLimit(60))
    assert searcher.waiting == {cell.digest for cell in cells(tmp_path)}
    assert searcher.suggest("1") == tune_point(cells(tmp_path)[0])
    searcher.on_trial_complete("1")
    searcher.save(str(tmp_path / "note"))
    assert json.loads((tmp_path / "note").read_text()) == {"left": ["b"]}
    assert searcher.suggest("2")["trial"]["name"] == "b"
    assert (searcher.suggest("3"), searcher.begun) == (Searcher.FINISHED, 2)


def test_no_cell_begins_when_the_time_is_over(tmp_path):
    searcher = CellSearcher(cells(tmp_path), TimeLimit(0))
    assert (searcher.suggest("1"), searcher.begun) == (Searcher.FINISHED, 0)


def test_the_span_begins_with_the_first_question(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    limit = TimeLimit(60)
    clock[0] = 500.0  # the training set was loaded meanwhile
    assert not limit.is_over()
    clock[0] = 559.0
    assert not limit.is_over()
    clock[0] = 560.0
    assert limit.is_over()


def test_without_a_limit_it_is_never_over():
    assert not TimeLimit().is_over()


def test_the_dashboard_of_optuna_reads_a_study_that_runs(tmp_path):
    """The same installed version that `constraints.txt` pins, on the journal that the job writes."""
    config = job(tmp_path)
    study, searcher = begin(config)
    searcher.suggest("trial")
    application = wsgi(JournalStorage(JournalFileBackend(str(tmp_path / JOURNAL))))
    shown = get(application, f"/api/studies/{study._study_id}")
    assert [trial["state"] for trial in shown["trials"]] == ["Running"]
    assert shown["name"] == study.study_name


def get(application, path):
    """Return the JSON that a WSGI application answers."""
    environment = {}
    setup_testing_defaults(environment)
    body = b"".join(application({**environment, "PATH_INFO": path}, lambda *_: None))
    return json.loads(body)
