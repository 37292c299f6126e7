"""How well `plan` foretells `convert`: the hours of a run several times as large as what was measured.

    python benchmarks/bench_plan.py --slices 10240

Makes a corpus of synthetic 512 x 512 slices, plans its conversion from at most a fifth of it on a fresh local Ray,
converts all of it on another one, and prints both times and their ratio. Ray's own start is in neither.
"""

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from replicas import replicated_corpus

from hemo.cluster.convert.job import convert_corpus
from hemo.cluster.convert.plan import plan_conversion
from hemo.cluster.session import connected
from hemo.config.convert import ConvertConfig, PlanConfig
from hemo.config.types import ClusterConfig

TIMES_LARGER = 5


def main() -> None:
    """Make the corpus; plan and convert it some times; print the ratios."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--slices", type=int, default=10240)
    arguments.add_argument("--side_px", type=int, default=256)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--cores", type=int, default=os.cpu_count() or 1)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="hemo-bench-") as scratch:
        cluster = ClusterConfig(address="local", cpus=given.cores, temp_dir=f"{scratch}/ray")
        with connected(cluster):
            corpus, _ = replicated_corpus(Path(scratch), given.slices)
        wanted = {
            "source": str(corpus),
            "corpus": "rsna",
            "out": f"{scratch}/out",
            "side_px": given.side_px,
            "max_reject_fraction": 1,
            "cluster": cluster,
        }
        files_per_cpu = given.slices // TIMES_LARGER // given.cores
        rounds = [one_round(wanted, files_per_cpu) for _ in range(given.rounds)]
    print_table(rounds, given)


def one_round(wanted: dict[str, object], files_per_cpu: int) -> tuple[float, float, dict[str, float]]:
    """Return seconds foretold, seconds taken, and what was measured."""
    config = PlanConfig.model_validate({**wanted, "nodes": (1,), "files_per_cpu": files_per_cpu})
    with connected(config.cluster):
        plan = json.loads(Path(plan_conversion(config)).read_text())
    shutil.rmtree(config.out)
    with connected(config.cluster):
        started = time.perf_counter()
        convert_corpus(ConvertConfig.model_validate(wanted))
        taken_s = time.perf_counter() - started
    shutil.rmtree(config.out)
    return plan["estimates"][0]["hours"] * 3600, taken_s, plan["calibration"]


def print_table(rounds: list[tuple[float, float, dict[str, float]]], given: argparse.Namespace) -> None:
    """Print foretold, taken and their ratio by round, and what the plan rests on."""
    print(f"\n{given.slices} slices of 512 x 512 to {given.side_px} px, {given.cores} cores, a fifth measured\n")
    print("| round | foretold s | taken s | foretold / taken |\n| --- | --- | --- | --- |")
    for number, (foretold_s, taken_s, _) in enumerate(rounds, start=1):
        print(f"| {number} | {foretold_s:.2f} | {taken_s:.2f} | {foretold_s / taken_s:.2f} |")
    print(f"median ratio {statistics.median(foretold / taken for foretold, taken, _ in rounds):.3f}")
    for number, (*_, measured) in enumerate(rounds, start=1):
        print(f"round {number}: " + ", ".join(f"{name} {value:.4g}" for name, value in measured.items()))


if __name__ == "__main__":
    main()
