"""How fast a trial trains, is evaluated and embeds on a device, from steps on made-up examples."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from hemo.config.trial import TrialConfig
from hemo.errors import ConfigError
from hemo.inference.predict import quick_speed
from hemo.models.encoder import Encoder, dimension
from hemo.models.pretrained import normalisation_of, starting_model
from hemo.training.data.examples import Splits
from hemo.training.data.made_up import classes_of, noise_images, noise_studies
from hemo.training.distributed import Worker, hardware, use_processors
from hemo.training.loop import timed_epoch
from hemo.training.reporting import report_out_of_memory
from hemo.training.results import EpochMetrics

FIRST_EXAMPLES = 4
"""Images, or studies, of the first epoch that is timed; each further one has four times as many."""

MOST_STEPS = 16
"""Of an epoch that is timed."""

EMBEDDED_AT_ONCE = 32
"""Images that meet the encoder together at most."""


@dataclass(frozen=True)
class TrainingSpeed:
    """What one worker does in a second: images, or slices of a sequence model."""

    hardware: str
    trained_per_s: float  # through forward, loss, backward and optimiser, with reading from memory and augmentation
    evaluated_per_s: float  # through forward and metrics
    examples: int  # images or studies of the epoch that was timed
    batch_size: int  # of its steps
    epoch_s: float  # it took


def slice_speed(
    config: TrialConfig, *, shape: tuple[int, int, int], worker: Worker, enough_s: float
) -> tuple[TrainingSpeed, float]:
    """Time training on images of noise, and a trained encoder's features of such images.

    Args:
        config: Of a model of images. Its weights are random, and no epoch is frozen: that takes as long or longer.
        shape: Channels, height_px and width_px of the images.
        worker: Device and threads.
        enough_s: An epoch that takes so long is enough.

    Returns:
        The speed, and images embedded in a second.

    Raises:
        ConfigError: If the model is unknown, does not take such images, or does not fit into memory.
        TrialError: If the loss becomes NaN or infinite.
    """
    use_processors(worker)
    speed = _training_speed(config, partial(noise_images, shape=shape), worker, enough_s)
    return speed, _embedded_per_s(config, shape, worker)


def sequence_speed(
    config: TrialConfig,
    slices: TrialConfig,
    *,
    shape: tuple[int, int, int],
    slices_per_study: int,
    worker: Worker,
    enough_s: float,
) -> TrainingSpeed:
    """Time training a sequence model on studies of noise, as long as embeddings of a model of slices make them.

    Args:
        config: Of the sequence model.
        slices: Of the model of slices: it decides the length of the vectors.
        shape: Channels, height_px and width_px of its images.
        slices_per_study: On average.
        worker: Device and threads.
        enough_s: An epoch that takes so long is enough.

    Raises:
        ConfigError: As `slice_speed`.
        TrialError: If the loss becomes NaN or infinite.
    """
    use_processors(worker)
    make = partial(
        noise_studies,
        slices_per_study=slices_per_study,
        dimension=dimension(slices.model, channels=shape[0], sides_px=shape[1:], pooling="gap"),
        probabilities=len(classes_of(slices)),
    )
    return _training_speed(config, make, worker, enough_s)


def _training_speed(
    config: TrialConfig, make: Callable[[TrialConfig, int], Splits], worker: Worker, enough_s: float
) -> TrainingSpeed:
    """Time epochs of more and more examples until one takes long enough."""
    count, configured = max(FIRST_EXAMPLES, 2 * config.training.accumulation), config.training.batch_size
    while True:
        batch_size, splits = min(configured, count), make(config, count)
        changes = {"batch_size": batch_size, "freeze_epochs": 0, "balance": "none"}
        timed = config.model_copy(update={"training": config.training.model_copy(update=changes)})
        with report_out_of_memory(batch_size, ConfigError):
            epoch = timed_epoch(timed, splits, worker)
        if epoch.seconds >= enough_s or count >= MOST_STEPS * configured:
            return _speed(epoch, splits, worker, (count, batch_size))
        count *= 4


def _speed(epoch: EpochMetrics, splits: Splits, worker: Worker, sizes: tuple[int, int]) -> TrainingSpeed:
    rows, is_study = splits.epoch, splits.epoch.source.images.is_study
    slices = len(rows) if is_study is None else int(np.count_nonzero(~is_study))  # whichever of both has labels
    trained_s = len(rows) / epoch.images_per_second
    return TrainingSpeed(
        hardware=hardware(worker),
        trained_per_s=slices / trained_s,
        evaluated_per_s=slices / (epoch.seconds - trained_s),
        examples=sizes[0],
        batch_size=sizes[1],
        epoch_s=epoch.seconds,
    )


def _embedded_per_s(config: TrialConfig, shape: tuple[int, int, int], worker: Worker) -> float:
    """Return how many images a second the encoder takes from memory, and gives vectors of."""
    device, model = torch.device(worker.device), config.model.model_copy(update={"weights": "none"})
    module = starting_model(model, channels=shape[0], sides_px=shape[1:], classes=1).to(device)
    encoder = Encoder(module, normalisation_of(model, shape[0]), "gap", device)

    def features(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = encoder.features(torch.from_numpy(images).to(device)).cpu().numpy()
        return found

    with report_out_of_memory(EMBEDDED_AT_ONCE, ConfigError):
        return quick_speed(features, shape, EMBEDDED_AT_ONCE).images_per_second
