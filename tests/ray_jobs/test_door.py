"""How jobs end."""

from collections.abc import Callable, Sequence

import pytest
import ray

from hemo.errors import HemoError, LabelError, RejectLimitError, SliceError, SourceError
from ray_jobs.__main__ import main
from ray_jobs.door import door


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

    assert ending(job, capsys) == (1, "hemo: 7 of 9 rejected\nhemo: most often: not_ct (5)\n")


def test_ctrl_c_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    def job() -> None:
        raise KeyboardInterrupt

    code, shown = ending(job, capsys)
    assert code == 1
    assert shown == "hemo: interrupted; run the same command again to go on: what is finished is kept\n"


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
        "hemo: ID_1: labels 0 and 1\nhemo: in labels.csv, line 7\n",
    )


def test_a_map_task_raised_it_and_the_user_reads_one_line(
    ray_cluster: None, capsys: pytest.CaptureFixture[str]
) -> None:
    def faulty(batch: dict[str, object]) -> dict[str, object]:
        raise SourceError("/data/a.dcm is gone; restore it")

    code, shown = ending(lambda: ray.data.range(2).map_batches(faulty).materialize(), capsys)
    assert code == 2
    assert shown.splitlines()[-1] == "hemo: /data/a.dcm is gone; restore it"


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
    assert capsys.readouterr().err.startswith("hemo: 'convrt' is no job; the jobs are convert, curate, ")
