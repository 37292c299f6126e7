"""Stored images for a checkpoint."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hemo.config.trial import ModelConfig
from hemo.errors import ConfigError, SourceError
from hemo.learning.checkpoint import CheckpointCard
from hemo.learning.images import read_training_set
from hemo.learning.slices import first_images, stored_batches

CARD = CheckpointCard(
    model=ModelConfig(backbone="test_resnet"),
    task="binary",
    classes=("any",),
    channels=("brain",),
    image={"corpus": "rsna", "side_px": 16},
    height_px=16,
    width_px=16,
    mean=(0.5,),
    std=(0.25,),
    thresholds=(0.5,),
    training_set="feedface",
)


@pytest.mark.parametrize("count", [3, 10, 99])
def test_the_first_images_of_test(make_training_set: Callable[..., str], count: int) -> None:
    """The set has 16, in two files; that it is of another kind of corpus does not matter."""
    folder = make_training_set()
    wanted = read_training_set(folder).test
    assert wanted is not None
    np.testing.assert_array_equal(first_images(folder, CARD, count), wanted.images.pixels[:count])


def test_columns_come_with_their_images(make_training_set: Callable[..., str]) -> None:
    batches = list(stored_batches(make_training_set() + "/test", CARD, ["image_id"], 5))
    assert [batch["image_id"][0].as_py() for batch, _ in batches] == [f"test-{row:03d}" for row in (0, 5, 8, 13)]
    assert [len(images) for _, images in batches] == [5, 3, 5, 3]


def test_the_images_of_a_conversion(make_training_set: Callable[..., str], tmp_path: Path) -> None:
    folder = Path(make_training_set())
    wanted = first_images(str(folder), CARD, 4)
    card = json.loads((folder / "card.json").read_text())
    del card["splits"]
    (folder / "card.json").write_text(json.dumps(card))
    (folder / "test").rename(folder / "shards")
    np.testing.assert_array_equal(first_images(str(folder), CARD, 4), wanted)


def test_what_does_not_fit_is_refused(make_training_set: Callable[..., str], tmp_path: Path) -> None:
    folder = make_training_set()
    with pytest.raises(ConfigError, match="side_px 16 there, 32 now"):
        first_images(folder, CARD.model_copy(update={"image": {"side_px": 32}}), 1)
    with pytest.raises(ConfigError, match=r"channels \['brain'\] there, \['soft'\] now"):
        first_images(folder, CARD.model_copy(update={"channels": ("soft",)}), 1)
    with pytest.raises(SourceError, match="holds no images; give an output folder"):
        first_images(str(tmp_path / "nothing"), CARD, 1)
    for part in (Path(folder) / "test").iterdir():
        part.unlink()
    with pytest.raises(SourceError, match="test has no images"):
        first_images(folder, CARD, 1)
