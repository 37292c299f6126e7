"""Features of a backbone that never learns: computed once, for all epochs and for all trials that share it.

They are kept in files beside the records. Removing these costs only the time to compute them again.
"""

import fcntl
import hashlib
import io
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from hemo.config.trial import RANGES, AugmentConfig, TrialConfig
from hemo.digest import digest_of
from hemo.models.backbones import feature_shape, seen_sides
from hemo.models.encoder import Encoder
from hemo.storage import exists, filesystem, is_local, join, read_bytes, write_bytes
from hemo.training.data.examples import Examples, Images, Splits
from hemo.training.data.sampling import every_row

FOLDER = "features"
"""Folder of the files, below that of the records."""

LARGEST_BYTES = 1 << 34
"""Features of all splits together, 17 GB; a trial whose features are larger passes its images through the backbone."""


@dataclass(frozen=True)
class FeatureImages:
    """Features in the place of a split's images; in the same blocks, so that the order of training is the same."""

    values: NDArray[np.float32]  # (rows, positions, features), in memory or mapped from a file
    block_ends: NDArray[np.intp]  # (blocks,), see `Images`
    is_study: ClassVar[None] = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of all: (rows, positions, features)."""
        return self.values.shape

    def batches(self, wanted: Sequence[NDArray[np.intp]]) -> Iterator[NDArray[np.float32]]:
        """Yield the features of these rows, batch by batch."""
        for rows in wanted:
            yield self.values[rows]


def trains_on_features(config: TrialConfig, splits: Splits) -> bool:
    """Return whether a trial's backbone gives the same features of an image in each epoch, and these can be kept.

    It does if it never learns and no image is changed: while it is frozen its batch norm statistics are fixed, and
    nothing in it is dropped.

    Args:
        config: Of the trial.
        splits: With images.
    """
    training = config.training
    if training.freeze_epochs < training.epochs or changes_images(config.augment):
        return False
    rows = sum(examples.source.images.shape[0] for examples in splits.by_name.values())
    positions, features = shape_of_features(config, splits)
    return rows * positions * features * np.dtype(np.float32).itemsize <= LARGEST_BYTES


def changes_images(augment: AugmentConfig) -> bool:
    """Return whether training images are not as they are stored."""
    ranges = augment.strength * sum(getattr(augment, name) for name in RANGES)
    return any((augment.horizontal_flip, augment.vertical_flip, augment.erase, ranges, augment.mixup_alpha))


def shape_of_features(config: TrialConfig, splits: Splits) -> tuple[int, int]:
    """Return (positions, features) of an image as they are kept: pooled where the head pools them."""
    _, channels, height_px, width_px = splits.train.source.images.shape
    model = config.model
    positions, features = feature_shape(model.backbone, channels, seen_sides(model, (height_px, width_px)))
    return (1 if model.pooling == "gap" else positions), features


def with_features(splits: Splits, encoder: Encoder, config: TrialConfig, folder: str, workers: int) -> Splits:
    """Return splits with the features of their images in the place of these.

    Args:
        splits: With images.
        encoder: On the worker's device.
        config: Of the trial.
        folder: Where features of this training set are kept, a path or URI; empty: nowhere.
        workers: That share a batch of the trial: what fits in training passes the encoder at once.

    Raises:
        SourceError: If streamed images are missing or damaged.
    """
    digest, shape = encoder_digest(encoder, config.model.backbone), shape_of_features(config, splits)

    def replaced(name: str, examples: Examples) -> Examples:
        images = examples.source.images
        location = join(folder, f"{digest}-{name}.npy") if folder else ""
        compute = partial(compute_features, encoder, images, config.training.images_at_once(workers))
        values = kept_features(location, (images.shape[0], *shape), compute)
        return replace(examples, source=replace(examples.source, images=FeatureImages(values, images.block_ends)))

    train = replaced("train", splits.train)
    return replace(
        splits,
        train=train,
        val=replaced("val", splits.val),
        test=None if splits.test is None else replaced("test", splits.test),
        epoch=replace(splits.epoch, source=train.source),
    )


def encoder_digest(encoder: Encoder, backbone: str) -> str:
    """Return what identifies features of the same images: backbone, its weights, its input, pooling, kind of device.

    Args:
        encoder: On the worker's device.
        backbone: Its name: backbones of one class may have the same weights, and differ in layers without any.
    """
    weights = hashlib.sha256()
    for name, value in encoder.model.backbone.state_dict().items():
        weights.update(f"{name} {tuple(value.shape)} ".encode())
        weights.update(value.cpu().contiguous().numpy().tobytes())
    normalisation = encoder.normalisation
    shrink = {name: tuple(value.shape) for name, value in encoder.model.named_buffers() if name.startswith("shrink.")}
    return digest_of(
        {
            "backbone": backbone,
            "weights": weights.hexdigest(),
            "input": [normalisation.mean, normalisation.std, shrink],
            "pooling": encoder.pooling,
            "device": encoder.device.type,  # CUDA computes in bfloat16
        }
    )


def compute_features(encoder: Encoder, images: Images, images_at_once: int, values: NDArray[np.float32]) -> None:
    """Fill `values`, shape (rows, positions, features), with the features of all images."""
    batches = every_row(images.shape[0], rank=0, workers=1, batch_size=images_at_once)
    for rows, pixels in zip(batches, images.batches(batches), strict=True):
        features = encoder.features(torch.from_numpy(pixels).to(encoder.device))
        values[rows[0] : rows[-1] + 1] = features.cpu().numpy()


def kept_features(
    location: str, shape: tuple[int, ...], compute: Callable[[NDArray[np.float32]], None]
) -> NDArray[np.float32]:
    """Return features from their file, which is made where it is not there yet.

    On a mounted disk one process computes them while others on this disk wait, and the file is mapped into memory, so
    that its pages are shared. On an object store it is read into memory, and two that begin at the same time both
    compute it.

    Args:
        location: Of the file, a path or URI; empty: they are not kept.
        shape: (rows, positions, features).
        compute: Fills an array of this shape, float32.
    """
    if location and is_local(location):
        path = Path(filesystem(location)[1])
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(path.with_suffix(".lock")) as is_alone:
            if not path.exists():
                _compute_to_file(path, shape, compute, remove_unfinished=is_alone)
        mapped: NDArray[np.float32] = np.load(path, mmap_mode="r").view(np.ndarray)  # its rows are read faster
        return mapped
    if location and exists(location):
        stored: NDArray[np.float32] = np.load(io.BytesIO(read_bytes(location)))
        return stored
    values = np.empty(shape, np.float32)
    compute(values)
    if location:
        content = io.BytesIO()
        np.save(content, values)
        write_bytes(location, content.getbuffer())
    return values


def _compute_to_file(
    path: Path, shape: tuple[int, ...], compute: Callable[[NDArray[np.float32]], None], *, remove_unfinished: bool
) -> None:
    """Write a file completely or not at all; files that killed processes left are removed if nobody writes now."""
    if remove_unfinished:
        for unfinished in path.parent.glob(f".{path.name}.*.tmp"):
            unfinished.unlink(missing_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        values = np.lib.format.open_memmap(temporary, "w+", np.float32, shape)
        compute(values)
        values.flush()
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def _alone(lock: Path) -> Iterator[bool]:
    """Wait until no other process holds this lock; yield whether the storage has locks."""
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            yield False
        else:
            yield True
