"""Logits of a split."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from hemo.config.trial import TrialConfig
from hemo.models.normalisation import plain_normalisation
from hemo.training.data.dataset import read_training_set
from hemo.training.data.task_rows import select_splits
from hemo.training.distributed import Worker
from hemo.training.evaluate import evaluate


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
    logits = evaluate(model, examples, plain_normalisation(1), batch_size, Worker())
    means = examples.source.images.pixels[examples.rows].mean(axis=(1, 2, 3)) / 255
    torch.testing.assert_close(logits[:, 0], torch.from_numpy((means - 0.5) / 0.25).float())
    assert (len(logits), model.training) == (15, True)
