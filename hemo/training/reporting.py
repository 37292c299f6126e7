"""What training reports: an epoch as a line, the result of a fit, and out of memory with a batch size that fits."""

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from hemo.errors import HemoError
from hemo.models.classifier import ImageClassifier, Normalisation
from hemo.models.sequence import SequenceClassifier
from hemo.stats.calibration import Calibration
from hemo.training.results import EpochMetrics, SplitMetrics

Ended = Literal["epochs", "patience", "stopped"]

R = TypeVar("R")
Epochs = Generator[EpochMetrics, bool | None, R]
"""Yields each epoch's metrics; `send(True)` stops it; returns what came of it. A generator of one trial's epochs."""

NOTABLE_DATA_WAIT = 0.05
"""Fraction of an epoch without images from which its line shows the data wait time."""

OUT_OF_MEMORY_WORDS = ("can't allocate memory", "ALLOC_FAILED")
"""In torch's plain RuntimeErrors where the CPU, or a library of the GPU, could not allocate memory."""


@dataclass(frozen=True)
class FitResult:
    """What `fit` returns. A fit that was stopped is not evaluated: its `evaluated` and `logits` are empty."""

    model: ImageClassifier | SequenceClassifier  # with the best epoch's weights
    normalisation: Normalisation | None  # of images; None: the model takes studies
    baseline: dict[str, dict[str, float]]  # split -> metric, before the first epoch
    epochs: tuple[EpochMetrics, ...]
    best_epoch: int
    ended: Ended
    calibration: Calibration = field(default_factory=Calibration)
    # rule -> thresholds, one a class, None where validation could not choose one; the trial's own rule comes first
    operating_points: dict[str, tuple[float | None, ...]] = field(default_factory=dict)
    evaluated: dict[str, SplitMetrics] = field(default_factory=dict)  # train, val, test; at the trial's own thresholds
    logits: dict[str, NDArray[np.float32]] = field(default_factory=dict)  # val, test -> (examples, classes)
    study_logits: dict[str, NDArray[np.float32]] = field(default_factory=dict)  # likewise, of a sequence model

    @property
    def thresholds(self) -> tuple[float | None, ...]:
        """Of the trial's own rule, one a class; empty for `multi_class`."""
        return next(iter(self.operating_points.values()), ())

    @property
    def metrics(self) -> dict[str, dict[str, float]]:
        """Split -> metric."""
        return {split: metrics.metrics for split, metrics in self.evaluated.items()}

    @property
    def seconds(self) -> float:
        """Training time: training and validation of all epochs, without loading."""
        return sum(epoch.seconds for epoch in self.epochs)


def run_to_end(epochs: Epochs[R]) -> R:
    """Train all epochs and return the result."""
    while True:
        try:
            next(epochs)
        except StopIteration as end:
            result: R = end.value
            return result


def observed(epochs: Epochs[R], observe: Callable[[EpochMetrics], object]) -> Epochs[R]:
    """Pass epochs on, calling `observe` with the metrics of each before the caller gets them."""
    stop: bool | None = None
    while True:
        try:
            metrics = epochs.send(stop)
        except StopIteration as end:
            result: R = end.value
            return result
        observe(metrics)
        stop = yield metrics


def epoch_line(metrics: EpochMetrics) -> str:
    """Return one epoch as a line of text."""
    shown = [
        f"{split} {name} {values[name]:.4f}"
        for split, values in (("train", metrics.train), ("val", metrics.val))
        for name in ("loss", "accuracy", "auroc")
        if name in values
    ]
    times = [f"{metrics.seconds:.1f} s", f"{metrics.images_per_second:.0f} images/s"]
    if metrics.data_wait_seconds > NOTABLE_DATA_WAIT * metrics.seconds:
        times.append(f"{metrics.data_wait_seconds:.1f} s waiting for images")
    return f"epoch {metrics.epoch}: {', '.join(shown)} ({', '.join(times)})"


@contextmanager
def report_out_of_memory(batch_size: int, error_type: type[HemoError]) -> Iterator[None]:
    """Turn every kind of out-of-memory error into one that names the batch size and proposes half of it.

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
    """Return whether an error means too little memory; torch has a class for that on a GPU only."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return any(words in str(error) for words in OUT_OF_MEMORY_WORDS)
