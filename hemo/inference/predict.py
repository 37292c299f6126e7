"""From stored images to probabilities, by a checkpoint: of images, of studies, and how fast."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hemo.digest import differences, digest_of
from hemo.errors import ConfigError, SourceError
from hemo.models.checkpoint import CheckpointCard, load_checkpoint
from hemo.models.classifier import ImageClassifier, mixed_precision
from hemo.models.normalisation import normalise, to_unit_range
from hemo.shards.reader import checked_parquet, images_of
from hemo.shards.schema import IMAGE, ROWS_PER_GROUP
from hemo.storage import exists, join, list_files, read_bytes, read_json
from hemo.training.reporting import report_out_of_memory

Session = Callable[[NDArray[np.uint8]], tuple[NDArray[np.float32], NDArray[np.float32]]]
"""From images (images, channels, height_px, width_px) to logits and probabilities, each (images, classes)."""

Ask = Callable[[NDArray[np.uint8]], object]
"""Asks a model about images (images, channels, height_px, width_px), and returns when it has answered."""

ELSEWHERE = ("corpus", "key_fingerprint", "patient_pattern", "neighbours")
"""What may differ between images that are made alike; neighbours show in the channels."""


class Predictor:
    """A checkpoint's model on a device, ready to be asked."""

    def __init__(self, checkpoint: str, *, device: str, batch_size: int, flip: bool = False) -> None:
        """Load the checkpoint at a path or URI.

        Args:
            checkpoint: Its folder.
            device: Of torch.
            batch_size: Images it is asked for at once.
            flip: Whether a probability is the mean over an image and its mirror image, left to right.

        Raises:
            SourceError: If it is no checkpoint.
        """
        model, self.card = load_checkpoint(checkpoint)
        self._device = torch.device(device)
        self._model = model.to(self._device)
        self._batch_size = batch_size
        self._flip = flip

    def probabilities(self, images: Iterable[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Return the probability of every class for every image.

        Args:
            images: Each of shape (channels, height_px, width_px), uint8, made as the checkpoint's card says.

        Returns:
            Array (images, classes) in 0..1, classes as in the card.

        Raises:
            ConfigError: If the memory does not hold a batch.
        """
        answers = [self._ask(batch) for batch in _batches(images, self._batch_size)]
        return np.concatenate(answers) if answers else np.empty((0, len(self.card.classes)), np.float32)

    def _ask(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        with report_out_of_memory(self._batch_size, ConfigError), torch.inference_mode(), mixed_precision(self._device):
            pixels = torch.from_numpy(batch).to(self._device)
            found = self._of(pixels)
            if self._flip:
                found = (found + self._of(pixels.flip(dims=(3,)))) / 2
            answer: NDArray[np.float32] = found.cpu().numpy()
        return answer

    def _of(self, pixels: Tensor) -> Tensor:
        logits = self._model(normalise(to_unit_range(pixels), self.card.normalisation)).float()
        return to_probabilities(logits, self.card)


def to_probabilities(logits: Tensor, card: CheckpointCard) -> Tensor:
    """Return softmax over exclusive classes, sigmoid of each class otherwise."""
    return logits.softmax(dim=1) if card.task == "multi_class" else logits.sigmoid()


def called_classes(probabilities: NDArray[np.float32], card: CheckpointCard) -> NDArray[np.bool_]:
    """Return which classes each image is said to have, shape (images, classes), at the checkpoint's thresholds."""
    called: NDArray[np.bool_]
    if card.task == "multi_class":
        called = np.arange(len(card.classes)) == probabilities.argmax(axis=1)[:, None]
    else:
        called = probabilities > np.asarray(card.thresholds)
    return called


def checkpoint_digest(checkpoint: str) -> str:
    """Return 16 hexadecimal digits that cover all that a checkpoint says: card and weights."""
    return digest_of([read_bytes(join(checkpoint, name)).hex() for name in ("checkpoint.json", "weights.safetensors")])


def _batches(images: Iterable[NDArray[np.uint8]], size: int) -> Iterator[NDArray[np.uint8]]:
    batch: list[NDArray[np.uint8]] = []
    for image in images:
        batch.append(image)
        if len(batch) == size:
            yield np.stack(batch)
            batch = []
    if batch:
        yield np.stack(batch)


class Deployed(nn.Module):
    """A model with what stands before and behind it."""

    def __init__(self, model: ImageClassifier, card: CheckpointCard) -> None:
        """Join the model and its card."""
        super().__init__()
        self._model, self._card = model, card

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and probabilities, float32, (images, classes), of images (images, channels, rows, cols)."""
        logits = self._model(normalise(to_unit_range(images), self._card.normalisation))
        return logits, to_probabilities(logits, self._card)


def torch_session(model: ImageClassifier, card: CheckpointCard, device: str = "cpu") -> Session:
    """Return a torch model on a device ready to be asked; it is put into evaluation mode."""
    deployed, place = Deployed(model, card).eval(), torch.device(device)

    def ask(images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        with torch.inference_mode(), mixed_precision(place):
            logits, probabilities = deployed(torch.from_numpy(images).to(place))
        return logits.cpu().numpy(), probabilities.cpu().numpy()

    return ask


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


@dataclass(frozen=True)
class Speed:
    """How fast a model answers."""

    latency_ms: float  # of one image, median
    images_per_second: float  # with `batch_size` images at once
    batch_size: int


def measure_speed(ask: Ask, images: NDArray[np.uint8], timing: Timing) -> Speed:
    """Time a model on one image, and on all images at once."""
    latency, batch = (median_seconds(ask, asked, timing) for asked in (images[:1], images))
    return Speed(latency_ms=1000 * latency, images_per_second=len(images) / batch, batch_size=len(images))


def quick_speed(ask: Ask, image_shape: tuple[int, int, int], largest_batch: int) -> Speed:
    """Time a model on noise, for half a second or so; two calls of one image, if they take longer.

    A batch has as many images as would take a tenth of a second one by one, but no more than 32.

    Args:
        ask: Of the model.
        image_shape: (channels, height_px, width_px).
        largest_batch: Images that are known to fit into memory at once.
    """
    noise = np.random.default_rng(0).integers(0, 256, (min(QUICK_BATCH, largest_batch), *image_shape), np.uint8)
    latency = median_seconds(ask, noise[:1], QUICK)
    images = max(1, min(len(noise), int(QUICK_BATCH_SECONDS / latency)))
    batch = median_seconds(ask, noise[:images], QUICK) if images > 1 else latency
    return Speed(latency_ms=1000 * latency, images_per_second=images / batch, batch_size=images)


def median_seconds(ask: Ask, images: NDArray[np.uint8], timing: Timing) -> float:
    """Return the median time of asking for these images at once."""
    for _ in range(timing.warm_up_calls):
        ask(images)
    began, taken = time.perf_counter(), list[float]()
    while len(taken) < timing.least_calls or (
        len(taken) < timing.most_calls and time.perf_counter() - began < timing.seconds
    ):
        start = time.perf_counter()
        ask(images)
        taken.append(time.perf_counter() - start)
    return float(np.median(taken))


def megabytes(module: nn.Module) -> float:
    """Return the size of a model's weights and buffers, 1,000,000 bytes each."""
    return float(sum(value.nbytes for value in module.state_dict().values()) / 1e6)


@dataclass(frozen=True)
class StoredImages:
    """Where images of one kind lie."""

    folder: str  # of Parquet files
    classes: tuple[str, ...]  # that have a column `label_NAME`; none in a conversion


def find_images(folder: str, card: CheckpointCard, split: str) -> StoredImages:
    """Return where a checkpoint's images lie in a conversion, or in a split of a training set.

    Args:
        folder: Output folder of `convert` or `curate`.
        card: Of the checkpoint: which images it takes.
        split: `train`, `val` or `test`, of a training set.

    Raises:
        SourceError: If the folder is neither.
        ConfigError: If its images are made otherwise than the checkpoint's.
    """
    place = join(folder, "card.json")
    content = read_json(place) if exists(place) else {}
    if not isinstance(content, dict) or not {"channels", "image"} <= set(content):
        raise SourceError(f"{folder} holds no images; give an output folder of `hemo convert` or `hemo curate`")
    require_same_images(folder, content, card)
    if "splits" in content:
        return StoredImages(join(folder, split), tuple(content["classes"]))
    return StoredImages(join(folder, "shards"), ())


def first_images(folder: str, card: CheckpointCard, count: int) -> NDArray[np.uint8]:
    """Return the first images of a conversion, or of a training set's test split.

    Args:
        folder: Output folder of `convert` or `curate`.
        card: Of the checkpoint: which images it takes.
        count: How many at most.

    Returns:
        Array (images, channels, height_px, width_px).

    Raises:
        SourceError: If the folder is neither, or is empty.
        ConfigError: If its images are made otherwise than the checkpoint's.
    """
    stored = find_images(folder, card, "test")
    batches = (images for _, images in stored_batches(stored.folder, card, [], count))
    found = list(islice((image for images in batches for image in images), count))
    if not found:
        raise SourceError(f"{stored.folder} has no images; give a folder that has some")
    return np.stack(found)


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
    shape = (len(card.channels), card.height_px, card.width_px)
    for name in list_files(folder):
        if name.endswith(".parquet"):
            with checked_parquet(join(folder, name), "make the folder anew") as file:
                for batch in file.iter_batches(min(rows, ROWS_PER_GROUP), columns=[*columns, IMAGE]):
                    yield batch.drop_columns([IMAGE]), images_of(batch[IMAGE], shape)


def require_same_images(folder: str, stored: dict[str, Any], card: CheckpointCard) -> None:
    """Refuse images made otherwise than those the checkpoint was trained on.

    Args:
        folder: Where they lie.
        stored: Content of its card: `channels`, `height_px`, `width_px` and `image`.
        card: Of the checkpoint.

    Raises:
        ConfigError: With what differs.
    """
    outer = ("channels", "height_px", "width_px")
    there = {**_settings(stored["image"]), **{name: stored.get(name) for name in outer}}
    here = {**_settings(card.image), **card.model_dump(mode="json", include=set(outer))}
    differing = differences(there, here)
    if differing:
        raise ConfigError(f"images: {folder} holds other images than the checkpoint was trained on ({differing})")


def _settings(image: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in image.items() if name not in ELSEWHERE}


def study_probabilities(predictions: pa.Table, classes: Sequence[str]) -> pa.Table:
    """Return the probability that any slice of a study has a class, in two ways.

    The maximum over its slices, and noisy-or: 1 - product of (1 - p), which would be right if slices were independent;
    neighbours are alike, so it is too high, but rises with each suspect slice where the maximum does not.

    Args:
        predictions: `study`, `patient` and `probability_NAME` a class, a row an image.
        classes: Names of the classes.

    Returns:
        A row a study, by study: `study`, `patient`, `images`, and `max_NAME` and `noisy_or_NAME` a class, float32.
        Images without a study are in none.

    Source:
        Noisy-or: Pearl 1988, Probabilistic Reasoning in Intelligent Systems, section 4.3.2.
    """
    known = predictions.filter(pc.is_valid(predictions["study"]))
    for name in classes:
        absent = 1 - known[f"probability_{name}"].to_numpy().astype(np.float64)
        with np.errstate(divide="ignore"):  # the logarithm of a certain slice is minus infinity, its study's 1 - 0
            known = known.append_column(f"log_absent_{name}", pa.array(np.log(absent)))
    wanted = [("image_id", "count"), ("patient", "min")]
    wanted += [(f"probability_{name}", "max") for name in classes] + [(f"log_absent_{name}", "sum") for name in classes]
    found = known.group_by("study").aggregate(wanted).sort_by("study")
    columns = {"study": found["study"], "patient": found["patient_min"], "images": found["image_id_count"]}
    for name in classes:
        columns[f"max_{name}"] = found[f"probability_{name}_max"]
        noisy_or = -np.expm1(found[f"log_absent_{name}_sum"].to_numpy())
        columns[f"noisy_or_{name}"] = pa.array(noisy_or.astype(np.float32))
    return pa.table(columns)
