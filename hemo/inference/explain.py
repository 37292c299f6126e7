"""Grad-CAM heat maps of the images with the highest loss, or of given ones, drawn beside the images."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from hemo.config.inference import ExplainConfig
from hemo.errors import ConfigError, OutputError, SourceError, require_extra
from hemo.imaging.image import displayed
from hemo.inference.predict import (
    DeployedModel,
    StoredImages,
    checkpoint_digest,
    find_images,
    predicted_classes,
    stored_batches,
)
from hemo.models.backbones import positions
from hemo.models.checkpoint import CheckpointCard, load_checkpoint
from hemo.models.classifier import ImageClassifier, normalise, to_unit_range
from hemo.models.weight_files import find_checkpoint
from hemo.output_lock import output_lock
from hemo.storage import exists, join, read_json, write_bytes, write_json

CASES = "cases.json"

LEAST_PROBABILITY = 1e-7
"""A float32 probability may be rounded to 0, whose logarithm is not finite."""

PANEL_INCHES = 3.6
DOTS_PER_INCH = 110
STRONGEST_OPACITY = 0.65

NO_EVIDENCE = "no evidence: no part of the image raised the probability"


@dataclass(frozen=True)
class Case:
    """One image and the prediction of one class."""

    image_id: str
    image: NDArray[np.uint8]  # (channels, height_px, width_px)
    label: int | None  # 0 or 1; None where it is unknown
    probability: float
    predicted: bool  # at the checkpoint's threshold

    @property
    def loss(self) -> float | None:
        """Log loss of the class, in natural logarithms; None without a label."""
        return None if self.label is None else float(log_loss(np.array([self.probability]), np.array([self.label]))[0])


def explain_cases(config: ExplainConfig) -> list[dict[str, Any]]:
    """Write one picture per case, and `cases.json` below `out`.

    Returns:
        The cases as `cases.json` lists them: `file`, `image_id`, `class`, `label`, `probability`, `predicted` (whether
        the probability is above the checkpoint's threshold), `loss`, and `evidence`: false where no pixel raised the
        logit of the class, and its heat map is empty.

    Raises:
        SourceError: If checkpoint or images are missing, or no image has a label.
        ConfigError: If the images are not those the checkpoint takes, or a class or image is not known.
        OutputError: If `out` cannot be written, holds other explanations, or another run is writing there.
    """
    require_extra("explain", "captum")
    checkpoint = find_checkpoint(config.checkpoint)
    model, card = load_checkpoint(checkpoint)
    if config.embeddings:
        raise ConfigError(f"embeddings: {card.model.backbone} takes images, not embeddings; leave it out")
    index = class_index(card, config.target)
    stored = find_images(config.images, card, config.from_split)
    inputs = config.model_dump(mode="json", include={"images", "from_split", "target", "image_ids", "highest_loss"})
    inputs = {"checkpoint": checkpoint_digest(checkpoint), **inputs}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    deployed = DeployedModel(model, card, device=device, batch_size=config.batch_size)
    with output_lock(config.out):
        require_own(config.out, inputs)
        ids = list(config.image_ids) or hardest_ids(stored, deployed, index, config.highest_loss, config.batch_size)
        cases = [
            _explained(case, f"case-{number:03d}.png", deployed, index, config.out)
            for number, case in enumerate(pick_cases(stored, deployed, index, ids), start=1)
        ]
        write_json(join(config.out, CASES), {"inputs": inputs, "cases": cases})
    return cases


def class_index(card: CheckpointCard, target: str) -> int:
    """Return the column of a class; of an empty name 0.

    Raises:
        ConfigError: If the checkpoint has no such class.
    """
    target = target or card.classes[0]
    if target not in card.classes:
        raise ConfigError(f"target: {target!r} is no class of the checkpoint; it has {', '.join(card.classes)}")
    return card.classes.index(target)


def require_own(out: str, inputs: dict[str, Any]) -> None:
    """Refuse a folder with pictures of something else."""
    earlier = read_json(join(out, CASES)) if exists(join(out, CASES)) else {"inputs": inputs}
    if not isinstance(earlier, dict) or earlier.get("inputs") != inputs:
        raise OutputError(f"out: {out} holds other explanations; give another folder or remove this one")


def _explained(case: Case, file: str, deployed: DeployedModel, class_index: int, out: str) -> dict[str, Any]:
    """Write the picture of a case; return its entry in `cases.json`."""
    (heat,) = heat_maps(deployed.model, deployed.card, case.image[None], class_index)
    target, evidence = deployed.card.classes[class_index], bool(np.any(heat > 0))
    label = "no label" if case.label is None else f"label {case.label}"
    predicted = "predicted" if case.predicted else "not predicted"
    title = f"{case.image_id}\n{target}: {label}, {predicted} (probability {case.probability:.3f})"
    write_bytes(join(out, file), case_png(case.image, heat, title))
    return {
        "file": file,
        "image_id": case.image_id,
        "class": target,
        "label": case.label,
        "probability": case.probability,
        "predicted": case.predicted,
        "loss": case.loss,
        "evidence": evidence,
    }


def log_loss(probabilities: NDArray[np.floating], labels: NDArray[np.integer]) -> NDArray[np.floating]:
    """Return -log of the probability of the label; `labels` are 0 or 1."""
    of_label = np.where(labels == 1, probabilities, 1 - probabilities)
    return -np.log(np.maximum(of_label, LEAST_PROBABILITY))


def hardest_ids(stored: StoredImages, model: DeployedModel, class_index: int, count: int, batch_size: int) -> list[str]:
    """Return the images with the highest loss in a class, highest first; those without a label are left out.

    Args:
        stored: Where the images lie.
        model: Of the checkpoint.
        class_index: Index of the class in the checkpoint's card.
        count: How many at most.
        batch_size: Images at once.

    Raises:
        ConfigError: If the images have no labels of the class.
        SourceError: If none has a label.
    """
    name = model.card.classes[class_index]
    if name not in stored.classes:
        raise ConfigError(f"images: {stored.folder} has no labels of {name}; give a training set, or image_ids")
    label = f"label_{name}"
    hardest: list[tuple[float, str]] = []
    for rows, images in stored_batches(stored.folder, model.card, ["image_id", label], batch_size):
        _, probabilities = model.predict(images)
        known = rows[label].is_valid()
        losses = log_loss(
            probabilities[known.to_numpy(zero_copy_only=False), class_index], rows[label].drop_null().to_numpy()
        )
        pairs = zip(losses.tolist(), rows["image_id"].filter(known).to_pylist(), strict=True)
        hardest = sorted([*hardest, *pairs], key=lambda pair: (-pair[0], pair[1]))[:count]
    if not hardest:
        raise SourceError(f"{stored.folder}: no image has a label of {name}")
    return [image_id for _, image_id in hardest]


def pick_cases(stored: StoredImages, model: DeployedModel, class_index: int, image_ids: Sequence[str]) -> list[Case]:
    """Return the images with these ids, in this order.

    Raises:
        ConfigError: If an id is not there.
    """
    label = f"label_{model.card.classes[class_index]}"
    labelled = model.card.classes[class_index] in stored.classes
    cases: dict[str, Case] = {}
    columns = ["image_id", label] if labelled else ["image_id"]
    for rows, images in stored_batches(stored.folder, model.card, columns):
        picked = [row for row, name in enumerate(rows["image_id"].to_pylist()) if name in image_ids]
        _, probabilities = model.predict(images[picked])
        predicted = predicted_classes(probabilities, model.card)
        for number, row in enumerate(picked):
            name = rows["image_id"][row].as_py()
            cases[name] = Case(
                image_id=name,
                image=images[row].copy(),
                label=rows[label][row].as_py() if labelled else None,
                probability=float(probabilities[number, class_index]),
                predicted=bool(predicted[number, class_index]),
            )
    missing = [name for name in image_ids if name not in cases]
    if missing:
        raise ConfigError(f"image_ids: {missing[0]!r} is not in {stored.folder} ({len(missing)} of {len(image_ids)})")
    return [cases[name] for name in image_ids]


def heat_maps(
    model: ImageClassifier, card: CheckpointCard, images: NDArray[np.uint8], class_index: int
) -> NDArray[np.float32]:
    """Return the Grad-CAM heat map of a class: how much each position raises its logit.

    The backbone's last features, each weighted by the mean gradient of the class's logit, summed where the sum is
    positive, and enlarged to the image; the smaller the backbone's last grid, the blurrier.

    Args:
        model: In evaluation mode, on any device.
        card: Of its checkpoint.
        images: (images, channels, height_px, width_px), uint8, as stored.
        class_index: Index of the class in the card.

    Returns:
        Array (images, height_px, width_px), 0 or more, in no unit; all 0 where nothing raises the logit.

    Raises:
        ConfigError: If the backbone's features have no position in the image.

    Source:
        Selvaraju et al. 2017, arXiv:1610.02391.
    """
    device = next(model.parameters()).device
    pixels = normalise(to_unit_range(torch.from_numpy(images).to(device)), card.normalisation)
    with torch.no_grad():
        rows, cols = _grid(model.backbone, model.features(pixels[:1]), card.model.backbone)
    require_extra("explain", "captum")
    from captum.attr import LayerGradCam

    watched = _WatchedModel(model)
    grad_cam = LayerGradCam(watched, watched.features).attribute(pixels, target=class_index, relu_attributions=True)
    coarse = grad_cam.detach().reshape(len(images), 1, rows, cols)
    sides_px = (card.height_px, card.width_px)
    fine = functional.interpolate(coarse, size=sides_px, mode="bilinear", align_corners=False)
    return fine[:, 0].cpu().numpy()


class _WatchedModel(nn.Module):
    """A model with a layer of its own for the features, (images, features, positions), for captum to hook."""

    def __init__(self, model: ImageClassifier) -> None:
        super().__init__()
        self._model = model
        self.features = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        features = positions(self._model.backbone, self._model.features(images))
        logits: Tensor = self._model.head(self.features(features.transpose(1, 2)).transpose(1, 2))
        return logits.float()


def _grid(backbone: nn.Module, features: Tensor, name: str) -> tuple[int, int]:
    """Return rows and columns of a backbone's features, in the order of `positions`."""
    if features.ndim == 4:
        channels_last = getattr(backbone, "output_fmt", "NCHW") == "NHWC"
        rows, cols = features.shape[1:3] if channels_last else features.shape[2:]
        return rows, cols
    size = getattr(getattr(backbone, "patch_embed", None), "grid_size", None)
    if size is None or size[0] * size[1] != positions(backbone, features).shape[1]:
        raise ConfigError(f"checkpoint: the features of {name} have no position in the image: it cannot be explained")
    return size[0], size[1]


def case_png(image: NDArray[np.uint8], heat: NDArray[np.float32], title: str) -> bytes:
    """Draw image and heat map side by side; an empty heat map is a line below the title instead.

    Args:
        image: (channels, height_px, width_px).
        heat: (height_px, width_px), 0 or more; drawn relative to its largest value.
        title: Text above, taken literally.

    Returns:
        PNG.
    """
    height_px, width_px = heat.shape
    opacity = relative(heat)
    panels = 2 if np.any(opacity > 0) else 1
    title = title if panels == 2 else f"{title}\n{NO_EVIDENCE}"
    figure = Figure(figsize=(panels * PANEL_INCHES * width_px / height_px, PANEL_INCHES + 0.7), dpi=DOTS_PER_INCH)
    figure.suptitle(title, fontsize=9, parse_math=False)
    axes = figure.subplots(1, panels, squeeze=False)[0]
    for each in axes:
        each.imshow(displayed(image), cmap="gray", vmin=0, vmax=255)
        each.set_axis_off()
    if panels == 2:
        axes[1].imshow(opacity, cmap="inferno", vmin=0, vmax=1, alpha=STRONGEST_OPACITY * opacity)
    figure.tight_layout(pad=0.4)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def relative(heat: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a heat map in 0..1, its largest value 1; one that is 0 everywhere stays so."""
    largest = heat.max()
    return (heat / largest).astype(np.float32) if largest > 0 else heat
