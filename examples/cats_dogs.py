"""Photographs of cats and dogs: a zip of class folders, from random weights and from pretrained ones, in one table.

    python examples/cats_dogs.py /data/dogs_cats.zip runs/cats_dogs WEIGHTS_FOLDER

The zip holds `{train,test}/{cats,dogs}/NAME.jpg`. The folder holds weights under timm's names, such as
`tf_efficientnet_lite0.safetensors` and `mobilenetv1_100_notop.safetensors`; without it VGG16 is trained alone. Trials
run one after the other on two CPUs.
"""

import sys
from pathlib import Path
from typing import Any

import hemo

PRETRAINED = {
    "tf_efficientnet_lite0": "tf_efficientnet_lite0.safetensors",
    "MobileNet": "mobilenetv1_100_notop.safetensors",
}
"""Backbone -> file of weights."""


def main(source: Path, out: Path, weights: Path | None) -> None:
    """Convert, make a training set, train a cell a backbone, and print the trials."""
    shards = hemo.convert(source=str(source), corpus="image_folder", side_px=160, out=str(out / "shards"))
    training_set = hemo.curate(
        shards=shards.path, labels="source_class", split="official", val_fraction=0.15, out=str(out / "set")
    )
    trials = hemo.tune(
        training_set=training_set.path,
        out=str(out / "records"),
        workers={"cpus": 2},
        trial={
            "target": "dogs",
            "model": {"pooling": "gap", "hidden_layers": 1, "dense_width": 64},
            "training": {"epochs": 4, "batch_size": 32, "optimizer": "adamw", "schedule": "cosine"},
            "augment": {"horizontal_flip": 0.5},
        },
        grid={"cells": cells(weights)},
    )
    frame = trials.to_pandas().set_index("name")
    print(frame[["val_accuracy", "test_accuracy", "test_auroc", "seconds"]].to_string())
    print(hemo.report(records=str(out / "records"), out=str(out / "report")).page)


def cells(weights: Path | None) -> list[dict[str, Any]]:
    """Return the cells of the grid: VGG16 from random weights, and each backbone whose weights are there.

    Raises:
        SystemExit: If a folder is given that has none of the files.
    """
    random = {
        "name": "VGG16, random weights",
        "model.backbone": "VGG16",
        "model.side_px": 64,
        "training.learning_rate": 1e-4,
    }
    pretrained = [
        {
            "name": f"{backbone}, ImageNet weights",
            "model.backbone": backbone,
            "model.weights": str(weights / file),
            "training.freeze_epochs": 1,
            "training.learning_rate": 2e-4,
        }
        for backbone, file in PRETRAINED.items()
        if weights and (weights / file).exists()
    ]
    if weights and not pretrained:
        raise SystemExit(f"{weights} has none of {', '.join(PRETRAINED.values())}")
    return [random, *pretrained]


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        raise SystemExit(__doc__)
    weights_folder = Path(sys.argv[3]).absolute() if len(sys.argv) == 4 else None
    main(Path(sys.argv[1]), Path(sys.argv[2]).absolute(), weights_folder)
