"""How `convert` and `tune` scale from one node to four, where nodes wait for something else than a CPU.

    python benchmarks/bench_scaling.py --nodes 1 2 4
    python benchmarks/bench_scaling.py --slow 10 --files 246 --unit_files 6

Simulated nodes of one CPU each on this machine, beside a head without CPUs. The waits are so long that all nodes
together need less than one core, so that what is measured is how hemo and Ray share work out.

    convert   a corpus on storage that waits before each file, as a bucket does: `timed://`, a filesystem of this script
    tune      a grid of trials that sleep in place of training

Both are timed on the nodes, from the begin of the first file or trial to the end of the last shard or trial: neither
the start of a cluster and its workers nor the work of the driver is in it. Efficiency is the time on one node over the
number of nodes and the time on them. Beside `convert` stands what `hemo plan`, run on one node before it, foretells for
the whole job.

With `--slow 10` `convert` runs on one node and on two, of which one waits ten times as long before each file. The ideal
is the time in which both together do all files and end at the same moment.
"""

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import ray
import timed_storage
from made_training_set import write_training_set
from replicas import replicated_corpus
from two_nodes import OBJECT_STORE_BYTES, cluster_environment, head_options

from hemo.cluster.convert import tasks
from hemo.cluster.convert.job import convert_corpus
from hemo.cluster.convert.plan import plan_conversion
from hemo.cluster.session import connected
from hemo.cluster.tuning import sweep, trainable
from hemo.config.convert import ConvertConfig, PlanConfig
from hemo.config.tune import TuneConfig
from hemo.config.types import ClusterConfig
from hemo.training.reporting import Epochs
from hemo.trials.make_record import failed_record
from hemo.trials.record import TrialRecord, write_record

SIDE_PX = 32
PLAN_FILES = 96
LOADED = {"convert": "hemo.cluster.convert.tasks", "tune": "hemo.cluster.tuning.trainable"}
"""What the workers of a job load, at the start of a cluster."""


class SleepingTrial(trainable.TrialRun):
    """A trial that sleeps `$TRIAL_S` seconds in place of training, and is recorded as complete."""

    def _run(self) -> Epochs[TrialRecord]:
        yield from ()
        timed_storage.note_time("began")
        time.sleep(float(os.environ["TRIAL_S"]))
        worker = trainable.trial_worker(self._job, 0)
        slept = {"status": "complete", "reason": "", "metrics": {"val": {"loss": 1.0}, "test": {"loss": 1.0}}}
        record = failed_record(self._key, self._shared.card, worker, "slept").model_copy(update=slept)
        write_record(self._key.records, record, None)
        timed_storage.note_time("ended")
        return record


def main() -> None:
    """Measure each job on each number of nodes, in a process and a cluster of its own, and print the tables."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--nodes", type=int, nargs="+", default=[1, 2, 4])
    arguments.add_argument("--jobs", nargs="+", choices=("convert", "tune"), default=["convert", "tune"])
    arguments.add_argument("--files", type=int, default=480)
    arguments.add_argument("--unit_files", type=int, default=60, help="files in a unit; 1,024 in a real conversion")
    arguments.add_argument("--wait_s", type=float, default=0.2, help="before each file")
    arguments.add_argument("--trials", type=int, default=8)
    arguments.add_argument("--trial_s", type=float, default=20.0, help="that each trial sleeps")
    arguments.add_argument("--slow", type=float, help="how many times as long one of two nodes takes")
    arguments.add_argument("--inputs", type=Path, help=argparse.SUPPRESS)  # for one measurement
    given = arguments.parse_args()
    if given.inputs:
        print(json.dumps(measure(given.jobs[0], given.nodes[0], given)))
        return
    with tempfile.TemporaryDirectory(prefix="hemo-scaling-") as scratch:
        inputs = Path(scratch)
        if "convert" in given.jobs:
            with connected(ClusterConfig(address="local", cpus=1, temp_dir=f"{scratch}/ray")):
                replicated_corpus(inputs, given.files)
        if given.slow:
            alone, both = (in_own_process("convert", nodes, inputs, given) for nodes in (1, 2))
            print_slow(alone["work_s"], both["work_s"], given)
            return
        for job in given.jobs:
            print_table(job, [in_own_process(job, nodes, inputs, given) for nodes in sorted(given.nodes)], given)


def in_own_process(job: str, nodes: int, inputs: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Measure one job on a new cluster of so many nodes."""
    with tempfile.TemporaryDirectory(prefix="hemo-scaling-") as folder:
        times = Path(folder, "times")
        times.mkdir()
        here = Path(__file__).parent
        environment = os.environ | cluster_environment(Path(folder)) | {
            "PYTHONPATH": f"{here}:{here.parent}",  # of the workers, which load `timed_storage`
            "OMP_NUM_THREADS": "1",
            "RAY_worker_niceness": "0",
            "STORAGE_WAIT_S": str(given.wait_s),
            "TRIAL_S": str(given.trial_s),
            "TIMES": str(times),
        }  # fmt: skip
        environment.pop("RAY_ADDRESS", None)
        own = ["--jobs", job, "--nodes", str(nodes), "--inputs", str(inputs), "--trials", str(given.trials)]
        own += ["--unit_files", str(given.unit_files), "--wait_s", str(given.wait_s)]
        own += ["--slow", str(given.slow)] if given.slow else []
        done = subprocess.run(
            [sys.executable, __file__, *own], env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.exit(done.stderr)
        return {"nodes": nodes, **json.loads(done.stdout.splitlines()[-1])}


def measure(job: str, nodes: int, given: argparse.Namespace) -> dict[str, Any]:
    """Start a cluster of so many nodes of one CPU and run a job on it."""
    from ray.cluster_utils import Cluster

    folder = Path(os.environ["RAY_TMPDIR"])
    cluster = Cluster(initialize_head=True, head_node_args=head_options(folder))
    try:
        waits_s = [given.wait_s] * nodes
        if given.slow:
            waits_s[1:] = [given.wait_s * given.slow] * (nodes - 1)
            tasks.GROWN_CPUS = nodes  # units are divided as on a cluster of thousands of units and more than 64 CPUs
        for wait_s in waits_s:
            of_node = {"STORAGE_WAIT_S": str(wait_s)}
            cluster.add_node(num_cpus=1, object_store_memory=OBJECT_STORE_BYTES, env_vars=of_node)
        hook = {"worker_process_setup_hook": "timed_storage.register"} if job == "convert" else {}
        ray.init(address=cluster.address, runtime_env=hook, log_to_driver=False)
        ray.data.DataContext.get_current().raise_original_map_exception = True
        if job == "convert":
            ray.data.range(1).materialize()  # starts Ray Data's own actors, each of which takes a worker
        start_workers(nodes, LOADED[job])
        return (
            converted(folder, given.inputs, nodes, given.unit_files, slow=bool(given.slow))
            if job == "convert"
            else tuned(folder, given.trials)
        )
    finally:
        ray.shutdown()
        cluster.shutdown()


def start_workers(nodes: int, module: str) -> None:
    """Have a worker on every node that has loaded what its work needs: the job's processes take it over."""
    load = ray.remote(num_cpus=1, scheduling_strategy="SPREAD")(load_module)
    used: set[str] = set()
    while len(used) < nodes:
        used |= set(ray.get([load.remote(module) for _ in range(nodes)]))


def load_module(module: str) -> str:
    """Load a module and return the node it was loaded on."""
    importlib.import_module(module)
    time.sleep(1.0)  # so that no node does two
    return str(ray.get_runtime_context().get_node_id())


def converted(folder: Path, inputs: Path, nodes: int, unit_files: int, *, slow: bool) -> dict[str, Any]:
    """Plan, on one node, and convert the corpus; return seconds."""
    timed_storage.register()
    wanted = {
        "source": f"timed://{inputs}/corpus", "corpus": "rsna", "out": str(folder / "out"), "side_px": SIDE_PX,
        "unit_files": unit_files, "read_threads": 1, "max_reject_fraction": 1,
    }  # fmt: skip
    plan = None
    if nodes == 1 and not slow:
        config = PlanConfig.model_validate({**wanted, "nodes": (1, 2, 4), "files_per_cpu": PLAN_FILES})
        plan = json.loads(Path(plan_conversion(config)).read_text())
    timed_storage.forget_times()
    began = time.perf_counter()
    convert_corpus(ConvertConfig.model_validate(wanted))
    job_s = time.perf_counter() - began
    for shard in (folder / "out" / "shards").iterdir():
        timed_storage.note_time("ended", shard.stat().st_mtime)
    return {"work_s": timed_storage.noted_span_s(), "job_s": job_s, "plan": plan}


def tuned(folder: Path, trials: int) -> dict[str, Any]:
    """Run a grid of sleeping trials; return seconds."""
    sweep.TrialRun = SleepingTrial  # type: ignore[misc]
    images = np.zeros((4, 3, 32, 32), dtype=np.uint8)
    config = TuneConfig.model_validate(
        {
            "training_set": write_training_set(folder / "set", images, {"train": 32, "val": 16, "test": 16}),
            "out": str(folder / "records"),
            "trial": {"model": {"backbone": "test_resnet"}},
            "grid": {"axes": {"seed": list(range(trials))}},
            "workers": {"gpus": 0},
        }
    )
    began = time.perf_counter()
    sweep.tune_models(config)
    return {"work_s": timed_storage.noted_span_s(), "job_s": time.perf_counter() - began}


def print_table(job: str, rows: list[dict[str, Any]], given: argparse.Namespace) -> None:
    """Print seconds and efficiency by number of nodes; for `convert` also what was planned."""
    work = f"{given.files} files, {given.wait_s:g} s each, in units of {given.unit_files}" if job == "convert" else (
        f"{given.trials} trials of {given.trial_s:g} s"
    )  # fmt: skip
    print(f"\n{job}: {work}\n\n| nodes | first to last s | efficiency | whole job s | planned s | planned / job |")
    print("| --- | --- | --- | --- | --- | --- |")
    plan = next((row["plan"] for row in rows if row.get("plan")), None)
    planned = {row["nodes"]: row["hours"] * 3600 for row in plan["estimates"]} if plan else {}
    first = rows[0]
    for row in rows:
        efficiency = first["work_s"] * first["nodes"] / (row["nodes"] * row["work_s"])
        foretold_s = planned.get(row["nodes"])
        both = f"{foretold_s:.1f} | {foretold_s / row['job_s']:.2f}" if foretold_s else "- | -"
        print(f"| {row['nodes']} | {row['work_s']:.1f} | {efficiency:.3f} | {row['job_s']:.1f} | {both} |")
    if plan:
        cpu_s, fastest = plan["calibration"]["cpu_s_per_file"], max(given.files / row["work_s"] for row in rows)
        print(f"\nCPU time {1000 * cpu_s:.1f} ms a file: {cpu_s * fastest:.2f} cores at the highest rate")


def print_slow(alone_s: float, both_s: float, given: argparse.Namespace) -> None:
    """Print seconds on one node, and on two of which one is slower, with those that were possible."""
    ideal_s = alone_s / (1 + 1 / given.slow)
    work = f"{given.files} files, {given.wait_s:g} s each, in units of {given.unit_files}"
    print(f"\nconvert: {work}\n\n| one node s | one more, {given.slow:g} times slower s | ideal s | over the ideal |")
    print("| --- | --- | --- | --- |")
    print(f"| {alone_s:.1f} | {both_s:.1f} | {ideal_s:.1f} | {both_s / ideal_s:.2f} |")


if __name__ == "__main__":
    main()
