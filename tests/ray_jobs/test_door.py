"""How jobs end."""

import itertools
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import ray

from hemo.errors import HemoError, LabelError, RejectLimitError, SliceError, SourceError
from ray_jobs.__main__ import main
from ray_jobs.door import door
from tests.made_shards import write_conversion


def ending(job: Callable[[], None], capsys: pytest.CaptureFixture[str]) -> tuple[int | str | None, str]:
    """Return exit code and standard error of a job behind a door."""

    @door
    def entrance(argv: Sequence[str] | None = None) -> None:
        job()

    with pytest.raises(SystemExit) as exit_info:
        entrance([])
    shown = capsys.readouterr()
    assert shown.out == ""
    return exit_info.value.code, shown.err


def test_what_the_user_must_mend_is_one_line_and_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    def job() -> None:
        raise SourceError("/data is empty; give a folder with images")

    assert ending(job, capsys) == (2, "hemo: /data is empty; give a folder with images\n")


def test_a_failure_in_the_middle_is_code_1_and_notes_follow(capsys: pytest.CaptureFixture[str]) -> None:
    def job() -> None:
        error = RejectLimitError("7 of 9 rejected")
        error.add_note("most often: not_ct (5)")
        raise error

    assert ending(job, capsys) == (1, "hemo: 7 of 9 rejected; most often: not_ct (5)\n")


def test_ctrl_c_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    def job() -> None:
        raise KeyboardInterrupt

    code, shown = ending(job, capsys)
    assert code == 1
    assert shown == "hemo: interrupted; run the same command again: finished work is kept\n"


def test_the_error_behind_another_is_found_by_its_cause(capsys: pytest.CaptureFixture[str]) -> None:
    def job() -> None:
        raise RuntimeError("wrapper") from LabelError("ID_1: labels 0 and 1")

    assert ending(job, capsys) == (2, "hemo: ID_1: labels 0 and 1\n")


def test_the_outermost_error_raised_on_purpose_speaks(capsys: pytest.CaptureFixture[str]) -> None:
    def job() -> None:
        raise HemoError("unit 3 failed") from SliceError("truncated", "no pixels")

    assert ending(job, capsys) == (1, "hemo: unit 3 failed\n")


def test_a_defect_keeps_its_traceback_even_while_an_error_is_handled() -> None:
    @door
    def job(argv: Sequence[str] | None = None) -> None:
        try:
            raise SourceError("mended here")
        except SourceError:
            raise TypeError("a defect")  # noqa: B904

    with pytest.raises(TypeError, match="a defect"):
        job([])


def test_a_task_raised_it_and_the_user_reads_one_line(ray_cluster: None, capsys: pytest.CaptureFixture[str]) -> None:
    @ray.remote
    def task() -> None:
        error = LabelError("ID_1: labels 0 and 1")
        error.add_note("in labels.csv, line 7")
        raise error

    assert ending(lambda: ray.get(task.remote()), capsys) == (
        2,
        "hemo: ID_1: labels 0 and 1; in labels.csv, line 7\n",
    )


def test_a_map_task_raised_it_and_the_user_reads_one_line(
    tmp_path: Path, make_ray_folder: Callable[[], Path]
) -> None:
    """The whole of standard error, from a process of its own: Ray has its own ways to the terminal."""
    rows = [{"patient": f"P{number}"} for number in range(60)]
    shards = write_conversion(tmp_path / "shards", rows, unit_rows=30)
    labels = tmp_path / "labels.csv"
    labels.write_text("\n".join(["Image,any", *(f"ID_{number:03d},{number % 2}" for number in range(60))]))
    gone = Path(shards, "shards", "unit-000001.parquet")
    gone.unlink()
    flags = {
        "--shards": shards,
        "--labels": str(labels),
        "--out": str(tmp_path / "set"),
        "--cluster.address": "local",
        "--cluster.cpus": "1",
        "--cluster.temp_dir": str(make_ray_folder()),
    }
    command = [sys.executable, "-m", "ray_jobs.curate", *itertools.chain.from_iterable(flags.items())]
    job = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (job.returncode, job.stdout) == (2, "")
    told = [line for line in job.stderr.splitlines() if line and not line.startswith("curate:   0%|")]  # the bar
    assert told == [f"hemo: {gone} stands in the index but does not exist; run `hemo convert` again"]


def test_hemo_without_a_job_lists_the_jobs(capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    shown = capsys.readouterr().out
    assert shown.startswith("usage: hemo JOB")
    assert "phantom" in shown
    assert "door" not in shown


def test_an_unknown_job_is_the_users_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(["convrt"])
    assert exit_info.value.code == 2
    assert capsys.readouterr().err.startswith("hemo: 'convrt' is no job; the jobs are backbones, convert, ")
