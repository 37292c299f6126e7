"""A checkpoint to `model.onnx` and `export.json`: size, speed, and how far ONNX is from torch. Needs no Ray."""

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from hemo.config.inference import ExportConfig
from hemo.config.types import Config
from hemo.console import print_line
from hemo.errors import require_extra
from hemo.inference.export import (
    LOGIT_TOLERANCE,
    ONNX,
    PROBABILITY_TOLERANCE,
    largest_differences,
    onnx_session,
    to_onnx,
)
from hemo.inference.predict import DeployedModel, Session, first_images, measure_speed
from hemo.models.checkpoint import CheckpointCard, load_checkpoint
from hemo.models.classifier import ImageClassifier, parameter_count
from hemo.models.weight_files import find_checkpoint
from hemo.output_lock import output_lock
from hemo.storage import join, write_bytes, write_json
from hemo.training.distributed import Worker, hardware
from hemo.trials.record import now, versions

EXPORT_SCHEMA_VERSION = 2
"""2: calibration in the checkpoint's card, largest difference of a probability."""

MODEL, CARD = "model.onnx", "export.json"


class SpeedCard(Config):
    """How fast one runtime predicts."""

    latency_ms: float = Field(description="of one image, median")
    images_per_second: float = Field(description="at `batch_size` images at once")


class ExportCard(Config):
    """`export.json`."""

    schema_version: int = EXPORT_SCHEMA_VERSION
    checkpoint: CheckpointCard
    opset: int = Field(description="version of ONNX's operators")
    parameters: int
    megabytes: float = Field(description="of model.onnx, 1,000,000 bytes each")
    checked_on: str = Field(description="folder of the images on which ONNX and torch were compared, or `noise`")
    checked_images: int
    largest_logit_difference: float = Field(description="between ONNX and torch, over max(1, |logit|)")
    tolerance: float = Field(description="of that difference")
    largest_probability_difference: float = Field(description="between ONNX and torch, calibrated")
    probability_tolerance: float = Field(description="of that difference")
    batch_size: int
    onnxruntime: SpeedCard
    torch: SpeedCard
    hardware: str
    versions: dict[str, str]
    exported: str = Field(description="UTC, ISO 8601")


def export_checkpoint(config: ExportConfig) -> ExportCard:
    """Write `model.onnx` and `export.json` below `out`, in place of earlier ones; the card comes last.

    Raises:
        SourceError: If checkpoint or images are missing.
        ConfigError: If the backbone cannot be exported, the images are not those the checkpoint takes, or the extra
            `export` is not installed.
        OutputError: If `out` cannot be written, or another run is writing there.
        HemoError: If logits or probabilities are not those of torch; nothing is written then.
    """
    require_extra("export", *ONNX)
    model, card = load_checkpoint(find_checkpoint(config.checkpoint))
    images = _images(config, card)
    with output_lock(config.out) as require_held:
        print_line(f"export: {card.model.backbone}, {len(card.channels)} x {card.height_px} x {card.width_px}")
        content, export = _exported(config, model, card, images)
        require_held()
        write_bytes(join(config.out, MODEL), content)
        write_json(join(config.out, CARD), export.model_dump(mode="json"))
    return export


def _exported(
    config: ExportConfig, model: ImageClassifier, card: CheckpointCard, images: NDArray[np.uint8]
) -> tuple[bytes, ExportCard]:
    """Return the ONNX file of a model and its card."""
    proto = to_onnx(model, card)
    content = proto.SerializeToString()
    worker = Worker(threads=config.threads)
    torch.set_num_threads(worker.threads)
    exported = onnx_session(content, worker.threads)
    original = DeployedModel(model, card, batch_size=len(images)).predict
    logit_difference, probability_difference = largest_differences(original, exported, images)
    export = ExportCard(
        checkpoint=card,
        opset=next(entry.version for entry in proto.opset_import if not entry.domain),
        parameters=parameter_count(model),
        megabytes=len(content) / 1e6,
        checked_on=config.images,
        checked_images=len(images),
        largest_logit_difference=logit_difference,
        tolerance=LOGIT_TOLERANCE,
        largest_probability_difference=probability_difference,
        probability_tolerance=PROBABILITY_TOLERANCE,
        batch_size=len(images),
        onnxruntime=_speed(exported, images),
        torch=_speed(original, images),
        hardware=hardware(worker),
        versions=versions("onnx", "onnxruntime"),
        exported=now(),
    )
    return content, export


def _speed(session: Session, images: NDArray[np.uint8]) -> SpeedCard:
    speed = measure_speed(session, images)
    return SpeedCard(latency_ms=speed.latency_ms, images_per_second=speed.images_per_second)


def _images(config: ExportConfig, card: CheckpointCard) -> NDArray[np.uint8]:
    if config.images != "noise":
        return first_images(config.images, card, config.batch_size)
    shape = (config.batch_size, *card.image_shape)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)
