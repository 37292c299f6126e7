"""How large each of the sources' backbones is, and how fast it answers on the CPU: ONNX Runtime against torch.

    python benchmarks/bench_export.py --side_px 224 --batch_size 16 --threads 1

Random weights, global average pooling, one logit, three channels of noise: weights and pixels do not change the work.
Latency is that of one image alone, the median of two seconds of calls; throughput that of a batch.
"""

import argparse

import numpy as np
import torch

from hemo.config.trial import ModelConfig
from hemo.inference.export import largest_differences, onnx_session, to_onnx
from hemo.inference.predict import DeployedModel, measure_speed
from hemo.models.backbones import SOURCES_BACKBONES
from hemo.models.checkpoint import CheckpointCard
from hemo.models.classifier import build_model, parameter_count, plain_normalisation

CHANNELS = ("brain", "subdural", "soft")
COLUMNS = ("backbone", "parameters", "MB", "ONNX ms", "torch ms", "ONNX images/s", "torch images/s", "off by")


def main() -> None:
    """Export and time each backbone, and print the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--side_px", type=int, default=224)
    arguments.add_argument("--batch_size", type=int, default=16)
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--backbones", nargs="+", default=list(SOURCES_BACKBONES))
    given = arguments.parse_args()
    torch.set_num_threads(given.threads)
    shape = (given.batch_size, len(CHANNELS), given.side_px, given.side_px)
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    print("| " + " | ".join(COLUMNS) + " |\n|" + " --- |" * len(COLUMNS))
    for backbone in given.backbones:
        print("| " + " | ".join([backbone, *cells(backbone, images, given.threads)]) + " |", flush=True)


def cells(backbone: str, images: np.ndarray, threads: int) -> list[str]:
    """Return a backbone's figures as text, in the order of the columns."""
    card = card_of(backbone, images.shape[2])
    torch.manual_seed(0)
    sides_px = (card.height_px, card.width_px)
    model = build_model(card.model, channels=len(CHANNELS), sides_px=sides_px, classes=1).eval()
    content = to_onnx(model, card).SerializeToString()
    exported = onnx_session(content, threads)
    original = DeployedModel(model, card, batch_size=len(images)).predict
    ours, theirs = (measure_speed(session, images) for session in (exported, original))
    return [
        f"{parameter_count(model):,}",
        f"{len(content) / 1e6:.1f}",
        f"{ours.latency_ms:.1f}",
        f"{theirs.latency_ms:.1f}",
        f"{ours.images_per_second:.1f}",
        f"{theirs.images_per_second:.1f}",
        f"{largest_differences(original, exported, images)[0]:.1e}",
    ]


def card_of(backbone: str, side_px: int) -> CheckpointCard:
    """Return the card of a checkpoint that nobody trained."""
    normalisation = plain_normalisation(len(CHANNELS))
    return CheckpointCard(
        model=ModelConfig(backbone=backbone),
        task="binary",
        classes=("any",),
        channels=CHANNELS,
        image={},
        height_px=side_px,
        width_px=side_px,
        mean=normalisation.mean,
        std=normalisation.std,
        thresholds=(0.5,),
        training_set="none",
    )


if __name__ == "__main__":
    main()
