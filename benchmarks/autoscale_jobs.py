"""Run jobs on a cluster that starts without nodes, and count its nodes over time.

    python benchmarks/autoscale_jobs.py
    python benchmarks/autoscale_jobs.py --units 320 --jobs convert

A head without CPUs; up to four nodes of one CPU come when tasks wait, and leave when idle, and one node with a CPU and
a GPU, which is a number of Ray's and no device. After the conversion it is waited until no node is left.

    convert   each file is read after a wait of 0.1 s that stands for the latency of a storage, so that nodes do not
              slow each other on the cores of this machine; the node with the GPU must not come
    held      images of a corpus are read, more than the nodes have memory for, and whoever reads them stops after the
              first for 20 s, twice as long as Ray Data takes to ask for nodes: none may come in that time
    train     on a GPU: it waits for the node that has one, and fails there, as torch sees no GPU; it must not train on
              CPUs
    line      phantom, convert, curate, train with two workers, tune and predict, all on CPUs, to their ends; not run by
              default

Prints in Markdown how many nodes of each kind were there and when; the exit code is 1 where one must not have been.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from autoscaled import autoscaled
from made_training_set import write_training_set

JOBS = ("convert", "held", "train")
NODES = 4
UNIT_FILES = 8
SAMPLE_S = 0.5
HELD_S = 20.0
HELD_SIDE_PX = 512
"""0.8 MB an image: 384 of them are thrice the object store of a node."""

GONE_S = 60.0
JOB_S = 600.0
"""After which a job is given up."""

Timeline = list[tuple[float, dict[str, int]]]
"""Seconds since the job began, and how many nodes of each kind were there, wherever that changed."""


def convert(scratch: Path, address: str) -> dict[str, Any]:
    """Convert as the job does, on a slow storage."""
    from slow_storage import slow_uri

    from hemo.cluster.convert.tasks import convert_units
    from hemo.config.convert import ConvertConfig
    from hemo.corpus.sources import list_corpus, media_of
    from hemo.imaging.settings import image_settings
    from hemo.pseudonym import read_pseudonyms
    from hemo.shards.convert_unit import UnitTask
    from hemo.shards.manifest import Manifest, update_manifest

    source, out = str(scratch / "corpus"), str(scratch / "out")
    config = ConvertConfig(source=source, corpus="rsna", out=out, side_px=16, unit_files=UNIT_FILES)
    units = update_manifest(Manifest((), ()), list_corpus(source, "rsna").files, unit_files=UNIT_FILES).units
    pseudonyms = read_pseudonyms(config.pseudonym_key)
    settings = image_settings(config, media_of(source, config.corpus), pseudonyms)
    task = UnitTask(slow_uri(source), settings, pseudonyms, read_threads=1)
    return {"units": sum(1 for _ in convert_units(task, units, out))}


def held(scratch: Path, address: str) -> dict[str, Any]:
    """Read images, and stop after the first."""
    from hemo.cluster.read_images import decoded_corpus, image_tables
    from hemo.config.convert import ReadConfig

    config = ReadConfig(source=str(scratch / "corpus"), corpus="rsna", side_px=HELD_SIDE_PX, unit_files=UNIT_FILES)
    rows = decoded_corpus(config, image_tables).iter_rows()
    next(iter(rows))
    first = node_counts()
    time.sleep(HELD_S)
    return {"at_first": first, "at_last": node_counts()}


def train(scratch: Path, address: str) -> dict[str, Any]:
    """Train on a GPU, which the node that comes for it does not have."""
    from hemo.cluster.ray_train import train_model
    from hemo.config.tune import TrainConfig
    from hemo.errors import TrialError

    images = np.zeros((4, 1, 32, 32), np.uint8)
    training_set = write_training_set(scratch / "set", images, {"train": 64, "val": 32, "test": 32})
    trial = {"model": {"backbone": "test_resnet", "weights": "none"}, "training": {"epochs": 1}}
    cluster = {"address": address}
    config = TrainConfig.model_validate(
        {
            "training_set": training_set,
            "out": str(scratch / "records"),
            "trial": trial,
            "workers": {"gpus": 1},
            "cluster": cluster,
        }
    )
    try:
        record = train_model(config)
    except TrialError as error:
        return {"failed": str(error)}
    return {"trained_on": record.hardware}


def line(scratch: Path, address: str) -> dict[str, Any]:
    """Run all jobs on CPUs; return how many nodes were there at the end of each."""
    import hemo

    cluster, ends = {"address": address}, {}
    corpus, shards, training_set, records = (
        str(scratch / f"line/{name}") for name in ("raw", "shards", "set", "records")
    )
    trial = {"model": {"backbone": "test_resnet"}, "training": {"epochs": 2}}
    common = {"training_set": training_set, "out": records, "cluster": cluster}
    alone = {"gpus": 0}
    jobs: dict[str, Callable[[], Any]] = {
        "phantom": lambda: hemo.phantom(out=corpus, slices=240, faults=False, cluster=cluster),
        "convert": lambda: hemo.convert(
            source=corpus, corpus="rsna", out=shards, side_px=32, unit_files=20, cluster=cluster
        ),
        "curate": lambda: hemo.curate(
            shards=shards, labels=f"{corpus}/stage_2_train.csv", out=training_set, cluster=cluster
        ),
        "train": lambda: hemo.train(trial=trial, workers={**alone, "count": 2}, **common),
        "tune": lambda: hemo.tune(trial=trial, workers=alone, grid={"axes": {"seed": [1, 2]}}, **common),
        "predict": lambda: hemo.predict(
            source=shards,
            corpus="shards",
            checkpoint=str(next(Path(records).glob("*/record.json")).parent),
            out=str(scratch / "line/predictions"),
            cluster=cluster,
        ),
    }
    for name, job in jobs.items():
        began = time.monotonic()
        job()
        ends[name] = {"seconds": round(time.monotonic() - began, 1), "nodes": node_counts()}
    return {"ends": ends, "predicted": (scratch / "line/predictions/card.json").is_file()}


DRIVERS: dict[str, Callable[[Path, str], dict[str, Any]]] = {
    "convert": convert,
    "held": held,
    "train": train,
    "line": line,
}


def drive(job: str, scratch: Path, address: str) -> None:
    """Run a job as its driver; print what came of it as JSON."""
    import ray

    from hemo.cluster.session import connected
    from hemo.config.types import ClusterConfig

    with connected(ClusterConfig(address=address)):
        with counted_nodes() as timeline:
            began = time.monotonic()
            result = DRIVERS[job](scratch, address)
            seconds = time.monotonic() - began
        while job == "convert" and any(node_counts().values()) and time.monotonic() - began - seconds < GONE_S:
            time.sleep(SAMPLE_S)
        gone_s = time.monotonic() - began - seconds
        left = node_counts()
    ray.shutdown()
    print(json.dumps({**result, "seconds": seconds, "timeline": timeline, "gone_s": gone_s, "left": left}))


def node_counts() -> dict[str, int]:
    """Return how many nodes of each kind are there; the head is none of them."""
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    return dict(Counter("train" if "GPU" in resources else "convert" for resources in nodes))


@contextmanager
def counted_nodes() -> Iterator[Timeline]:
    """Count nodes while the block runs."""
    timeline: Timeline = []
    ended, began = threading.Event(), time.monotonic()

    def count() -> None:
        while not ended.wait(SAMPLE_S):
            counts = node_counts()
            if not timeline or counts != timeline[-1][1]:
                timeline.append((round(time.monotonic() - began, 1), counts))

    thread = threading.Thread(target=count)
    thread.start()
    try:
        yield timeline
    finally:
        ended.set()
        thread.join()


def faults(job: str, result: dict[str, Any]) -> Iterator[str]:
    """Yield what must not have been."""
    most = Counter[str]()
    for _, counts in result["timeline"]:
        most |= Counter(counts)
    if result["left"] and job == "convert":  # the others still hold or ask for what they had
        yield f"nodes stayed: {result['left']}"
    if job == "convert" and (most["train"] or most["convert"] < 2):
        yield f"a conversion had {most['convert']} nodes for it and {most['train']} with a GPU at most"
    if job == "held" and sum(result["at_last"].values()) > sum(result["at_first"].values()):
        yield f"nodes came while images waited: {result['at_first']}, then {result['at_last']}"
    if job == "line" and (most["train"] or most["convert"] < 2 or not result["predicted"]):
        yield f"the line did not end on convert nodes alone: {result}"
    if job == "train" and (not most["train"] or "GPU" not in result.get("failed", "")):
        yield f"not on a GPU node alone: {result}"


def main() -> None:
    """Make a corpus, start the cluster, run the jobs."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--units", type=int, default=64, help="of 8 files, 0.8 s each on one CPU")
    arguments.add_argument("--jobs", nargs="+", choices=tuple(DRIVERS), default=JOBS)
    arguments.add_argument("--drive", nargs=3, metavar=("JOB", "FOLDER", "ADDRESS"), help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.drive:
        job, folder, address = given.drive
        drive(job, Path(folder), address)
        return
    here = Path(__file__).resolve()
    paths = [str(here.parent), str(here.parents[1]), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))  # of nodes too: they start with this environment
    found = 0
    with tempfile.TemporaryDirectory(prefix="hemo-scale-") as folder:
        make_corpus(Path(folder, "corpus"), given.units * UNIT_FILES)
        session = Path(folder, "ray")
        session.mkdir()
        with autoscaled(session, convert=NODES, train=1) as cluster:
            for job in given.jobs:
                command = [sys.executable, str(here), "--drive", job, folder, cluster.address]
                ended = subprocess.run(
                    command, env=cluster.environment, stdout=subprocess.PIPE, text=True, check=True, timeout=JOB_S
                )
                found += show(job, json.loads(ended.stdout.splitlines()[-1]))
    sys.exit(bool(found))


def show(job: str, result: dict[str, Any]) -> int:
    """Print how a job went; return how many faults it has."""
    print(f"## {job}\n\n| s | convert nodes | train nodes |\n| --- | --- | --- |")
    for seconds, counts in result["timeline"]:
        print(f"| {seconds} | {counts.get('convert', 0)} | {counts.get('train', 0)} |")
    left = "" if result["left"] else f"; no node was left {result['gone_s']:.0f} s later"
    print(f"\n{result['seconds']:.1f} s{left}")
    if "failed" in result:
        print(f"\n    {result['failed']}")
    wrong = list(faults(job, result))
    for name, end in result.get("ends", {}).items():
        print(f"- {name}: {end['seconds']} s, nodes then {end['nodes']}")
    print("".join(f"\nFAULT: {fault}\n" for fault in wrong), flush=True)
    return len(wrong)


def make_corpus(folder: Path, files: int) -> None:
    """Make a corpus of one slice under many names."""
    from hemo.synthetic.plan import plan_corpus
    from hemo.synthetic.slice_file import make_slice_file

    folder.mkdir()
    (plan,) = plan_corpus(slices=1, seed=0, positive_fraction=0.0, faults=False)
    data = make_slice_file(plan).data
    for number in range(files):
        (folder / f"ID_{number:06d}.dcm").write_bytes(data)


if __name__ == "__main__":
    main()
