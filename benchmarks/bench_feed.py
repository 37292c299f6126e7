"""How fast images reach the training loop, beside a raw read of the same Parquet files.

    python benchmarks/bench_feed.py --slices 4096

On one training set of synthetic head CT, in one run, with a warm page cache, on one thread:

    pyarrow   the image columns of all training parts, read and viewed as arrays: the limit of any feed that reads
    load      what a trial pays once: all columns to one array a split, in the driver
    shared    what each further trial on the node pays: the set from Ray's object store
    feed      what every epoch pays: uint8 batches of 64 in a new order

Prints images/s and ratios to pyarrow as a Markdown table. The model's own work is in none of them.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from replicas import replicated_corpus

from hemo.cluster.convert import convert_corpus
from hemo.cluster.curate import curate_corpus
from hemo.cluster.feed import get_training_set, put_training_set
from hemo.cluster.session import connected
from hemo.config.cluster import ClusterConfig
from hemo.config.convert import ConvertConfig
from hemo.config.curate import CurateConfig
from hemo.learning.batch import to_device
from hemo.learning.images import TrialData, read_training_set
from hemo.learning.order import epoch_rows
from hemo.shards.read import images_of

BATCH_SIZE = 64


def main() -> None:
    """Make the training set, run the contenders in turn, print the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--slices", type=int, default=4096)
    arguments.add_argument("--side_px", type=int, default=224)
    arguments.add_argument("--rounds", type=int, default=5)
    given = arguments.parse_args()
    pa.set_cpu_count(1)
    torch.set_num_threads(1)
    with (
        tempfile.TemporaryDirectory(prefix="hemo-bench-") as scratch,
        connected(ClusterConfig(address="local", temp_dir=f"{scratch}/ray")),
    ):
        training_set = make_training_set(Path(scratch), given.slices, given.side_px)
        data = read_training_set(training_set)
        resident = put_training_set(training_set)
        total = sum(count.rows for count in data.card.splits.values())
        train = len(data.train.images)
        contenders: dict[str, tuple[int, Callable[[], object]]] = {
            "pyarrow": (train, lambda: read_raw(training_set, data)),
            "load": (total, lambda: read_training_set(training_set)),
            "shared": (total, lambda: get_training_set(resident)),
            "feed": (train, lambda: one_epoch(data)),
        }
        rates: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(given.rounds):
            for name, (images, run) in contenders.items():
                started = time.perf_counter()
                run()
                rates[name].append(images / (time.perf_counter() - started))
    print_table(rates, f"{train} training images of {data.train.images.shape[1:]}, {given.rounds} rounds")


def make_training_set(scratch: Path, slices: int, side_px: int) -> str:
    """Return a curated training set of synthetic slices."""
    corpus, labels = replicated_corpus(scratch, slices)
    converted = convert_corpus(
        ConvertConfig(source=str(corpus), corpus="rsna", out=str(scratch / "converted"), side_px=side_px)
    )
    return curate_corpus(
        CurateConfig(shards=converted, labels=str(labels), out=str(scratch / "set"), split="by_patient", part_rows=1024)
    )


def read_raw(training_set: str, data: TrialData) -> int:
    """Read the pixels of every training part and view them as arrays; nothing is kept."""
    rows = 0
    for part in sorted(Path(training_set, "train").glob("*.parquet")):
        for batch in pq.ParquetFile(part).iter_batches(batch_size=128, columns=["image"], use_threads=False):
            rows += len(images_of(batch["image"], data.train.images.shape[1:]))
    return rows


def one_epoch(data: TrialData) -> int:
    """Take every training image once, shuffled, as uint8 batches on the CPU."""
    rows, device, seen = len(data.train.images), torch.device("cpu"), 0
    for step in epoch_rows(rows, seed=0, epoch=1, rank=0, workers=1, batch_size=BATCH_SIZE):
        seen += len(to_device(data.train, step.rows, device))
    return seen


def print_table(rates: dict[str, list[float]], heading: str) -> None:
    """Print medians over the rounds, the ratio within a round, and each round's figure."""
    print(f"\n{heading}\n\n| contender | images/s | x pyarrow |\n| --- | --- | --- |")
    for name, values in rates.items():
        ratio = statistics.median(own / limit for own, limit in zip(values, rates["pyarrow"], strict=True))
        print(f"| {name} | {statistics.median(values):,.0f} | {ratio:,.2f} |")
    for name, values in rates.items():
        print(f"{name}: {', '.join(f'{value:,.0f}' for value in values)} images/s by round")


if __name__ == "__main__":
    main()
