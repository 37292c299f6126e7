"""Figures of a split and of its pixel formats."""

import math

import numpy as np
import pytest
import torch

from hemo.config.report import METRICS
from hemo.config.trial import TrialConfig
from hemo.learning.examples import Examples
from hemo.learning.images import ImageSet
from hemo.learning.judge import judge
from hemo.learning.loss import build_loss


def _examples(labels: list[int], formats: list[str], rows: list[int]) -> Examples:
    names = np.array([f"i{row}" for row in range(len(formats))])
    source = ImageSet(np.zeros((len(formats), 1, 2, 2), np.uint8), np.zeros((0, 1)), names, names, np.array(formats))
    return Examples(source, np.array(rows), np.array(labels, np.uint8)[:, None], 0)


def test_each_pixel_format_is_judged_alone() -> None:
    """Row 1 of the source has no label: the formats of the examples are i16, u12, u12, i16."""
    examples = _examples([1, 0, 0, 0], ["i16", "other", "u12", "u12", "i16"], [0, 2, 3, 4])
    logits = torch.tensor([[2.0], [1.0], [-1.0], [3.0]])
    loss = build_loss(TrialConfig(), ("any",), torch.from_numpy(examples.labels).float())
    found = judge("binary", ("any",), logits, examples, loss, 0.5)
    assert found.metrics["accuracy"] == pytest.approx(1 / 2)
    assert found.confusion == (((1, 2), (0, 1)),)
    assert list(found.by_pixel_format) == ["i16", "u12"]
    i16, u12 = found.by_pixel_format["i16"], found.by_pixel_format["u12"]
    assert (i16.images, i16.confusion, i16.metrics["auroc"]) == (2, (((0, 1), (0, 1)),), 0.0)
    assert u12.metrics["log_loss"] == pytest.approx((math.log1p(math.e) + math.log1p(math.exp(-1))) / 2)
    assert tuple(u12.metrics) == METRICS
    undefined = {name for name, value in u12.metrics.items() if value is None}
    assert undefined == {"recall", "false_negative_rate", "auroc", "average_precision"}  # it has no positives
