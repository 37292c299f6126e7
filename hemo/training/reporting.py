"""What training reports: metrics epoch by epoch, its result, and too little memory, with the batch size."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from hemo.errors import HemoError
from hemo.models.classifier import ImageClassifier
from hemo.models.normalisation import Normalisation
from hemo.training.metrics import SplitFigures

Ended = Literal["epochs", "patience", "stopped"]

NOTABLE_WAITING = 0.05
"""Share of an epoch without images above which its line says so."""

OUT_OF_MEMORY_WORDS = ("can't allocate memory", "ALLOC_FAILED")
"""What torch's plain RuntimeErrors say where the CPU, or a library of the GPU, could not set memory aside."""


def to_stderr(line: str) -> None:
    """Write one line to standard error."""
    sys.stderr.write(line + "\n")


@dataclass(frozen=True)
class EpochFigures:
    """One epoch. Losses are means over images; `train` is measured while learning, dropout and augmentation on."""

    epoch: int  # 1-based
    train: dict[str, float]
    val: dict[str, float]
    learning_rate: float  # of the last step
    seconds: float
    images_per_second: float  # training images over the time spent training
    first_batch_seconds: float = 0.0  # from the beginning of the epoch until its first batch was there
    waiting_seconds: float = 0.0  # of the time spent training, without images
    timestamp: float = 0.0  # when it ended, seconds since 1970 (UTC)
    runtime_seconds: float = 0.0  # of this epoch and those before, whatever interrupted them


@dataclass(frozen=True)
class FitResult:
    """What `fit` returns. A fit that its reporter stopped is not judged: it has no `judged` and no `logits`."""

    model: ImageClassifier  # with the best epoch's weights
    normalisation: Normalisation
    baseline: dict[str, dict[str, float]]  # split -> metric, before the first epoch
    epochs: tuple[EpochFigures, ...]
    best_epoch: int
    ended: Ended
    thresholds: tuple[float, ...] = ()  # one a class, of validation; empty for `multi_class`
    judged: dict[str, SplitFigures] = field(default_factory=dict)  # train, val, test; at `thresholds`
    logits: dict[str, NDArray[np.float32]] = field(default_factory=dict)  # val, test -> (examples, classes)

    @property
    def metrics(self) -> dict[str, dict[str, float]]:
        """Split -> metric."""
        return {split: figures.metrics for split, figures in self.judged.items()}

    @property
    def seconds(self) -> float:
        """Learning time: training and validation of all epochs, without loading."""
        return sum(figures.seconds for figures in self.epochs)


class Reporter(Protocol):
    """Who is told of each epoch, on every worker, and may stop the trial. Tune, Ray Train and trackers plug in here."""

    def epoch(self, figures: EpochFigures) -> bool:
        """Take one epoch's figures; False stops the trial, which is then pruned. Rank 0's answer counts."""
        ...


@dataclass(frozen=True)
class LineReporter:
    """Says one line an epoch, to standard error unless told otherwise, and never stops."""

    say: Callable[[str], object] = to_stderr

    def epoch(self, figures: EpochFigures) -> bool:
        """Say the line and go on."""
        self.say(epoch_line(figures))
        return True


class QuietReporter:
    """Says nothing and never stops: for workers other than the first."""

    def epoch(self, figures: EpochFigures) -> bool:
        """Go on."""
        return True


def epoch_line(figures: EpochFigures) -> str:
    """Return one epoch as a line of text."""
    shown = [
        f"{split} {name} {values[name]:.4f}"
        for split, values in (("train", figures.train), ("val", figures.val))
        for name in ("loss", "accuracy", "auroc")
        if name in values
    ]
    times = [f"{figures.seconds:.1f} s", f"{figures.images_per_second:.0f} images/s"]
    if figures.waiting_seconds > NOTABLE_WAITING * figures.seconds:
        times.append(f"{figures.waiting_seconds:.1f} s waiting for images")
    return f"epoch {figures.epoch}: {', '.join(shown)} ({', '.join(times)})"


@contextmanager
def memory_told(batch_size: int, error_type: type[HemoError]) -> Iterator[None]:
    """Turn whatever means too little memory into an error that names the batch size and proposes half of it.

    Args:
        batch_size: Images at once.
        error_type: Of the error.

    Raises:
        HemoError: Of that type.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise error_type(out_of_memory_message(batch_size, batch_size // 2)) from error


def out_of_memory_message(batch_size: int, smaller: int, *, tried: bool = False) -> str:
    """Return what went wrong and the way out.

    Args:
        batch_size: Images at once that were too many.
        smaller: Images at once to propose; 0: none.
        tried: Whether a training step with `smaller` images was seen to fit.
    """
    proposed = f"batch_size {smaller}{', a step of which fits,' if tried else ','} " if smaller else ""
    return f"out of memory with batch_size {batch_size}; try {proposed}smaller images or another backbone"


def is_out_of_memory(error: RuntimeError | MemoryError) -> bool:
    """Tell whether an error means too little memory; torch has a class for that on a GPU only."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return any(words in str(error) for words in OUT_OF_MEMORY_WORDS)
