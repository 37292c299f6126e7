"""Console output of a running sweep."""

import time
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from hemo.cluster.tuning import console as lines
from hemo.cluster.tuning.console import SweepConsole, shown_metric
from hemo.cluster.tuning.searchers import tune_point
from hemo.config.trial import TrialConfig
from hemo.config.tune import TuneConfig
from hemo.errors import OutputError, StorageError
from hemo.trials.key import TrialKey, TrialKeys
from hemo.trials.progress import PlannedTrial, SweepPlan, TrialProgress, read_plans, write_progress
from hemo.trials.status import trial_status
from tests.records import trial_digest


class EndedTrial:
    """What Tune hands to a callback."""

    def __init__(self, name, error_file=None, **result):
        self.config, self.last_result = {**tune_point(TrialKey(TrialConfig(name=name), "", "d"))}, result
        self.error_file = error_file and str(error_file)
        self.run_metadata = SimpleNamespace(num_failures=2)


def board(out, *trials, metric="val_accuracy", count=4, waiting=()):
    planned = tuple(PlannedTrial(digest=trial_digest(trial, "set"), name=trial.name, epochs=30) for trial in trials)
    plan = SweepPlan(
        name="s", kind="search", trials=planned, count=count, concurrent=2, began="2026-11-20T10:00:00+00:00"
    )
    return SweepConsole(plan, metric, left=4, waiting=waiting, records=str(out))


def test_a_line_for_each_trial_that_ends(capsys, tmp_path):
    said = board(tmp_path)
    said.on_trial_complete(1, [], EndedTrial("a", status="complete", epoch=3, val_loss=0.5, val_accuracy=0.75))
    said.on_trial_complete(1, [], EndedTrial("b", status="complete", epoch=3, val_loss=0.25, val_accuracy=0.5))
    said.on_trial_complete(1, [], EndedTrial("c", epoch=1, val_loss=0.7))
    errors = tmp_path / "error.txt"
    errors.write_text("Failure # 1 (occurred at ...)\nanother\nFailure # 2 (...)\nfirst line\n\tthe worker died\n")
    said.on_trial_error(1, [], EndedTrial("d", error_file=errors))
    assert capsys.readouterr().err.splitlines() == [
        "1/4 trials: a: complete after 3 epochs, val_loss 0.5000, val_accuracy 0.7500; best val_accuracy 0.7500: a",
        "2/4 trials: b: complete after 3 epochs, val_loss 0.2500, val_accuracy 0.5000; best val_accuracy 0.7500: a",
        "3/4 trials: c: pruned after 1 epochs, val_loss 0.7000; best val_accuracy 0.7500: a",
        "4/4 trials: d: failed: the worker died; best val_accuracy 0.7500: a",
    ]
    assert [(key.config.name, reason) for key, reason in said.lost] == [("d", "the worker died")]


def test_the_record_of_a_trial_that_ended_must_be_seen(tmp_path, monkeypatch):
    """One of another node's disk ends the sweep; one that the scheduler stopped is written later, or lost."""
    monkeypatch.setattr("hemo.storage.SEEN_WITHIN_S", -1.0)
    said = board(tmp_path)
    said.on_trial_complete(1, [], EndedTrial("a", epoch=1, val_loss=0.5))
    said.on_step_end(1, [])
    said.wait_for_records()
    said.on_trial_complete(1, [], EndedTrial("b", status="failed", epoch=1))
    message = rf"^out: a worker wrote {tmp_path}/d/record.json, which this process does not see: "
    for see in (lambda: said.on_step_end(1, []), said.wait_for_records):
        with pytest.raises(OutputError, match=message):
            see()
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "record.json").touch()
    said.wait_for_records()


PROCESS_DIED = "The actor died unexpectedly before finishing this task.\nThe worker died, exit code 1\n"
UNREACHABLE = "The actor 8d4c69 is unavailable: The actor is temporarily unavailable: RpcError: reset by peer\n"
NODE_DIED = "The actor died\nThe actor died because its node has died. Node Id: 03\n\tmissing too many heartbeats\n"


@pytest.mark.parametrize(
    ("errors", "failures", "why"),
    [
        ((PROCESS_DIED,), 2, "The worker died, exit code 1"),
        ((PROCESS_DIED, NODE_DIED), 1, "its node was lost"),
        ((UNREACHABLE,), 1, "its node was lost"),
        ((NODE_DIED, PROCESS_DIED), 2, "The worker died, exit code 1"),
    ],
)
def test_the_loss_of_a_node_is_no_failure_of_the_trial(capsys, tmp_path, errors, failures, why):
    """Tune has counted two failures, the last of them now."""
    file = tmp_path / "error.txt"
    file.write_text("".join(f"Failure # {number} (occurred at ...)\n{error}" for number, error in enumerate(errors)))
    trial = EndedTrial("a", error_file=file)
    board(tmp_path).on_trial_recover(1, [], trial)
    assert trial.run_metadata.num_failures == failures
    assert capsys.readouterr().err == f"a goes on after its last whole epoch: {why}\n"


def test_a_trial_without_the_metric_is_no_best_one(capsys, tmp_path):
    said = board(tmp_path, metric="val_auroc")
    said.on_trial_complete(1, [], EndedTrial("a", status="complete", epoch=3, val_loss=0.5))
    assert capsys.readouterr().err == "1/4 trials: a: complete after 3 epochs, val_loss 0.5000\n"


def begin(said, trial, trial_id):
    begun = EndedTrial("")
    begun.config, begun.trial_id = tune_point(TrialKeys("", "set").key(trial)), trial_id
    said.on_trial_start(1, [], begun)


def test_what_a_search_asks_for_joins_its_plan(tmp_path):
    """Known from an interrupted run, it runs again: none of the four is less. Nor is one for a second attempt."""
    known, asked = TrialConfig(name="known"), TrialConfig(name="asked", seed=1)
    said = board(tmp_path, known)
    for trial, trial_id in ((known, "1"), (asked, "2"), (asked, "2")):
        begin(said, trial, trial_id)
    (plan,) = read_plans(str(tmp_path))
    assert [trial.name for trial in plan.trials] == ["known", "asked"]
    assert plan.trials[1].digest == trial_digest(asked, "set")
    assert plan.count == 4


def test_a_point_that_is_drawn_again_is_not_waited_for(tmp_path):
    """Of four wanted two are the first again: two different ones, and nothing waits when both have ended."""
    first, second = TrialConfig(name="first"), TrialConfig(name="second", seed=1)
    said = board(tmp_path)
    for trial_id, trial in enumerate((first, first, second, first)):
        begin(said, trial, str(trial_id))
    (plan,) = read_plans(str(tmp_path))
    assert ([trial.name for trial in plan.trials], plan.count) == (["first", "second"], 2)


def test_the_table_shows_what_runs_and_only_when_it_is_time(capsys, tmp_path, monkeypatch):
    """Ten of thirty epochs took 20 s: 40 s are left, of two at once; one trial waits for want of a known length."""
    trials = [TrialConfig(name=name, seed=seed) for seed, name in enumerate(("runs", "waits"))]
    said = board(tmp_path, *trials, count=2)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    progress = TrialProgress(
        name="runs", epochs=30, epoch=10, val={"loss": 0.5}, best_val_loss=0.25, seconds=20, updated=now
    )
    write_progress(str(tmp_path), trial_digest(trials[0], "set"), progress)
    said.on_step_end(1, [])
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(lines, "TABLE_EVERY_S", 0.0)
    said.on_step_end(1, [])
    assert capsys.readouterr().err.splitlines() == [
        "search of 2 trials, 2 concurrent: 1 running, 1 waiting",
        "| trial | status  | epoch    | val loss | best   | training | left    |",
        "|-------|---------|----------|----------|--------|----------|---------|",
        "| runs  | running | 10 of 30 | 0.5000   | 0.2500 | 0:00:20  | 0:00:40 |",
    ]


def test_of_cells_that_wait_nothing_is_read(capsys, make_record, tmp_path, monkeypatch):
    """Of four one ended in an earlier run, after 95 + 400 x 0.9^3 = 386.6 s, and one has begun.

    Three, two at a time, take 579.9 s.
    """
    done = make_record({"name": "done"}, training_set="set")
    cells = [TrialConfig(name=name, seed=seed) for seed, name in enumerate(("runs", "b", "c"), start=10)]
    said = board(tmp_path / "records", done.config, *cells, waiting={trial_digest(cell, "set") for cell in cells})
    begin(said, cells[0], "1")
    read = []

    def read_status(folder, digest, now):
        read.append(digest)
        return trial_status(folder, digest, now)

    monkeypatch.setattr("hemo.trials.status.trial_status", read_status)
    monkeypatch.setattr(lines, "TABLE_EVERY_S", 0.0)
    said.on_step_end(1, [])
    said.on_step_end(2, [])
    runs = trial_digest(cells[0], "set")
    assert sorted(read) == sorted([done.digest, runs, runs])
    heading = "search of 4 trials, 2 concurrent: 1 complete, 3 waiting; about 0:09:40 left"
    assert capsys.readouterr().err.splitlines() == [heading] * 2


def test_storage_that_cannot_be_read_for_the_table_does_not_end_the_sweep(capsys, tmp_path, monkeypatch):
    """The next attempt is made after the usual time, counted from the end of this one."""
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    said = board(tmp_path, TrialConfig(name="a"))

    def fail(*args):
        clock[0] += 2 * lines.TABLE_EVERY_S
        raise StorageError("no such host")

    monkeypatch.setattr(lines, "planned_statuses", fail)
    clock[0] += lines.TABLE_EVERY_S
    said.on_step_end(1, [])
    said.on_step_end(2, [])
    assert capsys.readouterr().err == "the table of trials cannot be shown now: no such host; the sweep goes on\n"


@pytest.mark.parametrize(("metric", "best"), [("val_loss", "b"), ("latency_ms", "b"), ("val_auroc", "a")])
def test_the_best_is_the_least_of_what_is_minimised(capsys, tmp_path, metric, best):
    said = board(tmp_path, metric=metric)
    for name, figure in (("a", 0.5), ("b", 0.25)):
        said.on_trial_complete(1, [], EndedTrial(name, status="complete", epoch=3, **{metric: figure}))
    assert capsys.readouterr().err.splitlines()[-1].endswith(f": {best}")


@pytest.mark.parametrize(
    ("kind", "metric"),
    [
        ({"grid": {"axes": {"training.learning_rate": [1e-3, 1e-4]}}}, "val_loss"),
        ({"grid": {"axes": {"training.loss": ["default", "focal"]}}}, "val_auroc"),
        ({"search": {"space": {"seed": {"choices": [0, 1]}}, "metric": "val_accuracy"}}, "val_accuracy"),
    ],
)
def test_the_best_of_a_grid_of_several_losses_is_shown_by_auroc(kind, metric):
    assert shown_metric(TuneConfig(training_set="/set", out="/out", **kind)) == metric
