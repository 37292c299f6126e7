"""How far a folder's trials are, from its files."""

import json
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from hemo.errors import SourceError
from hemo.reporting.status_table import SILENT, heading, sparkline, status_text
from hemo.trials.progress import PlannedTrial, SweepPlan, TrialProgress, write_plan, write_progress, write_selection
from hemo.trials.status import SweepStatus, TrialStatus, planned_statuses, read_status, require_readable, trial_status

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def progress(name, *, ago_s=1.0, epoch=2, seconds=20.0):
    val, best = ({"loss": 0.5}, 0.25) if epoch else ({}, None)
    updated = (NOW - timedelta(seconds=ago_s)).isoformat(timespec="seconds")
    return TrialProgress(
        name=name,
        epochs=8,
        epoch=epoch,
        val=val,
        best_val_loss=best,
        curves={"val loss": (0.25, 0.5)[:epoch]},
        seconds=seconds,
        updated=updated,
    )


def plan(*digests, kind="grid", count=0):
    trials = tuple(PlannedTrial(digest=digest, name=f"cell {digest}", epochs=8) for digest in digests)
    return SweepPlan(
        name=kind, kind=kind, trials=trials, count=count or len(trials), concurrent=2, began="2026-11-20T10:00:00+00:00"
    )


def test_what_is_known_is_not_read_again(make_record, tmp_path):
    folder, made = str(tmp_path / "records"), make_record({"name": "done"})
    write_plan(folder, plan(made.digest, "w"))
    known = TrialStatus("as it was", "complete", 3, digest=made.digest)
    (sweep,) = read_status(folder, NOW, {made.digest: known})
    assert [trial.name for trial in sweep.trials] == ["as it was", "cell w"]
    outside = make_record({"name": "other", "seed": 1})
    _, others = read_status(folder, NOW, {outside.digest: known})
    assert [trial.name for trial in others.trials] == ["as it was"]


def test_each_cell_of_a_grid_and_what_it_is_doing(make_record, tmp_path):
    """The complete trial took 95 + 400 x 0.5^3 = 145 s; 60 s and 145 s are left, by two at once: 102.5 s."""
    folder = str(tmp_path / "records")
    done = make_record({"name": "done"}, quality=0.5)
    failed = make_record({"name": "bad", "seed": 1}, status="failed", reason="loss is nan")
    write_plan(folder, plan(done.digest, failed.digest, "r", "w"))
    write_progress(folder, "r", progress("runs"))
    (sweep,) = read_status(folder, NOW)
    assert [trial.status for trial in sweep.trials] == ["complete", "failed", "running", "waiting"]
    lowest = min(epoch.val["loss"] for epoch in done.epochs)
    assert status_text([sweep]).splitlines() == [
        "grid of 4 trials, 2 concurrent: 1 complete, 1 failed, 1 running, 1 waiting; about 0:01:42 left",
        "| trial  | status   | epoch    | val loss | best   | training | left    | val loss by epoch |",
        "|--------|----------|----------|----------|--------|----------|---------|-------------------|",
        f"| done   | complete | 10 of 30 | {done.epochs[-1].val['loss']:.4f}   | {lowest:.4f} | 0:02:25  | -       "
        f"| {sparkline([epoch.val['loss'] for epoch in done.epochs]):<17} |",
        "| bad    | failed   | 0 of 30  | -        | -      | -        | -       | -                 |",
        "| runs   | running  | 2 of 8   | 0.5000   | 0.2500 | 0:00:20  | 0:01:00 | ▁█                |",
        "| cell w | waiting  | 0 of 8   | -        | -      | -        | -       | -                 |",
        f"lowest validation loss of complete trials: {lowest:.4f}, done",
        "bad failed: loss is nan",
    ]


def test_trials_are_read_at_the_same_time(make_record, tmp_path, monkeypatch):
    """Each of two waits until the other is read too; a third is known to have no files."""
    folder, made = str(tmp_path / "records"), make_record({"name": "done"})
    write_plan(folder, plan(made.digest))
    write_progress(folder, "r", progress("runs"))
    both = threading.Barrier(2)

    def wait_and_read(folder, digest, now):
        if digest in (made.digest, "r"):
            both.wait(timeout=20)
        return trial_status(folder, digest, now)

    monkeypatch.setattr("hemo.trials.status.trial_status", wait_and_read)
    grid, others = read_status(folder, NOW)
    assert (grid.counts, others.counts) == ({"complete": 1}, {"running": 1})
    planned = plan("r", made.digest, "w").trials
    statuses = planned_statuses(folder, planned, NOW, {"w": None})
    assert [status.status for status in statuses] == ["running", "complete", "waiting"]


@pytest.mark.parametrize(
    ("values", "bars"),
    [
        ((), "-"),
        ((float("nan"), 0.5), "▁"),  # one value is its own lowest
        ((0.7, 0.0, 0.35), "█▁▅"),  # 0.35 / 0.7 x 7 = 3.5, which rounds to the even 4: the fifth bar
        ([1.0, 3.0] * 6 + [0.0] * 12, "██████▁▁▁▁▁▁"),  # 24 values in pairs: six means of 2, six of 0
    ],
)
def test_a_sparkline_spans_its_own_values(values, bars):
    assert sparkline(values) == bars


@pytest.mark.parametrize(
    ("known", "status"),
    [
        (progress("a", ago_s=599), "running"),
        (progress("a", ago_s=601), "silent"),
        (progress("a", ago_s=601, seconds=400.0), "running"),  # five of its epochs last 1,000 s
        (progress("a", ago_s=601, epoch=0, seconds=0.0), "silent"),
    ],
)
def test_a_trial_that_says_nothing_for_long_is_silent(tmp_path, known, status):
    write_progress(str(tmp_path), "a", known)
    (sweep,) = read_status(str(tmp_path), NOW)
    assert (sweep.plan, sweep.trials[0].status) == (None, status)
    assert (SILENT in status_text([sweep])) == (status == "silent")


def test_what_was_written_last_counts(make_record, tmp_path):
    """A failed trial that runs again runs; a complete one does not, whatever a killed process left."""
    folder = str(tmp_path / "records")
    failed = make_record({"name": "bad"}, status="failed")  # at ten o'clock
    done = make_record({"name": "done", "seed": 1})
    lost = make_record({"name": "lost", "seed": 2}, status="failed", finished="2026-11-20T12:00:00+00:00")
    for record in (failed, done, lost):
        write_progress(folder, record.digest, progress(record.config.name))
    (sweep,) = read_status(folder, NOW)
    assert {trial.name: trial.status for trial in sweep.trials} == {
        "bad": "running",
        "done": "complete",
        "lost": "failed",
    }


def test_trials_a_search_has_not_asked_for_wait_and_others_stand_apart(make_record, tmp_path):
    folder = str(tmp_path / "records")
    asked = make_record({"name": "asked"})
    make_record({"name": "by itself", "seed": 1})
    write_plan(folder, plan(asked.digest, kind="search", count=24))
    search, others = read_status(folder, NOW)
    assert search.counts == {"complete": 1, "waiting": 23}
    assert heading(others) == "trials outside sweeps: 1 complete"


def test_a_sweep_without_a_known_pace_has_no_time_left():
    waiting = TrialStatus("a", "waiting", 8)
    assert SweepStatus(plan("a"), (waiting,)).left_seconds is None
    assert SweepStatus(plan("a"), (TrialStatus("a", "complete", 8, 8, seconds=9.0),)).left_seconds is None


def test_nothing_there_is_an_error(tmp_path):
    with pytest.raises(SourceError, match="holds no trials; `hemo train` and `hemo tune` write them"):
        read_status(str(tmp_path), NOW)


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "grid.json").write_text("{}")
    with pytest.raises(SourceError, match=r"sweeps/grid\.json is damaged; remove it"):
        read_status(str(tmp_path), NOW)


def test_a_truncated_record_is_a_row_and_does_not_hide_the_others(make_record, tmp_path):
    done, cut = make_record({"name": "done"}), make_record({"name": "cut", "seed": 1})
    file = tmp_path / "records" / cut.digest / "record.json"
    file.write_text(file.read_text()[:100])
    write_plan(str(tmp_path / "records"), plan(done.digest, cut.digest))
    (sweep,) = read_status(str(tmp_path / "records"), NOW)
    assert [(trial.name, trial.status) for trial in sweep.trials] == [
        ("done", "complete"),
        (f"cell {cut.digest}", "unreadable"),
    ]
    lines = status_text([sweep]).splitlines()
    assert lines[0] == "grid of 2 trials, 2 concurrent: 1 complete, 1 unreadable"
    assert lines[-1].startswith(f"cell {cut.digest} unreadable: {file} is no JSON: ")
    assert lines[-1].endswith("; move it away, and the same command runs the trial again")
    with pytest.raises(SourceError, match=f"^{file} is no JSON: .*; move it away, and the same command runs the trial"):
        require_readable([sweep, sweep])
    require_readable([replace(sweep, trials=sweep.trials[:1])])


def test_an_object_store_is_read_alike(make_record):
    folder = "memory://status-test"
    write_plan(folder, plan("r"))
    write_progress(folder, "r", progress("runs"))
    (sweep,) = read_status(folder, NOW)
    assert sweep.counts == {"running": 1}


def test_a_plan_is_written_where_it_was_read_whatever_name_is_in_it(tmp_path):
    write_plan(str(tmp_path / "records"), plan("r"))
    file = tmp_path / "records" / "sweeps" / "grid.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "name": "../../elsewhere"}))
    write_selection(str(tmp_path / "records"), "grid", "r")
    assert json.loads(file.read_text())["selected"] == "r"
    assert list(tmp_path.rglob("*.json")) == [file]


def test_it_needs_neither_torch_nor_ray():
    code = (
        "import hemo.trials.status, hemo.reporting.status_table, sys; "
        "print([name for name in ('torch', 'ray', 'optuna') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
