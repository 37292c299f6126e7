"""Epochs as lines, epochs driven and observed, out-of-memory errors."""

import numpy as np
import pytest
import torch

from hemo.errors import ConfigError, TrialError
from hemo.models.normalisation import plain_normalisation
from hemo.training.reporting import Epochs, FitResult, epoch_line, observed, report_out_of_memory, run_to_end
from hemo.training.results import EpochMetrics

METRICS = EpochMetrics(
    epoch=3,
    train={"loss": 0.51239, "accuracy": 0.75, "auroc": 0.8},
    val={"loss": 0.6, "accuracy": 0.7},
    learning_rate=1e-3,
    seconds=1.25,
    images_per_second=812.4,
)

LINE = (
    "epoch 3: train loss 0.5124, train accuracy 0.7500, train auroc 0.8000, val loss 0.6000, val accuracy 0.7000 "
    "(1.2 s, 812 images/s)"
)

PETABYTE = 1 << 50


def three_epochs() -> Epochs[str]:
    """Yield three epochs, or fewer if stopped."""
    for epoch in (1, 2, 3):
        if (yield METRICS.model_copy(update={"epoch": epoch})):
            return f"stopped after {epoch}"
    return "all"


def test_an_epoch_is_one_line() -> None:
    assert epoch_line(METRICS) == LINE


def test_epochs_run_to_their_end_while_each_is_observed_before_the_caller_sees_it() -> None:
    seen: list[int] = []
    assert run_to_end(observed(three_epochs(), lambda metrics: seen.append(metrics.epoch))) == "all"
    assert seen == [1, 2, 3]


def test_a_stop_reaches_the_epochs_behind_the_observer() -> None:
    seen: list[int] = []
    epochs = observed(three_epochs(), lambda metrics: seen.append(metrics.epoch))
    assert [next(epochs).epoch, next(epochs).epoch] == [1, 2] == seen
    with pytest.raises(StopIteration, match="stopped after 2"):
        epochs.send(True)


@pytest.mark.parametrize(("seconds", "said"), [(0.06, ""), (0.07, ", 0.1 s waiting for images")])
def test_data_wait_time_is_shown_above_a_twentieth(seconds: float, said: str) -> None:
    waited = METRICS.model_copy(update={"data_wait_seconds": seconds})
    assert epoch_line(waited) == LINE.replace("images/s)", f"images/s{said})")


def test_training_time_is_the_sum_over_epochs() -> None:
    result = FitResult(torch.nn.Identity(), plain_normalisation(1), {}, (METRICS, METRICS), 1, "epochs")
    assert result.seconds == 2.5


def test_a_tensor_or_an_array_too_large_names_the_batch_size_and_half_of_it() -> None:
    for ask in (torch.empty, np.empty):
        with (
            pytest.raises(TrialError, match=r"^out of memory with batch_size 9; try batch_size 4, smaller images or"),
            report_out_of_memory(9, TrialError),
        ):
            ask(PETABYTE)


def test_a_gpu_has_other_errors_and_one_image_cannot_be_halved() -> None:
    for error in (torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("CUBLAS_STATUS_ALLOC_FAILED")):
        with (
            pytest.raises(ConfigError, match="with batch_size 1; try smaller images or another backbone"),
            report_out_of_memory(1, ConfigError),
        ):
            raise error


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="sizes do not match"), report_out_of_memory(9, TrialError):
        raise RuntimeError("sizes do not match")
