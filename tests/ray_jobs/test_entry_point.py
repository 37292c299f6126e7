"""How jobs begin and end: flags, `--help`, exit codes, one line for an error."""

import itertools
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import ray

import hemo
from hemo.config.convert import ConvertConfig
from hemo.config.load import load_config
from hemo.config.report import StatusConfig
from hemo.config.types import Config, Location
from hemo.console import print_line, print_result
from hemo.errors import HemoError, LabelError, RejectLimitError, SliceError, SourceError
from hemo.storage import write_bytes
from ray_jobs import tune
from ray_jobs.__main__ import main
from ray_jobs.entry_point import entry_point, errors_as_exit_codes
from tests.made_shards import write_conversion
from tests.test_conf import CONFIGS, ROOT

JOBS = sorted(CONFIGS)


def ending(job: Callable[[], None], capsys: pytest.CaptureFixture[str]) -> tuple[int | str | None, str]:
    """Return exit code and standard error of a job that raises."""
    with pytest.raises(SystemExit) as exit_info, errors_as_exit_codes():
        job()
    shown = capsys.readouterr()
    assert shown.out == ""
    return exit_info.value.code, shown.err


def test_no_error_shows_the_password_of_a_database(capsys: pytest.CaptureFixture[str]) -> None:
    """Here the value of a flag that is no YAML, which an error quotes."""
    with pytest.raises(SystemExit):
        tune.main(["--training_set", "set", "--out", "out", "--search", "{storage: postgresql://u:sesame@h/db, x: ]"])
    shown = capsys.readouterr().err
    assert "postgresql://u:***@h/db" in shown
    assert "sesame" not in shown


def test_a_users_mistake_is_one_line_and_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    def job() -> None:
        raise SourceError("/data is empty; give a folder with images")

    assert ending(job, capsys) == (2, "hemo: /data is empty; give a folder with images\n")


def test_a_full_disk_is_one_line_with_the_file_and_the_way_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def job() -> None:
        with Path("/dev/full").open("wb", buffering=0) as full, pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "fsync", lambda _: full.write(b"x"))
            write_bytes(str(tmp_path / "card.json"), b"{}")

    assert ending(job, capsys) == (
        1,
        f"hemo: {tmp_path}/card.json: No space left on device; free some, or give a folder on a larger disk; run the "
        "same command again: finished work is kept\n",
    )


def test_a_failure_in_the_middle_is_code_1_and_notes_follow(capsys: pytest.CaptureFixture[str]) -> None:
    def job() -> None:
        error = RejectLimitError("7 of 9 rejected")
        error.add_note("most often: not_ct (5)")
        raise error

    assert ending(job, capsys) == (1, "hemo: 7 of 9 rejected; most often: not_ct (5)\n")


def test_ctrl_c_is_code_1_and_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    def job() -> None:
        raise KeyboardInterrupt

    code, shown = ending(job, capsys)
    assert code == 1
    assert shown == "hemo: interrupted; run the same command again: finished work is kept\n"


def test_a_scheduler_ends_a_job_without_ray_as_ctrl_c_does(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)

    def job() -> None:
        signal.raise_signal(signal.SIGTERM)

    assert ending(job, capsys) == (1, "hemo: interrupted; run the same command again: finished work is kept\n")
    assert signal.getsignal(signal.SIGTERM) == before


def test_the_error_behind_another_is_found_by_its_cause(capsys: pytest.CaptureFixture[str]) -> None:
    def job() -> None:
        raise RuntimeError("wrapper") from LabelError("ID_1: labels 0 and 1")

    assert ending(job, capsys) == (2, "hemo: ID_1: labels 0 and 1\n")


def test_the_outermost_error_raised_on_purpose_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    def job() -> None:
        raise HemoError("unit 3 failed") from SliceError("truncated", "no pixels")

    assert ending(job, capsys) == (1, "hemo: unit 3 failed\n")


def test_a_defect_keeps_its_traceback_even_while_an_error_is_handled() -> None:
    def job() -> None:
        try:
            raise SourceError("handled here")
        except SourceError:
            raise TypeError("a defect")  # noqa: B904

    with pytest.raises(TypeError, match="a defect"), errors_as_exit_codes():
        job()


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


def test_a_map_task_raised_it_and_the_user_reads_one_line(tmp_path: Path, make_ray_folder: Callable[[], Path]) -> None:
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
    job = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (job.returncode, job.stdout) == (2, "")
    assert job.stderr == f"hemo: {gone} is in the index but does not exist; run `hemo convert` again\n"


def test_the_function_gets_the_config_of_the_command_line() -> None:
    configs: list[StatusConfig] = []

    @entry_point(StatusConfig)
    def job(config: StatusConfig) -> None:
        configs.append(config)

    job(["--records", "/r"])
    assert configs == [StatusConfig(records="/r")]


class Written(Config):
    """Config of a job that writes."""

    out: Location
    section: ConvertConfig | None = None


def run_written(job: Callable[[Written], None], out: Path, **more: str) -> tuple[object, list[str]]:
    """Run a job that writes below `out`; return its exit code and its log, without times and what is of the process."""

    @entry_point(Written)
    def main(config: Written) -> None:
        print_line("working")
        job(config)
        print_result(config.out)

    code: object = 0
    try:
        main(["--out", str(out), *itertools.chain.from_iterable(more.items())])
    except SystemExit as ended:
        code = ended.code
    logs = list(out.glob("log/*.txt"))
    lines = logs[0].read_text().splitlines() if logs else []
    texts = [re.sub(r", process .*| after 0:00:0\d", "", " ".join(line.split()[1:])) for line in lines]
    return code, texts


BEGIN = f"begin hemo {hemo.__version__} test_entry_point"


def test_a_job_leaves_a_log_beside_its_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = run_written(lambda _: None, tmp_path)
    assert (code, lines) == (0, [BEGIN, "line working", f"result {tmp_path}", "end code 0"])
    assert capsys.readouterr().out == f"{tmp_path}\n"


def test_the_log_says_why_a_job_stopped(tmp_path: Path) -> None:
    def stops(_: Written) -> None:
        error = RejectLimitError("7 of 9 rejected")
        error.add_note("most often: not_ct (5)")
        raise error

    expected = [BEGIN, "line working", "error 7 of 9 rejected; most often: not_ct (5)", "end code 1"]
    assert run_written(stops, tmp_path) == (1, expected)


def test_the_log_has_the_traceback_of_a_defect(tmp_path: Path) -> None:
    def fails(_: Written) -> None:
        raise TypeError("a defect")

    with pytest.raises(TypeError, match="a defect"):
        run_written(fails, tmp_path)
    (log,) = tmp_path.glob("log/*.txt")
    errors = [line.split(maxsplit=2)[2] for line in log.read_text().splitlines() if line.split()[1] == "error"]
    assert errors[0] == "Traceback (most recent call last):"
    assert errors[-1] == "TypeError: a defect"


def test_a_job_that_is_refused_at_once_leaves_no_log_and_no_folder(tmp_path: Path) -> None:
    def refused(_: Written) -> None:
        raise SourceError("/data is empty")

    assert run_written(refused, tmp_path / "out") == (2, [])
    assert list(tmp_path.iterdir()) == []


def test_under_a_key_the_log_names_no_file(tmp_path: Path) -> None:
    """Also where the key is that of a section, as in the config of `pipeline`."""

    def stops(_: Written) -> None:
        raise HemoError("DOE^JANE.dcm cannot be read")

    section = "{source: /data, corpus: dicom, out: /out, pseudonym_key: env:KEY}"
    code, lines = run_written(stops, tmp_path, **{"--section": section})
    hidden = "error HemoError; its text may name files, so it is in the output of the job only"
    assert (code, lines) == (1, [BEGIN, "line working", hidden, "end code 1"])


def test_the_log_of_a_submitted_job_names_it_and_its_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing else of what Ray says to the job: its environment variables may be secrets."""
    told = {
        "metadata": {"job_submission_id": "raysubmit_1", "owner": "me"},
        "runtime_env": {"working_dir": "gcs://_ray_pkg_0123.zip", "env_vars": {"KEY": "sesame"}},
    }
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps(told))
    run_written(lambda _: None, tmp_path)
    (log,) = tmp_path.glob("log/*.txt")
    assert log.read_text().splitlines()[0].endswith("; Ray job raysubmit_1, code gcs://_ray_pkg_0123.zip")
    assert "sesame" not in log.read_text()


@pytest.mark.parametrize("words", [[], ["--help"]])
def test_hemo_lists_each_job_with_one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    main(words)
    shown = capsys.readouterr().out
    assert shown.startswith("usage: hemo JOB")
    jobs = dict(re.findall(r"^  (\w+) +(\S.*)$", shown, re.MULTILINE))
    assert set(jobs) == set(JOBS)
    assert jobs["convert"] == "Convert DICOM files or pictures into Parquet shards."
    assert all(line.endswith(".") for line in jobs.values())


def test_an_unknown_job_is_the_users_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(["convrt"])
    assert exit_info.value.code == 2
    line = capsys.readouterr().err
    assert line.startswith("hemo: 'convrt' is no job (did you mean convert?); the jobs are backbones, convert, ")


HEAVY = "ray torch torchvision timm pyarrow pandas numpy scipy sklearn matplotlib optuna wandb fsspec pydicom"


EACH_JOB = """
import contextlib, io, json, runpy, sys

heavy, *jobs = sys.argv[1:]
ended = {}
for job in jobs:
    codes, errors = [], io.StringIO()
    for words in (["--help"], ["--no_such_flag", "1"]):
        sys.argv = [job, *words]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(errors):
            try:
                runpy.run_module(f"ray_jobs.{job}", run_name="__main__")
            except SystemExit as end:
                codes.append(end.code)
    ended[job] = codes, [name for name in heavy.split() if name in sys.modules], errors.getvalue()
print(json.dumps(ended))
"""


def test_help_and_a_wrong_flag_load_no_heavy_package() -> None:
    """Each as by `python -m ray_jobs.JOB`, in one process of their own: these packages take seconds to import."""
    command = [sys.executable, "-c", EACH_JOB, HEAVY, *JOBS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    ended = json.loads(done.stdout)
    assert {job: (codes, loaded) for job, (codes, loaded, _) in ended.items()} == dict.fromkeys(JOBS, ([0, 2], []))
    for job, (_, _, errors) in ended.items():
        assert errors.startswith(f"hemo: --no_such_flag is no flag of `hemo {job}`")


def help_of(job: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as exit_info:
        main([job, "--help"])
    assert exit_info.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("job", JOBS)
def test_help_says_what_is_read_and_written_and_ends_with_a_command(
    job: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    shown = help_of(job, capsys)
    usage, summary, about, *_ = shown.split("\n\n")
    assert usage.startswith(f"usage: hemo {job} [--config FILE]")
    assert "\n" not in summary
    assert re.search(r"\b[Rr]eads\b", about)
    assert re.search(r"\b([Ww]rites)\b", about)
    example = shown[shown.rindex("\nExample") :]
    commands = re.findall(rf"(?:hemo {job}|-m ray_jobs\.{job})\b(.*)$", example.replace("\\\n", " "), re.MULTILINE)
    assert commands
    for words in commands:
        load_config(CONFIGS[job], shlex.split(words), job=job)
    folders = re.findall(r"conf/[\w/.]*\w", example)
    assert all(Path(folder).exists() for folder in folders)
    assert folders or job in ("backbones", "doctor", "status", "watch")


@pytest.mark.parametrize("job", JOBS)
def test_every_flag_is_below_a_heading(job: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown = help_of(job, capsys)
    options = shown[shown.index("\noptions:") :].split("\n\n")[0]
    assert re.findall(r"^  (--?\w+)", options, re.MULTILINE) == ["-h", "--config"]


def test_the_headings_of_tune(capsys: pytest.CaptureFixture[str]) -> None:
    headings = re.findall(r"^(\w+):$", help_of("tune", capsys), re.MULTILINE)
    sections = ["trial", "model", "training", "augmentation", "grid", "search", "trials", "resources", "tracking"]
    assert headings == ["options", "input", "output", *sections]


def test_the_headings_of_the_pipeline_name_the_stage(capsys: pytest.CaptureFixture[str]) -> None:
    shown = help_of("pipeline", capsys)
    assert re.search(r"^convert: images:\n  --convert.pixels", shown, re.MULTILINE)
    assert re.search(r"^tune: model:\n  --tune.trial.model.backbone", shown, re.MULTILINE)
