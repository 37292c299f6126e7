"""Sequence models on packed studies worked out by hand."""

import math

import pytest
import torch
from torch import Tensor

from hemo.config.trial import ModelConfig
from hemo.errors import ConfigError
from hemo.models.sequence import PACKED_COLUMNS, SequenceClassifier, build_sequence_model, logit_of_any, noisy_or

DIMENSION = 3


def _model(backbone: str = "BiGRU(4)", **series: object) -> SequenceClassifier:
    config = ModelConfig.model_validate({"backbone": backbone, "series": {"embeddings": "/e", **series}})
    torch.manual_seed(0)
    return build_sequence_model(config, dimension=DIMENSION, classes=2).eval()


def _packed(*slices: tuple[int, int, float, int, int], seed: int = 0) -> Tensor:
    """Return slices with these first columns and drawn embeddings."""
    drawn = torch.randn(len(slices), DIMENSION, generator=torch.Generator().manual_seed(seed))
    return torch.cat([torch.tensor(slices, dtype=torch.float32), drawn], dim=1)


TWO_STUDIES = _packed(
    (0, 0, 0.0, 0, 4),
    (0, 0, 5.0, 1, 4),
    (0, 1, 0.0, -1, 4),
    (1, 2, 0.0, 2, -1),
    (1, 2, 5.0, 3, -1),
    (1, 2, 10.0, -1, -1),
)


@pytest.mark.parametrize("backbone", ["BiGRU(4)", "BiGRU(4,6)", "Transformer(8,8)"])
@pytest.mark.parametrize("study", ["attention", "noisy_or"])
def test_logits_come_by_slot_and_do_not_depend_on_the_other_studies_of_a_batch(backbone: str, study: str) -> None:
    model = _model(backbone, study=study)
    both = model(TWO_STUDIES)
    assert both.shape == (5, 2)
    alone = TWO_STUDIES[3:].clone()
    alone[:, 0], alone[:, 1] = 0, 0
    alone[:, 3] = torch.tensor([1, 0, 2])
    swapped = model(alone)
    torch.testing.assert_close(swapped[[1, 0]], both[2:4])
    slices, studies, _ = model.logits(TWO_STUDIES)
    torch.testing.assert_close(both, torch.cat([slices[[0, 1, 3, 4]], studies[:1]]))


@pytest.mark.parametrize(
    ("backbone", "expected"),
    [
        (
            "BiGRU(4,6)",
            [[0.1801648, 0.3162554], [0.5159791, 0.3495633], [0.2253552, 0.334939], [0.7097604, 0.4135146],
             [0.3507791, 0.3242854]],
        ),
        (
            "Transformer(8,8)",
            [[-0.0416374, -0.7484397], [-0.7291965, -1.543326], [0.0532748, -0.57219], [-0.8033508, -1.4519746],
             [-0.3597109, -1.0839572]],
        ),
    ],
)  # fmt: skip
def test_logits_are_those_of_series_padded_before_the_projection(backbone: str, expected: list[list[float]]) -> None:
    """Recorded when whole vectors were padded to the longest series. Processors round the last digits differently."""
    torch.testing.assert_close(_model(backbone)(TWO_STUDIES), torch.tensor(expected), atol=1e-5, rtol=0)


def test_no_padding_is_projected() -> None:
    """Of a series of 40 slices and one of 2: 42 rows, not 80."""
    model = _model()
    seen: list[torch.Size] = []
    model.backbone.project.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].shape))
    model.logits(_packed(*[(0, 0, 5.0 * place, -1, -1) for place in range(40)], (1, 1, 0.0, 0, -1), (1, 1, 5.0, 1, -1)))
    assert seen == [(42, 3 * DIMENSION + 3)]


@pytest.mark.parametrize("backbone", ["BiGRU(4)", "Transformer(4)"])
def test_a_slice_knows_its_neighbours_gaps_and_no_other_series(backbone: str) -> None:
    model = _model(backbone)
    before = model.logits(TWO_STUDIES)[0]
    other_slice, wider, other_series = TWO_STUDIES.clone(), TWO_STUDIES.clone(), TWO_STUDIES.clone()
    other_slice[1, PACKED_COLUMNS] += 3
    assert not torch.allclose(model.logits(other_slice)[0][0], before[0])
    wider[1, 2] = 20.0  # the second slice of the first series lies 15 mm further
    assert not torch.allclose(model.logits(wider)[0][0], before[0])
    other_series[2:, PACKED_COLUMNS:] += 3
    torch.testing.assert_close(model.logits(other_series)[0][:2], before[:2])


def test_attention_is_a_mean_of_the_slices_of_a_study() -> None:
    model = _model()
    with torch.no_grad():
        model.scale.copy_(torch.tensor([2.0, 1.0]))
        model.shift.copy_(torch.tensor([0.5, 0.0]))
    slices, studies, weights = model.logits(TWO_STUDIES)
    torch.testing.assert_close(weights[:3].sum(dim=0), torch.ones(2))  # over both series of the first study
    expected = torch.stack([(weights[:3] * slices[:3]).sum(dim=0), (weights[3:] * slices[3:]).sum(dim=0)])
    torch.testing.assert_close(studies, expected * torch.tensor([2.0, 1.0]) + torch.tensor([0.5, 0.0]))


def test_noisy_or_is_that_of_the_slices() -> None:
    model = _model(study="noisy_or")
    slices, studies, _ = model.logits(TWO_STUDIES)
    expected = 1 - (1 - slices[:3].sigmoid()).prod(dim=0)
    torch.testing.assert_close(studies[0].sigmoid(), expected)


def test_noisy_or_of_two_studies_by_hand() -> None:
    """1 - 0.5 x 0.75 = 0.625 has the logit log(0.625 / 0.375); a study of one slice has that slice's."""
    logits = torch.tensor([[0.0], [-math.log(3)], [2.0]], dtype=torch.float64)
    found = noisy_or(logits, torch.tensor([0, 0, 1]), 2)
    assert found.ravel().tolist() == pytest.approx([math.log(0.625 / 0.375), 2.0])
    assert logit_of_any(torch.zeros(1, dtype=torch.float64)).item() == pytest.approx(-36.04, abs=0.01)
    assert logit_of_any(torch.zeros(1)).item() == pytest.approx(-15.94, abs=0.01)


def test_noisy_or_of_certain_slices_has_a_finite_gradient() -> None:
    model = _model(study="noisy_or")
    with torch.no_grad():
        model.head[1].weight.zero_()
        model.head[1].bias.fill_(-60.0)
    loss = model(TWO_STUDIES).sum()
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters() if parameter.grad is not None)


def test_every_parameter_has_a_gradient_even_where_no_study_is_labelled() -> None:
    model = _model()
    unlabelled = TWO_STUDIES.clone()
    unlabelled[:, 4] = -1
    model(unlabelled).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        ("BiGRU(0)", "at least one unit"),
        ("Transformer(8,4)", "layers of one even width"),
        ("Transformer(3)", "layers of one even width"),
    ],
)
def test_networks_that_cannot_be(backbone: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _model(backbone)


def test_probabilities_and_their_differences_reach_the_projection_as_they_are() -> None:
    """Embeddings are normalised, probabilities 0.25 and 0.75 are not: differences are 0.5, at the ends 0."""
    config = ModelConfig.model_validate({"backbone": "BiGRU(1)", "dropout": 0, "series": {"embeddings": "/e"}})
    network = build_sequence_model(config, dimension=2, classes=1, probabilities=1).backbone
    seen: list[Tensor] = []
    network.project.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    vectors = torch.tensor([[1.0, 3.0, 0.25], [3.0, 1.0, 0.75]])
    network(vectors, torch.tensor([0.0, 5.0]), torch.tensor([0, 0]))
    first, second = seen[0]
    # own, difference to the slice below, to that above, each of two numbers and a probability; then the geometry
    expected = [[-1, 1, 0.25, 0, 0, 0, -2, 2, -0.5, 0, 0, 0.5], [1, -1, 0.75, 2, -2, 0.5, 0, 0, 0, 1, 0.5, 0]]
    torch.testing.assert_close(torch.stack([first, second]), torch.tensor(expected), atol=1e-4, rtol=0)
