"""Which images are worth a look."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from hemo.errors import ConfigError, SourceError
from hemo.learning.cases import Case, hardest_ids, log_loss, pick_cases
from hemo.learning.slices import StoredImages
from tests.hemo.learning.test_slices import CARD


class BrightnessPredictor:
    """Its probability is twice the image's mean, as a share of 255."""

    card = CARD.model_copy(update={"thresholds": (0.3,)})

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        return (2 * images.mean(axis=(1, 2, 3))[:, None] / 255).astype(np.float32)


def _stored(folder: str) -> StoredImages:
    return StoredImages(f"{folder}/test", ("any",))


def test_loss_of_the_truth_by_hand() -> None:
    found = log_loss(np.array([0.25, 0.25, 0.0]), np.array([1, 0, 1]))
    np.testing.assert_allclose(found, [math.log(4), math.log(4 / 3), -math.log(1e-7)])
    assert Case("a", np.empty(0), 1, 0.25, False).loss == pytest.approx(math.log(4))
    assert Case("a", np.empty(0), None, 0.25, False).loss is None


@pytest.mark.parametrize("batch_size", [3, 64])
def test_the_highest_losses_come_first_and_what_nobody_labelled_not_at_all(
    make_training_set: Callable[..., str], batch_size: int
) -> None:
    """Bright images are positive; then image 5 is called negative, and image 2 has no label."""
    folder = make_training_set(label=lambda number, _: None if number == 2 else number % 2)
    predictor = BrightnessPredictor()
    every = pick_cases(_stored(folder), predictor, 0, [f"test-{row:03d}" for row in range(16)])
    losses = {case.image_id: case.loss for case in every if case.loss is not None}
    assert (len(losses), every[2].label) == (15, None)
    wanted = sorted(losses, key=lambda name: -losses[name])
    assert hardest_ids(_stored(folder), predictor, 0, 4, batch_size) == wanted[:4]
    assert hardest_ids(_stored(folder), predictor, 0, 99, batch_size) == wanted


def test_cases_come_in_the_order_asked_for(make_training_set: Callable[..., str]) -> None:
    stored, predictor = _stored(make_training_set()), BrightnessPredictor()
    late, early = pick_cases(stored, predictor, 0, ["test-011", "test-002"])
    assert (late.image_id, late.label, early.image_id, early.label) == ("test-011", 1, "test-002", 0)
    assert late.probability == pytest.approx(2 * late.image.mean() / 255, rel=1e-5)
    assert late.probability > 0.3 > early.probability
    assert (late.called, early.called) == (True, False)


def test_what_is_not_there_is_refused(make_training_set: Callable[..., str]) -> None:
    folder, predictor = make_training_set(), BrightnessPredictor()
    with pytest.raises(ConfigError, match=r"image_ids: 'x' is not in .*test \(1 of 2\)"):
        pick_cases(_stored(folder), predictor, 0, ["test-001", "x"])
    unlabelled = StoredImages(f"{folder}/test", ())
    assert pick_cases(unlabelled, predictor, 0, ["test-001"])[0].label is None
    with pytest.raises(ConfigError, match="has no labels of any; give a training set, or image_ids"):
        hardest_ids(unlabelled, predictor, 0, 1, 8)


def test_a_split_nobody_labelled_is_refused(make_training_set: Callable[..., str]) -> None:
    folder = make_training_set(label=lambda number, _: None)
    with pytest.raises(SourceError, match="no image has a label of any"):
        hardest_ids(_stored(folder), BrightnessPredictor(), 0, 1, 8)
