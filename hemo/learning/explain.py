"""Pictures of where a model sees evidence: of images asked for, or of those it is most wrong about."""

from typing import Any

import numpy as np
import torch

from hemo.config.inference import ExplainConfig
from hemo.config.weights import find_checkpoint
from hemo.errors import ConfigError, OutputError
from hemo.learning.cases import Case, hardest_ids, pick_cases
from hemo.learning.checkpoint import load_checkpoint
from hemo.learning.gradcam import heat_maps
from hemo.learning.overlay import case_png
from hemo.learning.predict import Predictor, checkpoint_digest
from hemo.learning.slices import find_images
from hemo.storage import exists, join, read_json, require_writable, write_bytes, write_json

CASES = "cases.json"


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
