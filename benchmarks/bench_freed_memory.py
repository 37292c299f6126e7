"""What it is worth that a process keeps the memory of freed tensors: time of a training step and of a forward pass.

    python benchmarks/bench_freed_memory.py --threads 2

Batches of 32 images of noise, three channels, float32, channels-last, Adam. Each run is a process of its own, since the
setting cannot be taken back: with glibc's own setting and with hemo's in turn. Times are the least of all runs, page
faults those of one step.
"""

import argparse
import multiprocessing
import resource
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import timm
import torch

from hemo.freed_memory import keep_tensors

MODELS = (
    ("tf_efficientnet_lite0", 64),
    ("tf_efficientnet_lite0", 160),
    ("mobilenetv1_100", 160),
    ("resnet50", 64),
    ("resnet50", 160),
    ("densenet121", 160),
    ("vit_tiny_patch16_224", 224),
)
RUNS, REPEATS = 2, 4


@dataclass(frozen=True)
class Measured:
    """One run."""

    step_s: float
    forward_s: float
    faults: int  # of a step
    most_memory_mb: int


def main() -> None:
    """Print a line for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    threads = parser.parse_args().threads
    print("| model | px | step (s) | kept | ratio | forward (s) | kept | ratio | faults a step | most memory (MB) |")
    print("| --- " * 10 + "|")
    for name, side_px in MODELS:
        plain, kept = [], []
        for _ in range(RUNS):
            plain.append(in_own_process(name, side_px, threads, keep=False))
            kept.append(in_own_process(name, side_px, threads, keep=True))
        columns = (
            ratio([run.step_s for run in plain], [run.step_s for run in kept]),
            ratio([run.forward_s for run in plain], [run.forward_s for run in kept]),
            f"{plain[0].faults:,}, {kept[0].faults:,}",
            f"{plain[0].most_memory_mb:,}, {kept[0].most_memory_mb:,}",
        )
        print(f"| {name} | {side_px} | {' | '.join(columns)} |", flush=True)


def ratio(plain: Sequence[float], kept: Sequence[float]) -> str:
    """Return the least time of each and their ratio, as three columns."""
    return f"{min(plain):.3f} | {min(kept):.3f} | {min(plain) / min(kept):.2f}"


def in_own_process(name: str, side_px: int, threads: int, *, keep: bool) -> Measured:
    """Return what a new process measures."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, name, side_px, threads, keep=keep).result()


def measure(name: str, side_px: int, threads: int, *, keep: bool) -> Measured:
    """Time steps and forward passes in this process."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    if keep:
        keep_tensors()
    model = timm.create_model(name, num_classes=1).train().to(memory_format=torch.channels_last)
    images = torch.randn(32, 3, side_px, side_px).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), 1e-4)

    def step() -> None:
        optimizer.zero_grad()
        model(images).square().mean().backward()
        optimizer.step()

    step()
    step_s, faults = least(step)
    model.eval()
    with torch.inference_mode():
        model(images)
        forward_s, _ = least(lambda: model(images))
    return Measured(step_s, forward_s, faults, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


def least(work: Callable[[], object]) -> tuple[float, int]:
    """Return the least time of several calls, and the least number of page faults."""
    found = []
    for _ in range(REPEATS):
        before, began = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.perf_counter()
        work()
        found.append((time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before))
    times, faults = zip(*found, strict=True)
    return min(times), min(faults)


if __name__ == "__main__":
    main()
