"""What training does to the prevalence, taken back: by sampling, by weights, and where no formula does."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from hemo.config.trial import TrainingConfig, TrialConfig
from hemo.stats.calibration import Calibration, SampledClass, TrainPrior
from hemo.stats.choices import STANDARD_POINTS
from hemo.training.calibrate import calibrate, choose_operating_points, train_prior
from hemo.training.data.examples import Examples, ImageSet, Splits
from hemo.training.evaluate import Readout
from hemo.training.loss import build_loss


def examples(labels: list[list[int]]) -> Examples:
    names = np.array([f"i{row}" for row in range(len(labels))])
    source = ImageSet(np.zeros((len(labels), 1, 2, 2), np.uint8), np.zeros((0, 1)), names, names, names)
    return Examples(source, np.arange(len(labels)), np.array(labels, np.uint8), 0)


def splits(train: list[list[int]], epoch: list[list[int]], classes: tuple[str, ...], **fields: object) -> Splits:
    """The population: 1 of 5 with the first class, 1 of 10 with each other."""
    population = np.array([0.2, *[0.1] * (len(classes) - 1)])
    val = examples([[1] * len(classes), [0] * len(classes)])
    known = {"test": None, "population": population, "curated_by": "", "epoch": examples(epoch)}
    return Splits(classes, examples(train), val, **{**known, **fields})


def prior(config: TrialConfig, made: Splits) -> TrainPrior:
    return train_prior(config, made, build_loss(config, made.classes, torch.from_numpy(made.epoch.labels).float()))


ONE_OF_TWO = [[1], [0]]


def test_without_sampling_and_weights_nothing_is_taken_back() -> None:
    assert not prior(TrialConfig(), splits(ONE_OF_TWO, ONE_OF_TWO, ("any",))).shifted


@pytest.mark.parametrize(
    ("config", "fields"),
    [
        (TrialConfig(), {"curated_by": "any"}),
        (TrialConfig(training=TrainingConfig(balance="oversample")), {}),
        (TrialConfig(training=TrainingConfig(balance="undersample")), {"curated_by": "any"}),
    ],
)
def test_sampling_by_the_class_is_taken_back_by_its_odds(config: TrialConfig, fields: dict[str, str]) -> None:
    """An epoch has 1 of 2, the population 1 of 5."""
    found = prior(config, splits(ONE_OF_TWO, ONE_OF_TWO, ("any",), **fields))
    assert found.sampled == SampledClass(0, 0.5, 0.2, implied=True)
    assert found.unknown == ""


def test_subtypes_that_imply_the_sampled_class_follow_it() -> None:
    config = TrialConfig(task="multi_label")
    nested = splits([[1, 1], [1, 0], [0, 0]], [[1, 1], [0, 0]], ("any", "subdural"), curated_by="any")
    assert prior(config, nested).sampled == SampledClass(0, 0.5, 0.2, implied=True)
    apart = splits([[1, 1], [1, 0], [0, 1]], [[1, 1], [0, 0]], ("any", "fracture"), curated_by="any")
    assert prior(config, apart).unknown == "train was sampled by any, which fracture does not imply"


def test_sampling_by_another_class_cannot_be_taken_back() -> None:
    config = TrialConfig(target="subdural")
    found = prior(config, splits(ONE_OF_TWO, ONE_OF_TWO, ("subdural",), curated_by="any"))
    assert found.unknown == "train was sampled by any, which is no class of the task"
    twice = config.model_copy(update={"training": TrainingConfig(balance="oversample")})
    found = prior(twice, splits(ONE_OF_TWO, ONE_OF_TWO, ("subdural",), curated_by="any"))
    assert found.unknown == "train was sampled by any and by subdural"


def test_class_weights_are_taken_back() -> None:
    """One positive of four weighs 4 / 2 = 2, a negative 4 / 6: three times as much, so -ln 3."""
    config = TrialConfig(training=TrainingConfig(loss="class_weighted"))
    made = splits([[1], [0], [0], [0]], [[1], [0], [0], [0]], ("any",))
    assert prior(config, made).shifts == pytest.approx((-np.log(3),))


def test_exclusive_classes_have_a_shift_each() -> None:
    """Balanced to 1/2 and 1/2 of 1/5 and 1/10 (and a class nobody has): ln 0.4 and ln 0.2."""
    config = TrialConfig(task="multi_class", training=TrainingConfig(balance="oversample"))
    made = splits([[1, 0, 0], [0, 1, 0]], [[1, 0, 0], [0, 1, 0]], ("a", "b", "c"))
    assert prior(config, made).shifts == pytest.approx((np.log(0.4), np.log(0.2), 0.0))
    assert prior(TrialConfig(task="multi_class"), made).shifts == (0, 0, 0)


def test_a_fit_is_calibrated_as_configured() -> None:
    """Too few patients for a temperature: the prior correction alone."""
    made = splits(ONE_OF_TWO, ONE_OF_TWO, ("any",), curated_by="any")
    config = TrialConfig()
    loss = build_loss(config, made.classes, torch.from_numpy(made.epoch.labels).float())
    found = calibrate(config, made, torch.tensor([[1.0], [-1.0]]), loss)
    assert (found.method, found.sampled, found.reason) == (
        "prior",
        SampledClass(0, 0.5, 0.2, implied=True),
        "no temperature: 2 patients, at least 10 are needed",
    )
    none = TrialConfig(training=TrainingConfig(calibration="none"))
    assert calibrate(none, made, torch.tensor([[1.0], [-1.0]]), loss) == Calibration(reason="not configured")


def test_operating_points_are_of_calibrated_probabilities() -> None:
    """Logits of -1 and 1 halved: half way is 0.5. The trial's own rule comes first; without positives there is none."""
    config = TrialConfig(task="multi_label", training=TrainingConfig(operating_point="cost_ratio=3"))
    readout = Readout("multi_label", ("a", "b"), calibration=Calibration("temperature", "", (0.5, 0.5), (0.0, 0.0)))
    logits = torch.tensor([[-2.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
    labels = np.array([[0, 0], [0, 0], [1, 0], [1, 0]], np.uint8)
    found = choose_operating_points(config, readout, logits, labels)
    assert list(found) == ["cost_ratio=3", *STANDARD_POINTS]
    assert found["cost_ratio=3"] == (pytest.approx(0.5), None)
    assert choose_operating_points(config, replace(readout, task="multi_class"), logits, labels) == {}
