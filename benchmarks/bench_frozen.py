"""How much faster a trial is whose backbone never learns, on features computed once.

    python benchmarks/bench_frozen.py --training_set runs/xray_160px/by_patient --weights lite0.safetensors

Trains the same head three times on `--threads` threads: with the images through the backbone in each epoch, as it was
before features were kept; on features that are computed first; and again on features that are there. Prints seconds an
epoch (median, training and validation), seconds of the whole fit with evaluation, their ratios, and the largest
difference of a logit after `--image_epochs`.
"""

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch

from hemo.config.trial import ModelConfig, TrainingConfig, TrialConfig
from hemo.training import loop
from hemo.training.data.dataset import ResidentImages, TrialData, read_training_set, select_splits
from hemo.training.data.examples import ImageSet, Splits
from hemo.training.distributed import Worker
from hemo.training.loop import fit
from hemo.training.reporting import FitResult, run_to_end


def main() -> None:
    """Train three times and print a table."""
    given = arguments().parse_args()
    torch.set_num_threads(given.threads)
    data = read_training_set(given.training_set)
    print(f"{given.backbone}, {given.threads} CPU threads, torch {torch.__version__}\n")
    print(
        "| side (px) | head | images | s an epoch, images | s an epoch, features | ratio | whole fit, images (s) |"
        " computing features (s) | whole fit, features computed (s) | ratio | there already (s) | ratio |"
        " largest difference of a logit |"
    )
    print("| --- " * 13 + "|")
    for side_px in given.sides_px:
        for pooling in given.poolings:
            config = trial(given, side_px, pooling)
            splits = select_splits(reduced(data, given.images), config)
            print(row(given, config, splits), flush=True)


def row(given: argparse.Namespace, config: TrialConfig, splits: Splits) -> str:
    """Return a line of the table."""
    with tempfile.TemporaryDirectory(prefix="hemo-bench-") as scratch:
        few = config.model_copy(
            update={
                "training": config.training.model_copy(
                    update={"epochs": given.image_epochs, "freeze_epochs": given.image_epochs}
                )
            }
        )
        with patch.object(loop, "trains_on_features", lambda *_: False):
            images, images_s = timed(few, splits, Path(scratch, "images"))
        first, first_s = timed(few, splits, Path(scratch, "first"), Path(scratch, "features"))
        second, second_s = timed(config, splits, Path(scratch, "second"), Path(scratch, "features"))
    each, fast = (statistics.median(epoch.seconds for epoch in result.epochs) for result in (images, second))
    epochs = config.training.epochs
    whole = images_s + (epochs - given.image_epochs) * each
    computing = first_s - sum(epoch.seconds for epoch in first.epochs)
    computed = first_s + (epochs - given.image_epochs) * fast
    differing = max(float(np.abs(images.logits[name] - first.logits[name]).max()) for name in images.logits)
    count = sum(len(examples) for examples in splits.by_name.values())
    head = f"{config.model.pooling}, {config.model.hidden_layers} x {config.model.dense_width}"
    values = (
        f"{each:.1f}",
        f"{fast:.3f}",
        f"{each / fast:.0f}",
        f"{whole:.0f}",
        f"{computing:.1f}",
        f"{computed:.1f}",
        f"{whole / computed:.1f}",
        f"{second_s:.1f}",
        f"{whole / second_s:.0f}",
        f"{differing:.1e}",
    )
    side_px = config.model.side_px or splits.train.source.images.shape[-1]
    return f"| {side_px} | {head} | {count:,} | {' | '.join(values)} |"


def reduced(data: TrialData, images: int) -> TrialData:
    """Return the first images of each split: so many of train, a quarter of that of the others."""
    quarter = max(images // 4, 1)
    test = None if data.test is None else first(data.test, quarter)
    return replace(data, train=first(data.train, images), val=first(data.val, quarter), test=test)


def first(source: ImageSet, count: int) -> ImageSet:
    """Return the first images of a split that is in memory."""
    pixels = next(source.images.batches([np.arange(min(count, source.images.shape[0]))]))
    ends = np.unique(np.minimum(source.images.block_ends, len(pixels)))
    others = {name: getattr(source, name)[:count] for name in ("labels", "image_id", "patient", "pixel_format")}
    return ImageSet(ResidentImages(pixels, ends), **others)


def timed(config: TrialConfig, splits: Splits, place: Path, features: Path | None = None) -> tuple[FitResult, float]:
    """Return a fit and its seconds, with loading weights and evaluating all splits."""
    began = time.perf_counter()
    kept = str(features) if features else ""
    result = run_to_end(fit(config, splits, worker=Worker(), state_path=str(place / "state.pt"), features=kept))
    return result, time.perf_counter() - began


def trial(given: argparse.Namespace, side_px: int, pooling: str) -> TrialConfig:
    """Return a head with a hidden layer of 16 units and dropout on a frozen backbone."""
    model = {"backbone": given.backbone, "weights": given.weights, "side_px": side_px, "pooling": pooling}
    training = {"epochs": given.epochs, "freeze_epochs": given.epochs, "patience": given.epochs, "batch_size": 32}
    return TrialConfig(
        target=given.target,
        model=ModelConfig.model_validate({**model, "hidden_layers": 1, "dense_width": 16}),
        training=TrainingConfig.model_validate({**training, "learning_rate": 1e-3}),
    )


def arguments() -> argparse.ArgumentParser:
    """Return the flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--training_set", required=True)
    parser.add_argument("--weights", required=True, help="file of the backbone's weights")
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--target", default="PNEUMONIA")
    parser.add_argument("--sides_px", type=int, nargs="+", default=[64, 160])
    parser.add_argument("--poolings", nargs="+", default=["gap", "flatten"])
    parser.add_argument("--images", type=int, default=1000, help="of train at most; of the others a quarter of that")
    parser.add_argument("--epochs", type=int, default=30, help="of a fit, as in the published recipes")
    parser.add_argument(
        "--image_epochs", type=int, default=2, help="that are measured with images; the others cost the same"
    )
    parser.add_argument("--threads", type=int, default=2)
    return parser


if __name__ == "__main__":
    main()
