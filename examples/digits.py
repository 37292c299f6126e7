"""Handwritten digits with a small CNN: images of one's own format as shards, then the ordinary jobs.

    python examples/digits.py /data/mnist runs/digits

The first argument is the folder of MNIST's four files, `{train,t10k}-images-idx3-ubyte.gz` and their labels, as
published by LeCun, Cortes and Burges; Fashion-MNIST, KMNIST and EMNIST have the same format.
"""

import gzip
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import hemo

FILES = {"train": "train", "t10k": "test"}
"""First part of a file's name -> split."""


def main(source: Path, out: Path) -> None:
    """Write shards, make a training set, train, and print the metrics of each split."""
    if not (out / "shards" / "card.json").exists():
        write_shards(source, str(out / "shards"))
    training_set = hemo.curate(
        shards=str(out / "shards"), labels="source_class", split="official", val_fraction=0.1, out=str(out / "set")
    )
    trial = hemo.train(
        training_set=training_set.path,
        out=str(out / "records"),
        trial={
            "name": "small CNN",
            "task": "multi_class",
            "model": {"backbone": "CNN(32,64)", "pooling": "flatten", "dense_width": 64, "dropout": 0.0},
            "training": {"epochs": 5, "batch_size": 64, "optimizer": "adam", "learning_rate": 1e-3},
        },
    )
    print(trial.metrics[["accuracy", "auroc", "loss"]])


def write_shards(source: Path, out: str) -> None:
    """Write each digit as an image of one channel, 28 x 28 pixels, with its class and its split."""
    with hemo.ShardWriter(out, channels=("grey",), side_px=28, unit_rows=10_000) as writer:
        for first, split in FILES.items():
            images = read_idx(source / f"{first}-images-idx3-ubyte.gz")
            labels = read_idx(source / f"{first}-labels-idx1-ubyte.gz")
            for number, (image, label) in enumerate(zip(images, labels, strict=True)):
                writer.write(image, image_id=f"{first}-{number:05d}", source_class=str(label), source_split=split)


def read_idx(file: Path) -> NDArray[np.uint8]:
    """Return the values of a compressed IDX file of unsigned bytes.

    Two zero bytes, 8 for unsigned bytes, the number of dimensions, each dimension as four bytes, high byte first, then
    the values in C order.
    """
    content = gzip.decompress(file.read_bytes())
    if content[:3] != b"\0\0\x08":
        raise SystemExit(f"{file} is no IDX file of unsigned bytes")
    dimensions = content[3]
    shape = np.frombuffer(content, ">u4", count=dimensions, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]).absolute())
