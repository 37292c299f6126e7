"""Which cosine tells changed copies of an image from images of other patients, by the features of a backbone.

    python benchmarks/bench_near_duplicates.py --training_set runs/xray_160px/by_patient --weights lite0.safetensors

Embeds all images, and of `--planted` of them copies that were shifted, made brighter or darker, or compressed as JPEG.
Cosines are of the pooled features as they are, and after the mean of all images is subtracted. Prints, for given
thresholds and for those that none, 10 and 100 pairs of different patients exceed, the fraction of the copies that
reach it with their original, and how many pairs of different patients do that are not equal pixel by pixel; these were
not planted, so each is a false finding or a duplicate of the corpus.
"""

import argparse
from collections.abc import Callable

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from hemo.config.trial import ModelConfig
from hemo.models.encoder import Encoder, weights_encoder
from hemo.stats.similarity import similar_blocks
from hemo.training.data.dataset import read_training_set

Change = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]


def shifted(pixels: int) -> Change:
    """Return a shift to the right and down; the edge is repeated."""

    def change(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        padded = np.pad(image, ((pixels, 0), (pixels, 0), (0, 0)), mode="edge")
        return padded[: image.shape[0], : image.shape[1]]

    return change


def compressed(quality: int) -> Change:
    """Return JPEG of a quality."""

    def change(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        return cv2.imdecode(coded, cv2.IMREAD_COLOR)

    return change


def brighter(grey: int) -> Change:
    """Return grey values that are higher by so many of 255."""
    return lambda image: np.clip(image.astype(np.int16) + grey, 0, 255).astype(np.uint8)


CHANGES = {
    "shift 2 px": shifted(2),
    "shift 5 px": shifted(5),
    "10 brighter": brighter(10),
    "25 darker": brighter(-25),
    "JPEG quality 75": compressed(75),
    "JPEG quality 30": compressed(30),
    "shift 3 px, 10 brighter, JPEG 60": lambda image: compressed(60)(brighter(10)(shifted(3)(image))),
}
"""Changes of an image (height_px, width_px, channels), uint8."""


def main() -> None:
    """Embed, plant and print."""
    given = arguments().parse_args()
    torch.set_num_threads(given.threads)
    images, patients = stored(given.training_set)
    some = np.sort(np.random.default_rng(1).permutation(len(images))[: given.images])
    images, patients = images[some], patients[some]
    config = ModelConfig(backbone=given.backbone, weights=given.weights)
    sides = (images.shape[2], images.shape[3])
    encoder = weights_encoder(config, channels=images.shape[1], sides_px=sides, pooling="gap", device="cpu")
    vectors = embedded(encoder, images)
    chosen = np.random.default_rng(0).choice(len(images), given.planted, replace=False)
    planted = {name: embedded(encoder, changed(images[chosen], change)) for name, change in CHANGES.items()}
    groups = equal_pixels(images)
    mean = vectors.mean(axis=0)
    print(
        f"{given.backbone}, {len(images):,} images of {len(np.unique(patients)):,} patients, "
        f"{len(images) - len(np.unique(groups)):,} more copies than originals, {given.planted} planted of each kind\n"
    )
    print("| cosine | at least | " + " | ".join(CHANGES) + " | other patients: pairs | images |")
    print("| --- " * (len(CHANGES) + 4) + "|")
    for kind, centre in (("as they are", np.zeros_like(mean)), ("mean subtracted", mean)):
        units = unit(vectors - centre)
        copies = {name: (unit(values - centre) * units[chosen]).sum(axis=1) for name, values in planted.items()}
        blocks = list(similar_blocks(units, patients, min(given.thresholds)))
        pairs = np.concatenate([np.empty((0, 2), np.intp), *(found for found, _ in blocks)])
        cosines = np.concatenate([np.empty(0, np.float32), *(values for _, values in blocks)])
        others = groups[pairs[:, 0]] != groups[pairs[:, 1]]
        pairs, cosines = pairs[others], cosines[others]
        highest = np.sort(cosines)[::-1]  # of pairs that were not planted
        matched = [round(float(highest[count]), 3) + 0.001 for count in (0, 10, 100) if count < len(highest)]
        for threshold in sorted({*given.thresholds, *matched}):
            hits = " | ".join(f"{(values >= threshold).mean():.3f}" for values in copies.values())
            found = pairs[cosines >= threshold]
            print(f"| {kind} | {threshold:.3f} | {hits} | {len(found):,} | {len(np.unique(found)):,} |", flush=True)


def stored(training_set: str) -> tuple[NDArray[np.uint8], NDArray[np.str_]]:
    """Return all images of a set, (images, channels, height_px, width_px), and their patients."""
    data = read_training_set(training_set)
    splits = [data.train, data.val, *([data.test] if data.test else [])]
    images = [next(split.images.batches([np.arange(split.images.shape[0])])) for split in splits]
    return np.concatenate(images), np.concatenate([split.patient for split in splits])


def changed(images: NDArray[np.uint8], change: Change) -> NDArray[np.uint8]:
    """Return a changed copy of each image."""
    return np.stack([change(np.ascontiguousarray(image.transpose(1, 2, 0))).transpose(2, 0, 1) for image in images])


def embedded(encoder: Encoder, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return pooled features, (images, dimension)."""
    batches = np.array_split(images, max(1, len(images) // 64))
    return np.concatenate([encoder.features(torch.tensor(batch)).flatten(1).numpy() for batch in batches])


def equal_pixels(images: NDArray[np.uint8]) -> NDArray[np.intp]:
    """Return a number for each image that is the same for images of equal pixels."""
    return np.unique([hash(image.tobytes()) for image in images], return_inverse=True)[1]


def unit(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return vectors of length 1."""
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def arguments() -> argparse.ArgumentParser:
    """Return the flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--training_set", required=True)
    parser.add_argument("--weights", required=True, help="file of the backbone's weights")
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--images", type=int, default=1 << 30, help="at most so many, drawn at random")
    parser.add_argument("--planted", type=int, default=300)
    parser.add_argument("--thresholds", type=float, nargs="+", default=[0.6, 0.7, 0.8, 0.9, 0.95, 0.97])
    parser.add_argument("--threads", type=int, default=2)
    return parser


if __name__ == "__main__":
    main()
