"""Cells and axes to trials."""

import pytest

from hemo.config.trial import TrialConfig
from hemo.config.tune import GridConfig
from hemo.errors import ConfigError
from hemo.sweeps.grid import grid_trials

RATE = "training.learning_rate"


def test_cells_times_axes_in_the_order_written():
    """Two cells, two rates: four trials, named by what differs."""
    grid = GridConfig(
        cells=({"model.backbone": "ResNet50"}, {"model": {"backbone": "VGG16"}}), axes={RATE: (1e-5, 1e-4)}
    )
    trials = grid_trials(TrialConfig(), grid)
    assert [trial.name for trial in trials] == [
        "ResNet50, lr 1e-05",
        "ResNet50, lr 0.0001",
        "VGG16, lr 1e-05",
        "VGG16, lr 0.0001",
    ]
    assert [trial.training.learning_rate for trial in trials] == [1e-5, 1e-4, 1e-5, 1e-4]


def test_own_names_are_kept_and_told_apart_where_shared():
    """A cell's name stands alone; with an axis each of its trials adds what tells it from the others."""
    assert [
        trial.name for trial in grid_trials(TrialConfig(), GridConfig(cells=({"name": "mn_resultset1"}, {"seed": 1})))
    ] == ["mn_resultset1", "resnet18"]
    named = grid_trials(TrialConfig(), GridConfig(cells=({"name": "mine"},), axes={"seed": (0, 1)}))
    assert [trial.name for trial in named] == ["mine, seed 0", "mine, seed 1"]


def test_a_head_takes_the_place_of_that_of_the_trial():
    base = TrialConfig.model_validate({"model": {"head": "F-D(8)"}})
    cells = ({"model": {"head": "F-D(16)-D"}}, {"model.head": "GAP-dropout-sigmoid"}, {"model.dense_width": 32})
    models = [trial.model for trial in grid_trials(base, GridConfig(cells=cells))]
    assert [(model.pooling, model.hidden_layers, model.dense_width) for model in models] == [
        ("flatten", 1, 16),
        ("gap", 0, 16),
        ("flatten", 1, 32),
    ]
    contradiction = GridConfig(cells=({"model": {"head": "F-D(8)", "dense_width": 32}},))
    with pytest.raises(ConfigError, match=r"head F-D\(8\) has dense_width 8, not 32; leave out one of the two"):
        grid_trials(base, contradiction)


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (
            GridConfig(cells=({"model.backbone": "a"}, {"model.dropout": 2})),
            r"grid\.cells\[1\]: model\.dropout: must be less than 1, not 2",
        ),
        (
            GridConfig(axes={"model.bakbone": ("a",)}),
            r"grid\.axes with model\.bakbone a: model\.bakbone: no such key.*did you mean backbone",
        ),
        (
            GridConfig(cells=({"seed": 1}, {"name": "twin", "seed": 1})),
            r"grid\.cells\[1\] is the same trial as grid\.cells\[0\]",
        ),
        (
            GridConfig(cells=({"seed": 1},), axes={"seed": (2, 3)}),
            r"grid\.cells\[0\]: seed is set here and is an axis as well",
        ),
        (GridConfig(cells=({"seed": 1}, {"name": "resnet18"})), "two cells would be named 'resnet18'"),
    ],
)
def test_bad_grids_are_refused(grid, message):
    """Each refusal names the cell and the way out."""
    with pytest.raises(ConfigError, match=message):
        grid_trials(TrialConfig(), grid)


def test_repeats_are_the_seeds_from_the_cells_own_on():
    grid = GridConfig(cells=({"name": "mn_resultset1"}, {"name": "late", "seed": 5}), repeats=2)
    trials = grid_trials(TrialConfig(), grid)
    assert [trial.seed for trial in trials] == [0, 1, 5, 6]
    assert [trial.name for trial in trials] == [
        "mn_resultset1, seed 0",
        "mn_resultset1, seed 1",
        "late, seed 5",
        "late, seed 6",
    ]


def test_repeats_that_meet_are_refused():
    grid = GridConfig(axes={"seed": (0, 1)}, repeats=2)
    with pytest.raises(ConfigError, match=r"with seed 1 is the same trial as grid\.axes with seed 0, repeat 2"):
        grid_trials(TrialConfig(), grid)
