"""A checkpoint's predictions: stored pixels to probabilities of images, and how fast."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hemo.curation.card import BaseSet
from hemo.curation.resplit import require_own_images
from hemo.digest import differences, digest_of
from hemo.errors import ConfigError, SourceError
from hemo.models.checkpoint import CheckpointCard, to_probabilities
from hemo.models.classifier import ImageClassifier, mixed_precision, normalise, to_unit_range
from hemo.models.weight_files import CARD, WEIGHTS
from hemo.shards.reader import batches_by_group, checked_parquet, images_of
from hemo.shards.schema import IMAGE, ROWS_PER_GROUP
from hemo.storage import exists, join, list_files, read_bytes, read_json
from hemo.training.reporting import report_out_of_memory

Session = Callable[[NDArray[np.uint8]], tuple[NDArray[np.float32], NDArray[np.float32]]]
"""From images (images, channels, height_px, width_px) to logits as trained and calibrated probabilities, each
(images, classes)."""

NOT_PIXELS = ("corpus", "key_fingerprint", "patient_pattern", "public_classes", "neighbours")
"""Settings that may differ between images that are made alike; neighbours show in the channels."""


class DeployedModel(nn.Module):
    """A trained model with normalisation and calibration: used by `predict`, `explain` and `export`.

    On CUDA autocast computes in bfloat16; on the CPU everything is float32.
    """

    def __init__(
        self,
        model: ImageClassifier,
        card: CheckpointCard,
        *,
        device: str = "cpu",
        batch_size: int = 64,
        flip: bool = False,
    ) -> None:
        """Move the model to a device and put it into evaluation mode.

        Args:
            model: From normalised images to logits.
            card: Of its checkpoint.
            device: Of torch.
            batch_size: Images in a forward pass of `predict` at most.
            flip: Test-time augmentation: the mean over an image and its mirror image, left to right.
        """
        super().__init__()
        self._device = torch.device(device)
        self.model = model.to(self._device)
        self.card, self._batch_size, self._flip = card, batch_size, flip
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits as trained and calibrated probabilities, float32, (images, classes), of stored images."""
        logits, probabilities = self._of(images)
        if self._flip:
            mirrored = self._of(images.flip(dims=(3,)))
            logits, probabilities = (logits + mirrored[0]) / 2, (probabilities + mirrored[1]) / 2
        return logits, probabilities

    def _of(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.model(normalise(to_unit_range(images), self.card.normalisation))
        return logits, to_probabilities(logits, self.card)

    def predict(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return logits as trained and calibrated probabilities of any number of images: a `Session`.

        Args:
            images: (images, channels, height_px, width_px), made as described in the checkpoint's card.

        Raises:
            ConfigError: If a batch does not fit into memory.
        """
        none = np.empty((0, len(self.card.classes)), np.float32)
        batches = [(none, none)]
        with report_out_of_memory(self._batch_size, ConfigError), torch.inference_mode(), mixed_precision(self._device):
            for start in range(0, len(images), self._batch_size):
                pixels = torch.tensor(images[start : start + self._batch_size]).to(self._device)
                logits, probabilities = self(pixels)
                batches.append((logits.cpu().numpy(), probabilities.cpu().numpy()))
        logits, probabilities = zip(*batches, strict=True)
        return np.concatenate(logits), np.concatenate(probabilities)


class ProbabilityModel(nn.Module):
    """A deployed model with one output: stored pixels (images, channels, height_px, width_px) to probabilities."""

    def __init__(self, deployed: DeployedModel) -> None:
        """Wrap a deployed model."""
        super().__init__()
        self.deployed = deployed

    def forward(self, images: Tensor) -> Tensor:
        """Return probabilities, float32, (images, classes)."""
        probabilities: Tensor = self.deployed(images)[1]
        return probabilities


def predicted_classes(probabilities: NDArray[np.float32], card: CheckpointCard) -> NDArray[np.bool_]:
    """Return which classes are predicted for each image, shape (images, classes), at the checkpoint's thresholds."""
    predicted: NDArray[np.bool_]
    if card.task == "multi_class":
        predicted = np.arange(len(card.classes)) == probabilities.argmax(axis=1)[:, None]
    else:
        predicted = probabilities > np.asarray(card.thresholds)
    return predicted


def checkpoint_digest(checkpoint: str) -> str:
    """Return 16 hexadecimal digits that cover all of a checkpoint: card and weights."""
    return digest_of([read_bytes(join(checkpoint, name)).hex() for name in (CARD, WEIGHTS)])


@dataclass(frozen=True)
class Timing:
    """How long something is timed."""

    warm_up_calls: int  # not counted: the first ones also prepare
    least_calls: int
    most_calls: int
    seconds: float  # no more calls after this time, if there were enough


THOROUGH = Timing(warm_up_calls=2, least_calls=3, most_calls=1_000_000, seconds=2.0)
QUICK = Timing(warm_up_calls=1, least_calls=1, most_calls=11, seconds=0.2)

QUICK_BATCH = 32
QUICK_BATCH_SECONDS = 0.1

TimedCall = Callable[[NDArray[np.uint8]], object]
"""Predicts images (images, channels, height_px, width_px), and returns when that is done."""


@dataclass(frozen=True)
class Speed:
    """How fast a model predicts."""

    latency_ms: float  # of one image, median
    images_per_second: float  # with `batch_size` images at once
    batch_size: int


def measure_speed(predict: TimedCall, images: NDArray[np.uint8]) -> Speed:
    """Time a model on one image, and on all images at once."""
    latency, batch = (median_seconds(predict, timed, THOROUGH) for timed in (images[:1], images))
    return Speed(latency_ms=1000 * latency, images_per_second=len(images) / batch, batch_size=len(images))


def quick_speed(predict: TimedCall, image_shape: tuple[int, int, int], largest_batch: int) -> Speed:
    """Time a model on noise, for half a second or so; two calls of one image, if they take longer.

    A batch has as many images as would take a tenth of a second one by one, but no more than 32.

    Args:
        predict: Of the model.
        image_shape: (channels, height_px, width_px).
        largest_batch: Images that are known to fit into memory at once.
    """
    noise = np.random.default_rng(0).integers(0, 256, (min(QUICK_BATCH, largest_batch), *image_shape), np.uint8)
    latency = median_seconds(predict, noise[:1], QUICK)
    images = max(1, min(len(noise), int(QUICK_BATCH_SECONDS / latency)))
    batch = median_seconds(predict, noise[:images], QUICK) if images > 1 else latency
    return Speed(latency_ms=1000 * latency, images_per_second=images / batch, batch_size=images)


def median_seconds(predict: TimedCall, images: NDArray[np.uint8], timing: Timing) -> float:
    """Return the median time of predicting these images at once."""
    for _ in range(timing.warm_up_calls):
        predict(images)
    began, taken = time.perf_counter(), list[float]()
    while len(taken) < timing.least_calls or (
        len(taken) < timing.most_calls and time.perf_counter() - began < timing.seconds
    ):
        start = time.perf_counter()
        predict(images)
        taken.append(time.perf_counter() - start)
    return float(np.median(taken))


def megabytes(module: nn.Module) -> float:
    """Return the size of a model's weights and buffers, 1,000,000 bytes each."""
    return float(sum(value.nbytes for value in module.state_dict().values()) / 1e6)


@dataclass(frozen=True)
class StoredImages:
    """A folder of Parquet files with images, and the classes they have labels of."""

    folder: str
    classes: tuple[str, ...]  # with a column `label_NAME`; none in a conversion


def find_images(folder: str, card: CheckpointCard, split: str) -> StoredImages:
    """Find images that a checkpoint takes: those of a conversion, or of a split of a training set.

    Args:
        folder: Output folder of `convert` or `curate`.
        card: Of the checkpoint.
        split: `train`, `val` or `test`, of a training set.

    Raises:
        SourceError: If the folder is neither.
        ConfigError: If its images are made otherwise than those the checkpoint was trained on.
    """
    card_file = join(folder, "card.json")
    content = read_json(card_file) if exists(card_file) else {}
    if not isinstance(content, dict) or not {"channels", "image"} <= set(content):
        raise SourceError(f"{folder} holds no images; give an output folder of `hemo convert` or `hemo curate`")
    differing = image_differences(content, card)
    if differing:
        raise ConfigError(f"images: {folder} holds other images than the checkpoint was trained on ({differing})")
    if "splits" in content:
        require_own_images(folder, BaseSet.model_validate(content["base"]) if content.get("base") else None, "images")
        return StoredImages(join(folder, split), tuple(content["classes"]))
    return StoredImages(join(folder, "shards"), ())


def first_images(folder: str, card: CheckpointCard, count: int) -> NDArray[np.uint8]:
    """Return the first images of a conversion, or of a training set's test split.

    Args:
        folder: Output folder of `convert` or `curate`.
        card: Of the checkpoint.
        count: How many at most.

    Returns:
        Array (images, channels, height_px, width_px).

    Raises:
        SourceError: If the folder is neither, or is empty.
        ConfigError: If its images are made otherwise than those the checkpoint was trained on.
    """
    stored = find_images(folder, card, "test")
    batches = (images for _, images in stored_batches(stored.folder, card, [], count))
    first = list(islice((image for images in batches for image in images), count))
    if not first:
        raise SourceError(f"{stored.folder} has no images; give a folder that has some")
    return np.stack(first)


def stored_batches(
    folder: str, card: CheckpointCard, columns: Sequence[str], rows: int = ROWS_PER_GROUP
) -> Iterator[tuple[pa.RecordBatch, NDArray[np.uint8]]]:
    """Yield rows of the Parquet files in a folder, in order.

    Args:
        folder: Of shards, or of a split.
        card: Of the checkpoint: the shape of an image.
        columns: Wanted beside the images.
        rows: At once, at most.

    Yields:
        These columns, and the images: (rows, channels, height_px, width_px).
    """
    shape = card.image_shape
    for name in list_files(folder):
        if name.endswith(".parquet"):
            with checked_parquet(join(folder, name), "make the folder anew") as file:
                for batch in batches_by_group(file, [*columns, IMAGE], rows):
                    yield batch.drop_columns([IMAGE]), images_of(batch[IMAGE], shape)


def stored_columns(folder: str, columns: Sequence[str]) -> pa.Table:
    """Return columns beside the images of the Parquet files in a folder, in order."""
    tables = []
    for name in list_files(folder):
        if name.endswith(".parquet"):
            with checked_parquet(join(folder, name), "make the folder anew") as file:
                tables.append(file.read(columns=list(columns)))
    if not tables:
        raise SourceError(f"{folder} has no images; give a folder that has some")
    return pa.concat_tables(tables)


def image_differences(stored: Mapping[str, Any], card: CheckpointCard) -> str:
    """Return in what stored images differ from those that a checkpoint was trained on; empty: in nothing.

    Args:
        stored: Content of their card: `channels`, `height_px`, `width_px` and `image`.
        card: Of the checkpoint.
    """
    source, trained_on = (
        {name: value for name, value in image.items() if name not in NOT_PIXELS}
        for image in (stored["image"], card.image)
    )
    shape = card.model_dump(mode="json", include={"channels", "height_px", "width_px"})
    where = ("in the source", "in the checkpoint")
    return differences(source, trained_on, where) or differences(stored, shape, where)
