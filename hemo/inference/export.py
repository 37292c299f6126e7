"""A checkpoint as ONNX, normalisation included: stored pixels in, logits and probabilities out."""

import json
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch.onnx.errors import OnnxExporterError

from hemo.errors import ConfigError, HemoError, require_extra
from hemo.inference.predict import DeployedModel, Session
from hemo.models.checkpoint import CheckpointCard
from hemo.models.classifier import ImageClassifier

if TYPE_CHECKING:
    import onnx

ONNX = ("onnx", "onnxruntime", "onnxscript")
"""Packages of the extra `export`."""

LOGIT_TOLERANCE = 1e-3
"""Largest difference of a logit, see `largest_differences`."""
PROBABILITY_TOLERANCE = 1e-3
"""Largest difference of a calibrated probability: with logits within theirs and a slope of 1 it is 0.00025 at most."""


def to_onnx(model: ImageClassifier, card: CheckpointCard) -> "onnx.ModelProto":
    """Return a model as ONNX, from `images` to `logits` and `probabilities`.

    `images` is (any number, channels, height_px, width_px), uint8, as stored; both outputs are (images, classes):
    logits as trained, and calibrated probabilities.
    The checkpoint's card is in the model's metadata, each field as JSON.

    Raises:
        ConfigError: If torch cannot export this backbone, or the extra `export` is not installed.
    """
    require_extra("export", *ONNX)
    import onnx

    example = torch.zeros(2, *card.image_shape, dtype=torch.uint8)
    try:
        program = torch.onnx.export(
            DeployedModel(model, card),
            (example,),
            dynamo=True,
            verbose=False,
            input_names=["images"],
            output_names=["logits", "probabilities"],
            dynamic_shapes=({0: torch.export.Dim("images")},),
        )
    except OnnxExporterError as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(f"checkpoint: {card.model.backbone} cannot be exported to ONNX ({reason})") from error
    if program is None:
        raise HemoError(f"torch gave no ONNX program of {card.model.backbone}")
    proto = program.model_proto
    fields = card.model_dump(mode="json")
    onnx.helper.set_model_props(proto, {name: json.dumps(value) for name, value in fields.items()})
    onnx.checker.check_model(proto, full_check=True)
    return proto


def onnx_session(content: bytes, threads: int) -> Session:
    """Return the prediction function of an ONNX model, on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def predict(images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        logits, probabilities = session.run(["logits", "probabilities"], {"images": images})
        return logits, probabilities

    return predict


def largest_differences(one: Session, other: Session, images: NDArray[np.uint8]) -> tuple[float, float]:
    """Return how far logits and probabilities differ at most, of all images in one batch and of the first alone.

    Returns:
        Of logits |difference| / max(1, |logit|): absolute for small logits, relative for large ones; of probabilities
        |difference|.

    Raises:
        HemoError: If one is more than `LOGIT_TOLERANCE` or `PROBABILITY_TOLERANCE`.
    """
    pairs = [(one(batch), other(batch)) for batch in (images, images[:1])]
    logits = max(_difference(ours[0], theirs[0], np.maximum(1, np.abs(ours[0]))) for ours, theirs in pairs)
    probabilities = max(_difference(ours[1], theirs[1], np.float32(1)) for ours, theirs in pairs)
    for what, largest, tolerance in (
        ("logits", logits, LOGIT_TOLERANCE),
        ("probabilities", probabilities, PROBABILITY_TOLERANCE),
    ):
        if not largest <= tolerance:  # refuses NaN too
            raise HemoError(
                f"the exported model's {what} differ from torch's by up to {largest:.2g}, more than {tolerance}: "
                "it was not written; the backbone may have layers that ONNX computes otherwise"
            )
    return logits, probabilities


def _difference(one: NDArray[np.float32], other: NDArray[np.float32], scale: NDArray[np.float32] | np.float32) -> float:
    return float((np.abs(other - one) / scale).max())
