"""Lines about epochs."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from hemo.errors import ConfigError, TrialError
from hemo.models.normalisation import plain_normalisation
from hemo.training.reporting import EpochFigures, FitResult, LineReporter, QuietReporter, epoch_line, memory_told

FIGURES = EpochFigures(
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


def test_an_epoch_is_one_line_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert LineReporter().epoch(FIGURES)
    assert capsys.readouterr().err == LINE + "\n"


@pytest.mark.parametrize(("seconds", "said"), [(0.06, ""), (0.07, ", 0.1 s waiting for images")])
def test_waiting_is_told_where_it_is_more_than_a_twentieth(seconds: float, said: str) -> None:
    waited = replace(FIGURES, waiting_seconds=seconds)
    assert epoch_line(waited) == LINE.replace("images/s)", f"images/s{said})")


def test_a_line_may_go_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    lines: list[str] = []
    assert LineReporter(lines.append).epoch(FIGURES)
    assert QuietReporter().epoch(FIGURES)
    assert (lines, capsys.readouterr().err) == ([LINE], "")


def test_learning_time_is_the_sum_over_epochs() -> None:
    result = FitResult(torch.nn.Identity(), plain_normalisation(1), {}, (FIGURES, FIGURES), 1, "epochs")
    assert result.seconds == 2.5


def test_a_tensor_or_an_array_too_large_names_the_batch_size_and_half_of_it() -> None:
    for ask in (torch.empty, np.empty):
        with (
            pytest.raises(TrialError, match=r"^out of memory with batch_size 9; try batch_size 4, smaller images or"),
            memory_told(9, TrialError),
        ):
            ask(PETABYTE)


def test_a_gpu_says_it_otherwise_and_one_image_cannot_be_halved() -> None:
    for error in (torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("CUBLAS_STATUS_ALLOC_FAILED")):
        with (
            pytest.raises(ConfigError, match="with batch_size 1; try smaller images or another backbone"),
            memory_told(1, ConfigError),
        ):
            raise error


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="sizes do not match"), memory_told(9, TrialError):
        raise RuntimeError("sizes do not match")
