"""What the flags and statistics of a slice cost, pass by pass.

    python benchmarks/bench_flags.py --slices 32 --rounds 20

On synthetic 512 x 512 slices in HU, one thread, no file read: the fastest round of each pass, in milliseconds a slice.
"""

import argparse
import time
from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from hemo.imaging.image import pixel_digest
from hemo.imaging.slice_image import brain_fraction, head_box, hounsfield_flags

SIDE_PX = 512


def main() -> None:
    """Time each pass and print the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--slices", type=int, default=32)
    arguments.add_argument("--rounds", type=int, default=20)
    given = arguments.parse_args()
    cv2.setNumThreads(1)
    slices = [made_slice(seed) for seed in range(given.slices)]
    passes: dict[str, Callable[[NDArray[np.int16]], object]] = {
        "brain fraction": brain_fraction,
        "blank, little brain, noise, padded": lambda hu: hounsfield_flags(hu, brain=0.2),
        "digest": pixel_digest,
        "box of the head (`crop: head` only)": head_box,
    }
    print("| pass | ms a slice |\n| --- | --- |")
    for name, run in passes.items():
        print(f"| {name} | {1000 * fastest_s(run, slices, given.rounds):.4f} |")


def fastest_s(run: Callable[[NDArray[np.int16]], object], slices: Sequence[NDArray[np.int16]], rounds: int) -> float:
    """Return the seconds a slice of the fastest round."""
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        for hu in slices:
            run(hu)
        times.append((time.perf_counter() - started) / len(slices))
    return min(times)


def made_slice(seed: int) -> NDArray[np.int16]:
    """Return a disc of brain in a ring of bone in air, with noise, in HU."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[:SIDE_PX, :SIDE_PX] - SIDE_PX / 2
    radius = np.hypot(rows, cols * 1.2)
    hu = np.select([radius < 190, radius < 205], [35.0, 900.0], -1000.0)
    return np.rint(hu + rng.normal(0, 6, hu.shape)).astype(np.int16)


if __name__ == "__main__":
    main()
