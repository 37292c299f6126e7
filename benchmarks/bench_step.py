"""How fast each of the sources' backbones learns: batches that lie on the device already, beside the real feed.

    python benchmarks/bench_step.py --side_px 64

Needs neither Ray nor a corpus: its training set is made of smooth noise. On a GPU in bf16 and channels-last, with and
without `torch.compile`; else on `--threads` CPU threads in float32. A step is forward, loss, backward and optimiser.

    synthetic   one batch of floats, on the device from the beginning, in every step
    fed         batches as a trial gets them: from the training set, resident or streamed, in the order of training,
                copied, normalised and flipped; from the beginning of an epoch to the end of its last step

Prints images/s, the median of `--rounds` in which both were timed in turn, and fed over synthetic within a round.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from pathlib import Path

import torch
from made_training_set import smooth_images, write_training_set
from torch import Tensor, nn

from hemo.config.trial import AugmentConfig, ModelConfig, TrainingConfig, TrialConfig
from hemo.models.backbones import SOURCES_BACKBONES
from hemo.models.classifier import mixed_precision
from hemo.models.pretrained import normalisation_of, starting_model
from hemo.training.data.dataset import read_training_set, select_splits
from hemo.training.data.examples import Examples
from hemo.training.data.loader import DataWaitTime, TrainingBatches
from hemo.training.data.sampling import epoch_rows
from hemo.training.loss import ImageLoss, build_loss
from hemo.training.optim import build_optimizer

Batch = tuple[Tensor, Tensor]


def main() -> None:
    """Make the training set, run the backbones one after the other, print a line each."""
    given = arguments().parse_args()
    torch.set_num_threads(given.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {given.threads} threads"
    print(f"{name}, torch {torch.__version__}, batches of {given.batch_size}, {given.images} images an epoch\n")
    print("| backbone | side (px) | compile | feed | synthetic (images/s) | fed (images/s) | fed / synthetic |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory(prefix="hemo-bench-") as scratch:
        for backbone in given.backbones:
            side_px = max(given.side_px, given.inception_px) if backbone == "InceptionV3" else given.side_px
            training_set = made_set(Path(scratch, str(side_px)), side_px, given.images)
            for compiled in [False, True] if device.type == "cuda" else [False]:
                for feed in given.feeds:
                    config = trial(backbone, given.batch_size, compiled=compiled)
                    train = select_splits(read_training_set(training_set, streaming=feed == "streaming"), config).train
                    rates = measured(Bench.begun(config, train, device), given.rounds)
                    print(f"| {backbone} | {side_px} | {'on' if compiled else 'off'} | {feed} | {rates} |", flush=True)


def arguments() -> argparse.ArgumentParser:
    """Return the flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="+", default=list(SOURCES_BACKBONES))
    parser.add_argument("--feeds", nargs="+", default=["resident", "streaming"])
    parser.add_argument("--side_px", type=int, default=224)
    parser.add_argument("--inception_px", type=int, default=96, help="side for InceptionV3 at least, which takes 75 up")
    parser.add_argument("--images", type=int, default=2_048)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    return parser


def made_set(folder: Path, side_px: int, images: int) -> str:
    """Return a training set of this side, made if there is none yet."""
    if not folder.exists():
        write_training_set(folder, smooth_images(256, side_px), {"train": images, "val": 2, "test": 2})
    return str(folder)


def trial(backbone: str, batch_size: int, *, compiled: bool) -> TrialConfig:
    """Return a trial with random weights and flips."""
    return TrialConfig(
        model=ModelConfig(backbone=backbone),
        training=TrainingConfig(batch_size=batch_size, compile=compiled),
        augment=AugmentConfig(horizontal_flip=0.5),
    )


@dataclass(frozen=True)
class Bench:
    """A model that learns."""

    config: TrialConfig
    batches: TrainingBatches
    forward: nn.Module
    optimizer: torch.optim.Optimizer
    loss: ImageLoss
    device: torch.device

    @classmethod
    def begun(cls, config: TrialConfig, train: Examples, device: torch.device) -> "Bench":
        """Build the model on the device, as a trial does."""
        _, channels, height_px, width_px = train.source.images.shape
        module = starting_model(config.model, channels=channels, sides_px=(height_px, width_px), classes=1)
        module = module.to(device).train()
        targets = torch.from_numpy(train.labels).to(device, torch.float32)
        return cls(
            config,
            TrainingBatches(train, targets, config.augment, 0, normalisation_of(config.model, channels)),
            torch.compile(module, dynamic=False) if config.training.compile else module,
            build_optimizer(module, config.training, device),
            build_loss(config, ("any",), targets),
            device,
        )

    def fed(self, epoch: int) -> Iterable[Batch]:
        """Return the batches of one epoch."""
        rows = self.batches.examples.block_of
        size = self.config.training.batch_size
        order = epoch_rows(rows, seed=0, epoch=epoch, rank=0, workers=1, batch_size=size)
        return self.batches.epoch_batches(order, epoch, DataWaitTime())

    def images_per_second(self, batches: Callable[[], Iterable[Batch]]) -> float:
        """Take one step a batch."""
        began, images = time.perf_counter(), 0
        for inputs, targets in batches():
            self.optimizer.zero_grad(set_to_none=True)
            with mixed_precision(self.device):
                logits = self.forward(inputs)
            self.loss(logits, targets).mean().backward()
            self.optimizer.step()
            images += len(inputs)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return images / (time.perf_counter() - began)


def measured(bench: Bench, rounds: int) -> str:
    """Return images/s of both kinds of batches and their ratio, as cells of a table."""
    batches = iter(bench.fed(1))
    first = last = next(batches)
    steps = 1
    for batch in batches:
        last, steps = batch, steps + 1
    bench.images_per_second(lambda: [first, first, last])  # both sizes of step: compiled for, and the memory is there
    synthetic, fed = [], []
    for number in range(1, rounds + 1):
        synthetic.append(bench.images_per_second(lambda: repeat(first, steps)))
        fed.append(bench.images_per_second(partial(bench.fed, number)))
    ratio = statistics.median(own / other for own, other in zip(fed, synthetic, strict=True))
    return f"{statistics.median(synthetic):,.1f} | {statistics.median(fed):,.1f} | {ratio:.3f}"


if __name__ == "__main__":
    main()
