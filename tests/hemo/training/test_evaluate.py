"""Logits of a split, and metrics worked out by hand."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from hemo.config.trial import TrainingConfig, TrialConfig
from hemo.corpus.labels import RSNA_CLASSES
from hemo.models.classifier import plain_normalisation
from hemo.stats.calibration import Calibration
from hemo.training.data.dataset import read_training_set, select_splits
from hemo.training.data.examples import Examples, ImageSet
from hemo.training.distributed import Worker
from hemo.training.evaluate import Readout, compute_metrics, confusion, predict_logits, split_metrics
from hemo.training.loss import build_loss
from hemo.training.results import METRICS

NAMES = "abc"


def _measure(
    task: str, logits: list[list[float]], targets: list[list[int]], threshold: float = 0.5
) -> dict[str, float]:
    truth = torch.tensor(targets, dtype=torch.float32)
    classes = tuple(NAMES[: truth.shape[1]])
    loss = build_loss(TrialConfig(task=task), classes, truth)
    return compute_metrics(Readout(task, classes, threshold), torch.tensor(logits), truth, loss)


BINARY_LOGITS, BINARY_TARGETS = [[2.0], [1.0], [-1.0], [-2.0], [-3.0]], [[1], [0], [1], [0], [0]]


def test_binary_figures_by_hand() -> None:
    """Called positive: the first two. One true positive, one false, one missed, two true negatives."""
    found = _measure("binary", BINARY_LOGITS, BINARY_TARGETS)
    log_losses = [math.log1p(math.exp(-2)), math.log1p(math.e), math.log1p(math.e)]
    log_losses += [math.log1p(math.exp(-2)), math.log1p(math.exp(-3))]
    off = [1 / (1 + math.exp(distance)) for distance in (2, -1, -1, 2, 3)]  # each alone in its fifteenth of 0..1
    expected = {
        "loss": sum(log_losses) / 5,
        "log_loss": sum(log_losses) / 5,
        "accuracy": 3 / 5,
        "precision": 1 / 2,
        "recall": 1 / 2,
        "specificity": 2 / 3,
        "f1": 1 / 2,
        "false_negative_rate": 1 / 2,
        "auroc": 5 / 6,  # of six pairs only (-1, 1) is in the wrong order
        "average_precision": (1 / 1 + 2 / 3) / 2,  # positives stand first and third
        "calibration_error": sum(off) / 5,
    }
    assert found == pytest.approx(expected, abs=1e-6)
    assert tuple(found) == METRICS


def test_calibration_compares_means_within_a_bin() -> None:
    """Probability 3/4 for four images of which three are positive, as it should be; then for four of which one is."""
    logits = [[math.log(3)]] * 4
    assert _measure("binary", logits, [[1], [1], [1], [0]])["calibration_error"] == pytest.approx(0, abs=1e-6)
    assert _measure("binary", logits, [[0], [1], [0], [0]])["calibration_error"] == pytest.approx(1 / 2)


def test_bins_of_the_calibration_error_count_by_their_images() -> None:
    """Four images called 3/4, one of them rightly, and one called 1/4, a negative: (4 x 1/2 + 1 x 1/4) / 5."""
    logits = [[math.log(3)]] * 4 + [[-math.log(3)]]
    found = _measure("binary", logits, [[1], [0], [0], [0], [0]])
    assert found["calibration_error"] == pytest.approx(0.45)


def test_equal_probabilities_are_called_together() -> None:
    """Above 1/2 precision 1/2 at recall 1/2, then 2/3 at 1; of two pairs one is a tie, the other in the wrong order."""
    found = _measure("binary", [[1.0], [1.0], [-1.0]], [[1], [0], [1]])
    assert found["average_precision"] == pytest.approx(1 / 2 * 1 / 2 + 1 / 2 * 2 / 3)
    assert found["auroc"] == pytest.approx((1 / 2 + 0) / 2)


def test_missed_positives_by_threshold_and_over_classes() -> None:
    """Of four positives at 1/4, 1/2, 3/4 and 9/10 a threshold of 0.6 misses two; class c has none to miss."""
    logits = [[-math.log(3)], [0.0], [math.log(3)], [math.log(9)], [math.log(9)]]
    found = _measure("binary", logits, [[1], [1], [1], [1], [0]], 0.6)
    assert (found["false_negative_rate"], found["recall"]) == pytest.approx((1 / 2, 1 / 2))
    several = _measure("multi_label", [[1.0, 1, 1], [1, -1, -1], [-1, 1, -1]], [[1, 1, 0], [1, 1, 0], [0, 1, 0]])
    assert several["false_negative_rate"] == pytest.approx((0 + 1 / 3) / 2)


def test_the_log_loss_of_six_classes_counts_any_twice() -> None:
    """An image called 1/2 in all columns but `any`, which is right with 3/4: (2 ln 4/3 + 5 ln 2) / 7."""
    logits, truth = torch.tensor([[math.log(3), 0, 0, 0, 0, 0]]), torch.tensor([[1.0, 0, 0, 0, 0, 1]])
    loss = build_loss(TrialConfig(task="multi_label"), RSNA_CLASSES, truth)
    found = compute_metrics(Readout("multi_label", RSNA_CLASSES), logits, truth, loss)
    assert RSNA_CLASSES[0] == "any"
    assert found["log_loss"] == pytest.approx((2 * math.log(4 / 3) + 5 * math.log(2)) / 7)
    assert found["loss"] == pytest.approx((math.log(4 / 3) + 5 * math.log(2)) / 6)


def test_the_log_loss_of_images_is_their_mean_and_without_any_no_class_counts_twice() -> None:
    """One image as above, one called 1/2 throughout: ((2 ln 4/3 + 5 ln 2) / 7 + ln 2) / 2."""
    logits, truth = torch.zeros(2, 6), torch.tensor([[1.0, 0, 0, 0, 0, 1], [0, 1, 0, 0, 0, 0]])
    logits[0, 0] = math.log(3)
    loss = build_loss(TrialConfig(task="multi_label"), RSNA_CLASSES, truth)
    found = compute_metrics(Readout("multi_label", RSNA_CLASSES), logits, truth, loss)["log_loss"]
    assert found == pytest.approx(((2 * math.log(4 / 3) + 5 * math.log(2)) / 7 + math.log(2)) / 2)
    others = tuple("abcdef")
    plain = compute_metrics(Readout("multi_label", others), logits, truth, loss)["log_loss"]
    assert plain == pytest.approx((math.log(4 / 3) + 11 * math.log(2)) / 12)


def test_the_log_loss_is_not_weighted_by_class_as_the_loss_may_be() -> None:
    truth = torch.tensor([[1.0], [0], [0], [0]])
    logits = torch.tensor([[0.0], [2.0], [2.0], [2.0]])
    config = TrialConfig(training=TrainingConfig(loss="class_weighted"))
    found = compute_metrics(Readout("binary", ("any",)), logits, truth, build_loss(config, ("any",), truth))
    wrong = math.log1p(math.exp(2))
    assert found["log_loss"] == pytest.approx((math.log(2) + 3 * wrong) / 4)
    assert found["loss"] == pytest.approx((2 * math.log(2) + 2 / 3 * 3 * wrong) / 4)


def test_the_threshold_is_a_probability_to_exceed() -> None:
    logits, targets = [[0.0], [0.0], [math.log(3)]], [[0], [1], [1]]
    assert _measure("binary", logits, targets, 0.5)["recall"] == pytest.approx(1 / 2)
    assert _measure("binary", logits, targets, 0.49)["recall"] == pytest.approx(1.0)
    assert _measure("binary", logits, targets, 0.8)["recall"] == 0.0


ALWAYS = {"loss", "log_loss", "calibration_error"}


@pytest.mark.parametrize(
    ("logits", "label", "defined"),
    [
        ([[1.0], [2.0]], 1, {"precision", "recall", "false_negative_rate", "f1"}),
        ([[-1.0], [-2.0]], 1, {"recall", "false_negative_rate", "f1"}),
        ([[1.0], [2.0]], 0, {"precision", "specificity", "f1"}),
        ([[-1.0], [-2.0]], 0, {"specificity"}),
    ],
)
def test_what_is_not_defined_is_left_out(logits: list[list[float]], label: int, defined: set[str]) -> None:
    assert set(_measure("binary", logits, [[label], [label]])) == ALWAYS | defined


def test_of_no_images_nothing_is_known() -> None:
    loss = build_loss(TrialConfig(), ("a",), torch.ones(1, 1))
    assert compute_metrics(Readout("binary", ("a",)), torch.empty(0, 1), torch.empty(0, 1), loss) == {}


def test_multi_label_figures_are_means_over_classes_that_have_them() -> None:
    found = _measure("multi_label", [[2.0, -1.0], [-2.0, -1.0], [3.0, 1.0]], [[1, 0], [0, 0], [1, 0]])
    assert found["accuracy"] == pytest.approx((1 + 2 / 3) / 2)
    assert found["auroc"] == pytest.approx(1.0)  # class b has no positives
    assert found["recall"] == pytest.approx(1.0)
    assert found["specificity"] == pytest.approx((1 + 2 / 3) / 2)


def test_multi_class_accuracy_is_of_the_most_probable_class() -> None:
    logits = [[3.0, 1.0, 0.0], [0.0, 2.0, 1.0], [2.0, 0.0, 1.0], [0.0, 1.0, 2.0]]
    found = _measure("multi_class", logits, [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]])
    assert found["accuracy"] == pytest.approx(3 / 4)
    assert found["recall"] == pytest.approx((1 + 1 + 1 / 2) / 3)
    assert found["specificity"] == pytest.approx((2 / 3 + 1 + 1) / 3)


def test_multi_class_calibration_is_of_the_most_probable_class() -> None:
    """Two images called with 3/5 (weights 3 : 1 : 1), one of them rightly: 3/5 - 1/2."""
    logits = [[math.log(3), 0.0, 0.0], [math.log(3), 0.0, 0.0]]
    found = _measure("multi_class", logits, [[1, 0, 0], [0, 1, 0]])
    assert found["calibration_error"] == pytest.approx(0.1)
    assert found["log_loss"] == pytest.approx((math.log(5 / 3) + math.log(5)) / 2)


def test_confusion_of_each_class_or_of_all() -> None:
    """Rows are the truth."""
    binary = torch.tensor(BINARY_LOGITS), torch.tensor(BINARY_TARGETS)
    assert confusion(Readout("binary", ("a",)), *binary) == (((2, 1), (1, 1)),)
    assert confusion(Readout("binary", ("a",), 0.1), *binary) == (((1, 2), (0, 2)),)
    two = torch.tensor([[1.0, -1.0], [1.0, 1.0], [-1.0, -1.0]]), torch.tensor([[1, 1], [0, 1], [0, 0]])
    assert confusion(Readout("multi_label", ("a", "b")), *two) == (((1, 1), (0, 1)), ((1, 0), (1, 1)))
    assert confusion(Readout("multi_label", ("a", "b"), (0.8, 0.2)), *two) == (
        ((2, 0), (1, 0)),
        ((0, 1), (0, 2)),
    )  # .73 or .27 each
    three = torch.eye(3)[[0, 1, 1, 2]], torch.eye(3)[[0, 1, 2, 2]]
    assert confusion(Readout("multi_class", ("a", "b", "c")), *three) == (((1, 0, 0), (0, 1, 0), (0, 1, 1)),)


def test_exclusive_classes_share_one_probability() -> None:
    """exp(1) / (exp(1) + exp(0)) = 0.7311, which is also the sigmoid of 1."""
    logits = torch.tensor([[1.0, 0.0]])
    assert Readout("multi_class", ("a", "b")).probabilities(logits)[0].tolist() == pytest.approx(
        [0.7311, 0.2689], abs=1e-4
    )
    assert Readout("multi_label", ("a", "b")).probabilities(logits)[0].tolist() == pytest.approx(
        [0.7311, 0.5], abs=1e-4
    )


def test_all_metrics_but_the_loss_are_of_calibrated_probabilities() -> None:
    """Logits of ln 9 and -ln 9, halved and lowered by ln 3: odds of 1 and 1/9, so 0.5 and 0.1."""
    calibration = Calibration("platt", slopes=(0.5,), intercepts=(-math.log(3),))
    logits, truth = torch.tensor([[math.log(9)], [-math.log(9)]]), torch.tensor([[1.0], [0.0]])
    loss = build_loss(TrialConfig(), ("a",), truth)
    found = compute_metrics(Readout("binary", ("a",), (0.4,), calibration), logits, truth, loss)
    assert found["loss"] == pytest.approx(-math.log(0.9))
    assert found["log_loss"] == pytest.approx(-(math.log(0.5) + math.log(0.9)) / 2)
    assert found["calibration_error"] == pytest.approx((0.5 + 0.1) / 2)
    assert (found["recall"], found["specificity"], found["auroc"]) == (1, 1, 1)
    assert compute_metrics(Readout("binary", ("a",), (0.6,), calibration), logits, truth, loss)["recall"] == 0


def _examples(labels: list[int], formats: list[str], rows: list[int]) -> Examples:
    names = np.array([f"i{row}" for row in range(len(formats))])
    source = ImageSet(np.zeros((len(formats), 1, 2, 2), np.uint8), np.zeros((0, 1)), names, names, np.array(formats))
    return Examples(source, np.array(rows), np.array(labels, np.uint8)[:, None], 0)


def test_each_pixel_format_is_judged_alone() -> None:
    """Row 1 of the source has no label: the formats of the examples are i16, u12, u12, i16."""
    examples = _examples([1, 0, 0, 0], ["i16", "other", "u12", "u12", "i16"], [0, 2, 3, 4])
    logits = torch.tensor([[2.0], [1.0], [-1.0], [3.0]])
    loss = build_loss(TrialConfig(), ("any",), torch.from_numpy(examples.labels).float())
    found = split_metrics(Readout("binary", ("any",)), logits, examples, loss)
    assert found.metrics["accuracy"] == pytest.approx(1 / 2)
    assert found.confusion == (((1, 2), (0, 1)),)
    assert list(found.by_pixel_format) == ["i16", "u12"]
    i16, u12 = found.by_pixel_format["i16"], found.by_pixel_format["u12"]
    assert (i16.images, i16.confusion, i16.metrics["auroc"]) == (2, (((0, 1), (0, 1)),), 0.0)
    assert u12.metrics["log_loss"] == pytest.approx((math.log1p(math.e) + math.log1p(math.exp(-1))) / 2)
    assert tuple(u12.metrics) == METRICS
    undefined = {name for name, value in u12.metrics.items() if value is None}
    # it has no positives
    assert undefined == {"accuracy", "recall", "false_negative_rate", "auroc", "average_precision"}


class MeanOfImage(nn.Module):
    """Its logit is the image's mean; it must be asked in evaluation mode."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert not self.training
        return images.mean(dim=(1, 2, 3))[:, None]


@pytest.mark.parametrize("batch_size", [1, 5, 100])
def test_every_example_has_its_logit_in_its_place(make_training_set: Callable[..., str], batch_size: int) -> None:
    folder = make_training_set(label=lambda number, _: None if number == 2 else number % 2)
    examples = select_splits(read_training_set(folder), TrialConfig()).val
    model = MeanOfImage().train()
    logits = predict_logits(model, examples, plain_normalisation(1), batch_size, Worker())
    means = examples.source.images.pixels[examples.rows].mean(axis=(1, 2, 3)) / 255
    torch.testing.assert_close(logits[:, 0], torch.from_numpy((means - 0.5) / 0.25).float())
    assert (len(logits), model.training) == (15, True)
