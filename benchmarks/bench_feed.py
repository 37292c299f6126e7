"""How fast images reach the training loop, whole epochs beside a raw read of the same Parquet files and two peers.

    python benchmarks/bench_feed.py --images 50000

On one training set, in one run, round by round, with a warm page cache. Its images are synthetic head CT, `--distinct`
of them, repeated under names of their own; how far they were compressed is printed. Whole epochs of batches of 64, from
the moment an epoch begins to its last batch, as uint8 on the CPU; the model's work is in none of them:

    pyarrow      the image columns of all parts, read and viewed as arrays by one thread, in stored order: the limit
    pyarrow all  the same, the parts shared out among as many threads as there are CPUs
    load         once a node: all columns to one array a split
    resident     hemo, from that array, in the shuffled order of training
    streaming    hemo, from the parts, in the same order
    Ray Data     `read_parquet` and `iter_torch_batches`, in no particular order
    PNG          torch's DataLoader with two workers on `--png` of the images as PNG files, decoded by Pillow; the
                 workers are up before the clock starts

Prints images/s, the ratio to pyarrow and the seconds to the first batch, in the first epoch (for streaming with
opening the set, for resident without what `load` takes before it) and in later ones, as a Markdown table.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray.data
import torch
from made_training_set import stored_bytes, write_training_set
from numpy.typing import NDArray
from PIL import Image
from ray.data.collate_fn import ArrowBatchCollateFn
from replicas import replicated_corpus
from torch.utils.data import DataLoader, Dataset

from hemo.cluster.convert.job import convert_corpus
from hemo.cluster.curate import curate_corpus
from hemo.cluster.session import connected
from hemo.config.convert import ConvertConfig
from hemo.config.curate import CurateConfig
from hemo.config.types import ClusterConfig
from hemo.curation.card import read_card
from hemo.shards.reader import images_of
from hemo.training.data.dataset import read_split, read_training_set
from hemo.training.data.examples import Examples, ImageSet
from hemo.training.data.loader import device_batches
from hemo.training.data.sampling import epoch_rows

BATCH_SIZE = 64
CPU = torch.device("cpu")


@dataclass
class Contender:
    """One way to get images, and how it did in each round."""

    images: int  # an epoch
    epoch: Callable[[int], Iterable[Any]]  # epoch, 1-based -> its batches
    rates: list[float] = field(default_factory=list)  # images/s
    first_seconds: list[float] = field(default_factory=list)  # to the first batch

    def run(self, number: int) -> None:
        """Take one epoch."""
        began, first = time.perf_counter(), None
        for _ in self.epoch(number):
            first = first or time.perf_counter()
        self.rates.append(self.images / (time.perf_counter() - began))
        self.first_seconds.append((first or began) - began)


def main() -> None:
    """Make the training set, run the contenders in turn, print the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--images", type=int, default=50_000, help="training images; they are held in memory once")
    arguments.add_argument("--distinct", type=int, default=2_048)
    arguments.add_argument("--png", type=int, default=2_048)
    arguments.add_argument("--side_px", type=int, default=224)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--scratch", help="folder for some 80 KB an image, removed in the end")
    given = arguments.parse_args()
    pa.set_cpu_count(1)
    torch.set_num_threads(1)
    with (
        tempfile.TemporaryDirectory(prefix="hemo-bench-", dir=given.scratch) as scratch,
        connected(ClusterConfig(address="local", temp_dir=f"{scratch}/ray")),
    ):
        images = distinct_images(Path(scratch), given.distinct, given.side_px)
        training_set = write_training_set(Path(scratch, "set"), images, {"train": given.images, "val": 64, "test": 64})
        write_png(Path(scratch, "png"), images[: given.png])
        print_size(training_set, given.images, images.shape[1:])
        contenders = all_contenders(training_set, Path(scratch, "png"), images.shape[1:])
        del images
        for number in range(1, given.rounds + 1):
            for contender in contenders.values():
                contender.run(number)
    print_table(contenders)


def distinct_images(scratch: Path, slices: int, side_px: int) -> NDArray[np.uint8]:
    """Return images of a curated training set of synthetic slices, shape (images, 3, side_px, side_px)."""
    corpus, labels = replicated_corpus(scratch, slices)
    converted = convert_corpus(
        ConvertConfig(source=str(corpus), corpus="rsna", out=str(scratch / "converted"), side_px=side_px)
    )
    curated = curate_corpus(
        CurateConfig(shards=converted, labels=str(labels), out=str(scratch / "curated"), split="by_patient")
    )
    pixels: NDArray[np.uint8] = read_training_set(curated).train.images.pixels
    return pixels


def all_contenders(training_set: str, png: Path, shape: tuple[int, ...]) -> dict[str, Contender]:
    """Return every way to get the images, by its name in the table."""
    parts = sorted(Path(training_set, "train").glob("*.parquet"))
    rows = read_card(training_set).splits["train"].rows
    loaded: list[ImageSet] = []

    def load(_: int) -> Iterator[int]:
        loaded.clear()  # before the next is made: there is memory for one
        loaded.append(read_set(training_set, streaming=False))
        yield rows

    opened: list[ImageSet] = []

    def streaming(number: int) -> Iterator[torch.Tensor]:
        if number == 1:
            opened.append(read_set(training_set, streaming=True))
        return one_epoch(opened[0], number)

    files = PngFiles(sorted(png.glob("*.png")))
    loader = DataLoader(
        files, BATCH_SIZE, shuffle=True, num_workers=2, persistent_workers=True, multiprocessing_context="spawn"
    )
    for _ in loader:
        pass  # the workers are up
    return {
        "pyarrow": Contender(rows, lambda _: raw_batches(parts, shape)),
        "pyarrow all": Contender(rows, lambda _: shared_out(parts, shape)),
        "load": Contender(rows, load),
        "resident": Contender(rows, lambda number: one_epoch(loaded[0], number)),
        "streaming": Contender(rows, streaming),
        "Ray Data": Contender(rows, lambda _: ray_batches(training_set, shape)),
        "PNG": Contender(len(files), lambda _: loader),
    }


def read_set(training_set: str, *, streaming: bool) -> ImageSet:
    """Open or load the training split."""
    return read_split(training_set, "train", read_card(training_set), streaming=streaming)


def one_epoch(source: ImageSet, epoch: int) -> Iterator[torch.Tensor]:
    """Yield every image once, in the order of training."""
    examples = Examples(source, np.arange(len(source.labels)), source.labels, 0)
    order = epoch_rows(examples.block_of, seed=0, epoch=epoch, rank=0, workers=1, batch_size=BATCH_SIZE)
    return device_batches(examples, [step.rows for step in order], CPU)


def raw_batches(parts: list[Path], shape: tuple[int, ...]) -> Iterator[int]:
    """Read the pixels of parts and view them as arrays; nothing is kept."""
    for part in parts:
        for batch in pq.ParquetFile(part).iter_batches(batch_size=128, columns=["image"], use_threads=False):
            yield len(images_of(batch["image"], shape))


def shared_out(parts: list[Path], shape: tuple[int, ...]) -> Iterator[int]:
    """Read the parts with one thread a CPU."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(lambda part: sum(raw_batches([part], shape)), parts)


class Collate(ArrowBatchCollateFn):
    """Arrow batches to tensors, with the one copy that torch needs."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        """Remember the shape of an image."""
        self._shape = shape

    def __call__(self, batch: pa.Table) -> torch.Tensor:
        """Return the images, uint8."""
        return torch.from_numpy(images_of(batch["image"].combine_chunks(), self._shape).copy())


def ray_batches(training_set: str, shape: tuple[int, ...]) -> Iterable[torch.Tensor]:
    """Yield batches by Ray Data alone."""
    dataset = ray.data.read_parquet(f"{training_set}/train").select_columns(["image"])
    return dataset.iter_torch_batches(batch_size=BATCH_SIZE, prefetch_batches=4, collate_fn=Collate(shape))


class PngFiles(Dataset[torch.Tensor]):
    """Images in files of their own."""

    def __init__(self, files: list[Path]) -> None:
        """Remember the files."""
        self._files = files

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._files)

    def __getitem__(self, at: int) -> torch.Tensor:
        """Return one image, (3, height_px, width_px), uint8."""
        with Image.open(self._files[at]) as image:
            return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def write_png(folder: Path, images: NDArray[np.uint8]) -> None:
    """Write images as RGB files."""
    folder.mkdir()
    for number, image in enumerate(images):
        Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))).save(folder / f"{number:06d}.png")


def print_size(training_set: str, images: int, shape: tuple[int, ...]) -> None:
    """Print what the run is about."""
    raw, stored = images * int(np.prod(shape)), stored_bytes(training_set)
    sizes = f"{raw / 1e9:.2f} GB, {stored / 1e9:.2f} GB on disk ({raw / stored:.1f} : 1)"
    print(f"\n{images} training images of {shape}: {sizes}")


def print_table(contenders: dict[str, Contender]) -> None:
    """Print medians over the rounds, ratios within a round, and each round's figures."""
    limit, peer = contenders["pyarrow"].rates, contenders["PNG"].rates
    print("\n| contender | images/s | x pyarrow | x PNG | first batch, epoch 1 (s) | later (s) |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, contender in contenders.items():
        ratios = [
            statistics.median(own / other for own, other in zip(contender.rates, base, strict=True))
            for base in (limit, peer)
        ]
        first, *later = contender.first_seconds
        seconds = f"{first:.2f} | {statistics.median(later or [first]):.2f}"
        print(f"| {name} | {statistics.median(contender.rates):,.0f} | {ratios[0]:.2f} | {ratios[1]:.1f} | {seconds} |")
    for name, contender in contenders.items():
        print(f"{name}: {', '.join(f'{rate:,.0f}' for rate in contender.rates)} images/s by round")


if __name__ == "__main__":
    main()
