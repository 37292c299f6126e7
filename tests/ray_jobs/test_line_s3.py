"""Every job with all its paths on a bucket, on one small corpus; what a bucket cannot do; and where secrets are not."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from hemo.job_log import is_job_log
from hemo.storage import filesystem, list_files, list_folders, read_bytes, read_json
from tests.s3 import s3_environment  # noqa: F401 (a fixture)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1000)]  # 500 s were too few on two slow, busy cores

LAKE = "s3://lake"
SECRETS = {"AWS_ACCESS_KEY_ID": "PLANTEDKEY7731", "AWS_SECRET_ACCESS_KEY": "planted-secret-9917"}
DATABASE_PASSWORD = "sesame-4482"

PIPELINE = """
phantom: {slices: 400, faults: false}
convert: {side_px: 32, unit_files: 100}
curate: {val_fraction: 0.3, test_fraction: 0.3}
tune:
  trial: {model: {backbone: test_resnet}, training: {epochs: 1, batch_size: 16}}
  grid: {axes: {seed: [0, 1]}}
report: {bootstrap_samples: 20}
"""

LINE = """
import contextlib, io, sys
from importlib import import_module
import hemo

lake, folder = sys.argv[1:]
hemo.connect(address="local", cpus=2, temp_dir=f"{folder}/ray")  # one cluster for all jobs

def run(job, *words):
    out, code = io.StringIO(), 0
    with contextlib.redirect_stdout(out):
        try:
            import_module(f"ray_jobs.{job}").main([str(word) for word in words])
        except SystemExit as ended:
            code = ended.code
    print(out.getvalue(), end="")
    last = (out.getvalue().splitlines() or [""])[-1]
    print(f"[{job}] {code} {last}", flush=True)
    return last

trial = ["--trial.model.backbone", "test_resnet", "--trial.training.epochs", 1, "--trial.training.batch_size", 16]
search = ["--search.trials", 2, "--search.space", "{seed: {choices: [8, 9]}}"]
corpus, shards = f"{lake}/line/corpus", f"{lake}/line/converted"
training_set, records = f"{lake}/line/training_set", f"{lake}/line/records"
labels = f"{corpus}/stage_2_train.csv"
raw = ["--source", corpus, "--corpus", "rsna"]
run("pipeline", "--config", f"{folder}/line.yaml", "--out", f"{lake}/line")
run("convert", *raw, "--out", shards, "--side_px", 32, "--unit_files", 100)
run("plan", *raw, "--out", f"{lake}/plan", "--side_px", 32)
record = run("train", "--training_set", training_set, "--out", records, *trial, "--trial.seed", 5)
run("tune", "--training_set", training_set, "--out", f"{lake}/search", *trial, *search,
    "--search.storage", "env:STUDIES")
run("tune", "--training_set", training_set, "--out", f"{lake}/journal", *trial, *search)
run("train", "--training_set", training_set, "--out", records, *trial, "--tracking.backend", "tensorboard")
run("predict", *raw, "--checkpoint", record, "--out", f"{lake}/predictions")
run("explain", "--checkpoint", record, "--images", training_set, "--out", f"{lake}/explained", "--highest_loss", 2)
run("export", "--checkpoint", record, "--images", shards, "--out", f"{lake}/onnx", "--batch_size", 4)
run("evaluate", *raw, "--labels", labels, "--checkpoint", record, "--out", records, "--bootstrap_samples", 20)
run("leaks", "--training_set", training_set, "--out", f"{lake}/leaks", *trial, "--shuffled_labels", "false",
    "--holdout_fraction", 0.35, "--test_fraction", 0.35)
run("embed", "--source", training_set, "--checkpoint", record, "--out", f"{lake}/embeddings")
run("report", "--records", records, "--out", f"{lake}/report", "--bootstrap_samples", 20)
run("document", "--records", records, "--out", f"{lake}/documents")
run("status", "--records", records, "--log_lines", 2)
"""


@dataclass(frozen=True)
class Line:
    """What the jobs printed, and their exit codes and last lines in order."""

    output: str
    errors: str

    @property
    def ended(self) -> list[tuple[str, int, str]]:
        found = re.findall(r"^\[(\w+)\] (\d) (.*)$", self.output, re.MULTILINE)
        return [(job, int(code), last) for job, code, last in found]


@pytest.fixture(scope="module")
def line(s3_environment: dict[str, str], make_ray_folder: Callable[[], Path]) -> Line:  # noqa: F811
    """Run the jobs one after the other in one process, from its environment variables alone."""
    filesystem(LAKE)[0].mkdir("lake")
    folder = make_ray_folder()
    (folder / "line.yaml").write_text(PIPELINE)
    study = f"sqlite:///{folder}/study.db?password={DATABASE_PASSWORD}"
    done = subprocess.run(
        [sys.executable, "-c", LINE, LAKE, str(folder)],
        env={**os.environ, **s3_environment, **SECRETS, "STUDIES": study},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Line(done.stdout, done.stderr)


def test_each_job_ends_with_its_result_on_the_bucket(line: Line) -> None:
    records = f"{LAKE}/line/records"
    record, evaluation = (next(last for name, _, last in line.ended if name == job) for job in ("train", "evaluate"))
    assert [(job, last) for job, code, last in line.ended if code == 0] == [
        ("pipeline", f"{LAKE}/line/report/index.html"),
        ("convert", f"{LAKE}/line/converted"),
        ("plan", f"{LAKE}/plan/plan.json"),
        ("train", record),
        ("tune", f"{LAKE}/search"),
        ("predict", f"{LAKE}/predictions"),
        ("explain", f"{LAKE}/explained"),
        ("export", f"{LAKE}/onnx/model.onnx"),
        ("evaluate", evaluation),
        ("leaks", f"{LAKE}/leaks"),
        ("embed", f"{LAKE}/embeddings"),
        ("report", f"{LAKE}/report/index.html"),
        ("document", f"{LAKE}/documents/model-card.md"),
        ("status", records),
    ]
    assert read_json(f"{record}/record.json")["status"] == "complete"
    assert "convert: 400 files in 4 units, 4 of them done" in re.sub(r" \(2 others[^)]*\)", "", line.errors)
    assert read_json(f"{LAKE}/predictions/card.json")["rows"] == 400
    assert read_json(f"{LAKE}/embeddings/card.json")["rows"] == 400
    assert len([name for name in list_folders(records) if re.fullmatch("[0-9a-f]{16}", name)]) == 3


def test_each_job_has_its_log_beside_its_output(line: Line) -> None:
    logs = [file for file in list_files(LAKE) if is_job_log("log/" + file.rpartition("/log/")[2])]
    jobs = sorted(re.sub(r".*Z-(\w+)-.*", r"\1", log) for log in logs)
    assert jobs == sorted(job for job, code, _ in line.ended if code == 0 and job != "status")
    for log in logs:
        kinds = [text.split()[1] for text in read_bytes(f"{LAKE}/{log}").decode().splitlines()]
        assert (kinds[0], kinds[-2:]) == ("begin", ["result", "end"])
    shown = line.output.split("[document]")[1]
    assert re.search(r"^20\S+Z end      code 0 after 0:0\d:\d\d$", shown, re.MULTILINE)


def test_what_a_bucket_cannot_do_is_refused_with_the_cure(line: Line) -> None:
    assert [job for job, code, _ in line.ended if code == 2] == ["tune", "train"]
    assert "search.storage: a journal needs a mounted disk and cannot lie in s3://lake/journal; give" in line.errors
    assert "tracking.backend: tensorboard writes to mounted disks only, not to s3://lake/line/records;" in line.errors
    assert not [name for name in list_folders(LAKE) if name == "journal"]


def test_no_secret_of_the_environment_is_printed_or_stored(line: Line) -> None:
    """The bucket's keys and the password of the study's database."""
    secrets = [*SECRETS.values(), DATABASE_PASSWORD]
    assert not [secret for secret in secrets if secret in line.output + line.errors]
    files = list_files(LAKE)
    assert len(files) > 150
    assert not [file for file in files for secret in secrets if secret.encode() in read_bytes(f"{LAKE}/{file}")]
