"""Pictures of where a model sees evidence: which cases, their Grad-CAM heat maps, and how they are drawn."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from captum.attr import LayerGradCam
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from hemo.config.inference import ExplainConfig
from hemo.errors import ConfigError, OutputError, SourceError
from hemo.inference.predict import (
    Predictor,
    StoredImages,
    called_classes,
    checkpoint_digest,
    find_images,
    stored_batches,
)
from hemo.models.backbones import positions
from hemo.models.checkpoint import CheckpointCard, load_checkpoint
from hemo.models.classifier import ImageClassifier
from hemo.models.normalisation import normalise, to_unit_range
from hemo.models.weight_files import find_checkpoint
from hemo.storage import exists, join, read_json, require_writable, write_bytes, write_json

CASES = "cases.json"

LEAST_PROBABILITY = 1e-7
"""A float32 probability may be rounded to 0, whose logarithm is no number."""

PANEL_INCHES = 3.6
DOTS_PER_INCH = 110
STRONGEST_OPACITY = 0.65


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


def explain_cases(config: ExplainConfig) -> list[dict[str, Any]]:
    """Write a picture a case and `cases.json` below `out`.

    Returns:
        The cases as `cases.json` lists them: `file`, `image_id`, `class`, `label`, `probability`, `called` (whether
        the probability is above the checkpoint's threshold), `loss`, and `evidence`: false where nothing in the image
        speaks for the class, and its heat map is empty.

    Raises:
        SourceError: If checkpoint or images are missing, or no image has a label.
        ConfigError: If the images are not those the checkpoint takes, or a class or image is not known.
        OutputError: If `out` cannot be written or holds other explanations.
    """
    config = config.model_copy(update={"checkpoint": find_checkpoint(config.checkpoint)})
    model, card = load_checkpoint(config.checkpoint)
    target = config.target or card.classes[0]
    if target not in card.classes:
        raise ConfigError(f"target: {target!r} is no class of the checkpoint; it has {', '.join(card.classes)}")
    index = card.classes.index(target)
    stored = find_images(config.images, card, config.split)
    inputs = _inputs(config)
    _require_own(config.out, inputs)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    predictor = Predictor(config.checkpoint, device=device, batch_size=config.batch_size)
    ids = list(config.image_ids) or hardest_ids(stored, predictor, index, config.highest_loss, config.batch_size)
    told: list[dict[str, Any]] = []
    for number, case in enumerate(pick_cases(stored, predictor, index, ids), start=1):
        (heat,) = heat_maps(model, card, case.image[None], index)
        file, evidence = f"case-{number:03d}.png", bool(np.any(heat > 0))
        write_bytes(join(config.out, file), case_png(case.image, heat, _title(case, target, evidence)))
        told.append(
            {
                "file": file,
                "image_id": case.image_id,
                "class": target,
                "label": case.label,
                "probability": case.probability,
                "called": case.called,
                "loss": case.loss,
                "evidence": evidence,
            }
        )
    write_json(join(config.out, CASES), {"inputs": inputs, "cases": told})
    return told


def _title(case: Case, target: str, evidence: bool) -> str:
    label = "no label" if case.label is None else f"label {case.label}"
    heat = "" if evidence else ", no evidence"
    called = "called" if case.called else "not called"
    return f"{case.image_id}\n{target}: {label}, {called} (probability {case.probability:.3f}){heat}"


def _inputs(config: ExplainConfig) -> dict[str, Any]:
    chosen = config.model_dump(mode="json", include={"images", "split", "target", "image_ids", "highest_loss"})
    return {"checkpoint": checkpoint_digest(config.checkpoint), **chosen}


def _require_own(out: str, inputs: dict[str, Any]) -> None:
    """Refuse a folder that cannot be written, or whose pictures are of something else."""
    require_writable(out)
    place = join(out, CASES)
    earlier = read_json(place) if exists(place) else {"inputs": inputs}
    if not isinstance(earlier, dict) or earlier.get("inputs") != inputs:
        raise OutputError(f"out: {out} holds other explanations; give another folder or remove this one")


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


def heat_maps(
    model: ImageClassifier, card: CheckpointCard, images: NDArray[np.uint8], class_index: int
) -> NDArray[np.float32]:
    """Return how much each place speaks for a class.

    The backbone's last features, each weighted by the mean gradient of the class's logit, summed where the sum is
    positive, and enlarged to the image; the smaller the backbone's last grid, the blurrier.

    Args:
        model: In evaluation mode, on any device.
        card: Of its checkpoint.
        images: (images, channels, height_px, width_px), uint8, as stored.
        class_index: Place of the class in the card.

    Returns:
        Array (images, height_px, width_px), 0 or more, in no unit; all 0 where nothing speaks for the class.

    Raises:
        ConfigError: If the backbone's features have no place in the image.

    Source:
        Selvaraju et al. 2017, arXiv:1610.02391.
    """
    device = next(model.parameters()).device
    pixels = normalise(to_unit_range(torch.from_numpy(images).to(device)), card.normalisation)
    with torch.no_grad():
        rows, cols = _grid(model.backbone, model.features(pixels[:1]), card.model.backbone)
    opened = _Opened(model)
    found = LayerGradCam(opened, opened.features).attribute(pixels, target=class_index, relu_attributions=True)
    coarse = found.detach().reshape(len(images), 1, rows, cols)
    sides_px = (card.height_px, card.width_px)
    fine = functional.interpolate(coarse, size=sides_px, mode="bilinear", align_corners=False)
    return fine[:, 0].cpu().numpy()


class _Opened(nn.Module):
    """A model whose features can be watched: (images, features, positions)."""

    def __init__(self, model: ImageClassifier) -> None:
        super().__init__()
        self._model = model
        self.features = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        found = positions(self._model.backbone, self._model.features(images))
        logits: Tensor = self._model.head(self.features(found.transpose(1, 2)).transpose(1, 2))
        return logits.float()


def _grid(backbone: nn.Module, features: Tensor, name: str) -> tuple[int, int]:
    """Return rows and columns of a backbone's features, in the order of `positions`."""
    if features.ndim == 4:
        channels_last = getattr(backbone, "output_fmt", "NCHW") == "NHWC"
        rows, cols = features.shape[1:3] if channels_last else features.shape[2:]
        return rows, cols
    size = getattr(getattr(backbone, "patch_embed", None), "grid_size", None)
    if size is None or size[0] * size[1] != positions(backbone, features).shape[1]:
        raise ConfigError(f"checkpoint: the features of {name} have no place in the image: it cannot be explained")
    return size[0], size[1]


def case_png(image: NDArray[np.uint8], heat: NDArray[np.float32], title: str) -> bytes:
    """Draw image and heat map side by side.

    Args:
        image: (channels, height_px, width_px).
        heat: (height_px, width_px), 0 or more; drawn relative to its largest value.
        title: Text above, taken literally.

    Returns:
        PNG.
    """
    height_px, width_px = heat.shape
    figure = Figure(figsize=(2 * PANEL_INCHES * width_px / height_px, PANEL_INCHES + 0.7), dpi=DOTS_PER_INCH)
    figure.suptitle(title, fontsize=9, parse_math=False)
    left, right = figure.subplots(1, 2)
    seen, warmth = shown(image), relative(heat)
    for axes in (left, right):
        axes.imshow(seen, cmap="gray", vmin=0, vmax=255)
        axes.set_axis_off()
    right.imshow(warmth, cmap="inferno", vmin=0, vmax=1, alpha=STRONGEST_OPACITY * warmth)
    figure.tight_layout(pad=0.4)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def shown(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return channels as a picture: three as red, green and blue, else the middle one as grey.

    Of a slice with neighbours, whose channels are several times three, the slice itself is in the middle.
    """
    channels = len(image)
    if channels % 3:
        grey: NDArray[np.uint8] = image[channels // 2]
        return grey
    first = channels // 2 - 1
    return image[first : first + 3].transpose(1, 2, 0)


def relative(heat: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a heat map in 0..1, its largest value 1; one that is 0 everywhere stays so."""
    largest = heat.max()
    return (heat / largest).astype(np.float32) if largest > 0 else heat
