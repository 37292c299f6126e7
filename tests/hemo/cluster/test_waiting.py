"""Jobs on a cluster without CPUs, as one that starts nodes on demand: they wait, end on Ctrl-C, and grow with it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from hemo.config.convert import ConvertConfig
from hemo.imaging.settings import image_settings
from hemo.models.checkpoint import write_checkpoint
from hemo.models.classifier import build_model
from hemo.pseudonym import read_pseudonyms
from tests.dicom_files import head_file
from tests.hemo.inference.test_predict import CARD

CLUSTER = """
import sys
from ray.cluster_utils import Cluster

head = {"num_cpus": 0, "include_dashboard": False, "temp_dir": sys.argv[1]}
cluster = Cluster(initialize_head=True, head_node_args=head)
print(cluster.address, flush=True)
for line in sys.stdin:
    cluster.add_node(num_cpus=int(line))
    print("added", flush=True)
cluster.shutdown()
"""


class EmptyCluster:
    """A Ray head without CPUs in a process of its own, to which nodes are added."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin
        assert process.stdout
        self._nodes, self._answers, self._cpus = process.stdin, process.stdout, 0
        self.address = self._answers.readline().strip()

    def grow_to(self, cpus: int) -> None:
        """Add a node with the CPUs that are missing."""
        if cpus > self._cpus:
            self._nodes.write(f"{cpus - self._cpus}\n")
            self._nodes.flush()
            assert self._answers.readline() == "added\n"
            self._cpus = cpus


@pytest.fixture(scope="module")
def variables(environment: None) -> dict[str, str]:
    """Return what the head, its nodes and the jobs are started with: no token is needed."""
    return {**os.environ, "RAY_AUTH_MODE": "disabled"}


@pytest.fixture(scope="module")
def cluster(variables: dict[str, str], make_ray_folder: Callable[[], Path]) -> Iterator[EmptyCluster]:
    command, pipe = [sys.executable, "-c", CLUSTER, str(make_ray_folder())], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=variables) as process:
        yield EmptyCluster(process)
        assert process.stdin
        process.stdin.close()
        process.wait(timeout=180)


@pytest.fixture
def inputs(tmp_path: Path, make_training_set: Callable[..., str]) -> dict[str, str]:
    """What the jobs below read."""
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number in range(4):
        (corpus / f"ID_{number}.dcm").write_bytes(head_file())
    torch.manual_seed(0)
    model = build_model(CARD.model, channels=1, sides_px=(16, 16), classes=1)
    convert = ConvertConfig(source="/corpus", corpus="rsna", out="/out", side_px=16, windows=("brain",))
    image = image_settings(convert, "dicom", read_pseudonyms("")).model_dump(mode="json")
    write_checkpoint(str(tmp_path / "checkpoint"), model, CARD.model_copy(update={"image": image}))
    return {"corpus": str(corpus), "checkpoint": str(tmp_path / "checkpoint"), "set": make_training_set()}


JOBS = {
    "convert": ("--source {corpus} --corpus rsna", "convert: 4 files"),
    "predict": ("--source {corpus} --corpus rsna --checkpoint {checkpoint} --gpus 0", "no node has CPUs yet"),
    "train": ("--training_set {set} --workers.gpus 9", "waiting for 1 CPU, 9 GPU"),
    "tune": ("--training_set {set} --workers.gpus 9 --concurrent 1 --grid.axes {{seed:[0]}}", "wait until it grows"),
}
"""Job -> flags, and what it prints before it waits: for a CPU, or as a placement group for GPUs that never come."""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("job", JOBS)
def test_the_first_ctrl_c_ends_a_job_that_waits(
    job: str, cluster: EmptyCluster, variables: dict[str, str], inputs: dict[str, str], tmp_path: Path
) -> None:
    flags, shown = JOBS[job]
    if job in ("train", "tune"):  # their training set is read by a task
        cluster.grow_to(1)
    words = [*flags.format(**inputs).split(), "--out", str(tmp_path / "out"), "--cluster.address", cluster.address]
    errors = tmp_path / "errors.txt"
    with errors.open("w") as file:
        command = [sys.executable, "-m", f"ray_jobs.{job}", *words]
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=file, env=variables)
    while shown not in errors.read_text():
        assert running.poll() is None, errors.read_text()
        time.sleep(0.1)
    time.sleep(1)  # into the wait
    running.send_signal(signal.SIGINT)
    assert running.wait(timeout=180) == 1
    last = errors.read_text().splitlines()[-1]
    assert last == "hemo: interrupted; run the same command again: finished work is kept"
    assert "Traceback" not in errors.read_text()


PREDICT = """
import os, sys, time
from pathlib import Path
import numpy as np
from hemo.cluster import predict_images
from hemo.cluster.session import connected
from hemo.config.inference import PredictConfig
from hemo.config.types import ClusterConfig
from hemo.corpus.source_file import SourceFile
from hemo.shards.manifest import Unit
from hemo.shards.schema import ID_COLUMNS

address, checkpoint, folder = sys.argv[1:]
ends = time.time() + 150


def read(unit):
    Path(folder, str(os.getpid())).touch()
    while unit.number and len(os.listdir(folder)) < 2 and time.time() < ends:  # for a second model
        time.sleep(0.2)
    image = np.zeros((1, 16, 16), np.uint8)
    yield {**dict.fromkeys(ID_COLUMNS), "image_id": str(unit.number), "image": image}


units = [Unit(number, (SourceFile(str(number), 1, "1"),)) for number in range(20)]
with connected(ClusterConfig(address=address)):
    config = PredictConfig(source="/corpus", checkpoint=checkpoint, out="/out", gpus=0)
    predictions, _ = predict_images.predict_images(
        predict_images.Source("", units, read, {}), config, "predict", predict_images.COPIED_SCHEMA
    )
print(len(predictions))
"""


@pytest.mark.timeout(600)
def test_models_are_added_as_the_cluster_grows(
    cluster: EmptyCluster, variables: dict[str, str], inputs: dict[str, str], tmp_path: Path
) -> None:
    """It has one CPU, and gets two more while the first model predicts, which waits for a second one."""
    cluster.grow_to(1)
    models = tmp_path / "models"
    models.mkdir()
    command = [sys.executable, "-c", PREDICT, cluster.address, inputs["checkpoint"], str(models)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=variables) as job:
        while not list(models.iterdir()):
            assert job.poll() is None
            time.sleep(0.1)
        cluster.grow_to(3)
        shown, _ = job.communicate(timeout=500)
    assert shown == "20\n"
    assert len(list(models.iterdir())) in (2, 3)
