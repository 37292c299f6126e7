"""Which images are worth a look: those asked for, or those a model is most wrong about."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hemo.errors import ConfigError, SourceError
from hemo.learning.predict import Predictor, called_classes
from hemo.learning.slices import StoredImages, stored_batches

LEAST_PROBABILITY = 1e-7
"""A float32 probability may be rounded to 0, whose logarithm is no number."""


@dataclass(frozen=True)
class Case:
    """One image and what a model says of one class."""

    image_id: str
    image: NDArray[np.uint8]  # (channels, height_px, width_px)
    label: int | None  # 0 or 1; None where nobody said
    probability: float
    called: bool  # whether the image is said to have the class, at the checkpoint's threshold

    @property
    def loss(self) -> float | None:
        """Log loss of the class, in natural logarithms; None without a label."""
        return None if self.label is None else float(log_loss(np.array([self.probability]), np.array([self.label]))[0])


def log_loss(probabilities: NDArray[np.floating], labels: NDArray[np.integer]) -> NDArray[np.floating]:
    """Return -log of the probability that was given to the truth; `labels` are 0 or 1."""
    given = np.where(labels == 1, probabilities, 1 - probabilities)
    return -np.log(np.maximum(given, LEAST_PROBABILITY))


def hardest_ids(stored: StoredImages, predictor: Predictor, class_index: int, count: int, batch_size: int) -> list[str]:
    """Return the images with the highest loss in a class, highest first; those without a label are passed over.

    Args:
        stored: Where the images lie.
        predictor: Of the checkpoint.
        class_index: Place of the class in the checkpoint's card.
        count: How many at most.
        batch_size: Images at once.

    Raises:
        ConfigError: If the images have no labels of the class.
        SourceError: If none has a label.
    """
    name = predictor.card.classes[class_index]
    if name not in stored.classes:
        raise ConfigError(f"images: {stored.folder} has no labels of {name}; give a training set, or image_ids")
    label = f"label_{name}"
    found: list[tuple[float, str]] = []
    for rows, images in stored_batches(stored.folder, predictor.card, ["image_id", label], batch_size):
        probabilities = predictor.probabilities(images)[:, class_index]
        known = rows[label].is_valid().to_numpy(zero_copy_only=False)
        losses = log_loss(probabilities[known], rows[label].drop_null().to_numpy())
        ids = rows["image_id"].filter(rows[label].is_valid()).to_pylist()
        found = sorted([*found, *zip(losses.tolist(), ids, strict=True)], key=lambda pair: (-pair[0], pair[1]))[:count]
    if not found:
        raise SourceError(f"{stored.folder}: no image has a label of {name}")
    return [image_id for _, image_id in found]


def pick_cases(stored: StoredImages, predictor: Predictor, class_index: int, image_ids: Sequence[str]) -> list[Case]:
    """Return the images with these ids, in this order.

    Raises:
        ConfigError: If an id is not there.
    """
    label = f"label_{predictor.card.classes[class_index]}"
    labelled = predictor.card.classes[class_index] in stored.classes
    found: dict[str, Case] = {}
    columns = ["image_id", label] if labelled else ["image_id"]
    for rows, images in stored_batches(stored.folder, predictor.card, columns):
        at = [row for row, name in enumerate(rows["image_id"].to_pylist()) if name in image_ids]
        probabilities = predictor.probabilities(images[at])
        called = called_classes(probabilities, predictor.card)[:, class_index]
        for row, probability, said in zip(at, probabilities[:, class_index], called, strict=True):
            name = rows["image_id"][row].as_py()
            truth = rows[label][row].as_py() if labelled else None
            found[name] = Case(name, images[row].copy(), truth, float(probability), bool(said))
    missing = [name for name in image_ids if name not in found]
    if missing:
        raise ConfigError(f"image_ids: {missing[0]!r} is not in {stored.folder} ({len(missing)} of {len(image_ids)})")
    return [found[name] for name in image_ids]
