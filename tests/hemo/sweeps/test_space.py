"""Search spaces: distributions, and refusals before any work."""

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from hemo.config.trial import TrialConfig
from hemo.config.tune import SearchConfig
from hemo.errors import ConfigError
from hemo.sweeps.space import point_trial, search_space, searched_trials


def search(space, **fields):
    """Return a search of `space`."""
    return SearchConfig.model_validate({"space": space, **fields})


def test_distributions_follow_the_field_and_not_the_spelling():
    """`low: 0, high: 1` of a float field is no choice between 0 and 1."""
    space = search_space(
        TrialConfig(),
        search(
            {
                "model.backbone": {"choices": ["VGG16", "ResNet50"]},
                "model.dense_width": {"low": 8, "high": 64, "log": True},
                "training.weight_decay": {"low": 0, "high": 1},
            }
        ),
    )
    assert space == {
        "model.backbone": CategoricalDistribution(("VGG16", "ResNet50")),
        "model.dense_width": IntDistribution(8, 64, log=True),
        "training.weight_decay": FloatDistribution(0.0, 1.0),
    }


def test_a_loss_is_searched_by_what_does_not_depend_on_it():
    values = {"training.loss": {"choices": ["default", "class_weighted"]}}
    assert set(search_space(TrialConfig(), search(values, metric="val_auroc"))) == {"training.loss"}


@pytest.mark.parametrize(
    "space",
    [
        {"training.balance": {"choices": ["none", "undersample"]}},
        {"training.balance_ratio": {"low": 1, "high": 4}},
    ],
)
def test_class_weights_are_searched_by_what_does_not_depend_on_them(space):
    """A balanced epoch has class weights of 1, by which validation loss is another measure."""
    weighted = TrialConfig.model_validate({"training": {"loss": "class_weighted"}})
    (key,) = space
    for measured in ({}, {"objectives": ["val_auroc", "val_loss"], "metric": "val_auroc", "scheduler": "none"}):
        with pytest.raises(ConfigError, match=rf"{key} changes the class weights of val_loss.*search on val_auroc or"):
            search_space(weighted, search(space, **measured))
    assert set(search_space(weighted, search(space, metric="val_auroc"))) == {key}
    assert set(search_space(TrialConfig(), search(space))) == {key}


def test_a_point_becomes_a_named_trial():
    """Values are set and named in the order of the config, whatever order they came in."""
    trial = point_trial(TrialConfig(), {"training.learning_rate": 3.21234e-4, "model.backbone": "VGG16"})
    assert (trial.name, trial.training.learning_rate, trial.model.backbone) == (
        "VGG16, lr 0.000321",
        3.21234e-4,
        "VGG16",
    )


def test_points_with_a_head_are_named_by_its_layers():
    heads = ("F-D(8)", "F-D(16)-D", "GAP-dropout-sigmoid")
    points = [{"training.learning_rate": 1e-3, "model.head": head} for head in heads]
    assert [point_trial(TrialConfig(), point).name for point in points] == [
        "flatten, hidden 1, dense 8, lr 0.001",
        "flatten, hidden 1, dense 16, lr 0.001",
        "gap, hidden 0, dense 16, lr 0.001",
    ]
    both = {"model.head": "GAP-dropout-sigmoid", "model.dense_width": 32}
    assert point_trial(TrialConfig(), both).name == "gap, hidden 0, dense 32"


@pytest.mark.parametrize(
    ("space", "first", "message"),
    [
        (
            {"model.dens_width": {"low": 1, "high": 2}},
            (),
            r"model\.dens_width is not a field of a trial; did you mean model\.dense_width\?",
        ),
        ({"target": {"choices": ["any", "epidural"]}}, (), "target defines what is predicted.*run one search for each"),
        (
            {"model.series.labels": {"choices": ["slice", "study"]}},
            (),
            r"model\.series\.labels defines what is predicted.*run one search for each",
        ),
        ({"task": {"choices": ["binary", "multi_label"]}}, (), "task defines what is predicted"),
        (
            {"training.loss": {"choices": ["default", "class_weighted"]}},
            (),
            r"training\.loss is what val_loss measures.*search on val_auroc or val_accuracy",
        ),
        ({"name": {"choices": ["a"]}}, (), "name is not a field of a trial"),
        ({"model.dropout": {"low": 0, "high": 2}}, (), r"search\.space: model\.dropout: must be less than 1, not 2"),
        ({"model.dense_width": {"low": 1.5, "high": 4}}, (), "is an integer; low 1.5 and high 4 must be integers"),
        ({"model.backbone": {"low": 1, "high": 4}}, (), r"model\.backbone is not a number.*choices"),
        (
            {"model.dropout": {"low": 0, "high": 0.5}},
            ({"model.dropout": 0.7},),
            r"search\.first\[0\]: model\.dropout must be between 0 and 0\.5, not 0\.7",
        ),
        (
            {"model.dense_width": {"low": 8, "high": 64}, "seed": {"choices": [1, 2]}},
            ({"seed": 1}, {"model.dense_width": 8.5}),
            r"search\.first\[1\]: model\.dense_width: must be a whole number, not 8\.5",
        ),
        ({"seed": {"choices": [1, 2]}}, ({"seed": 3},), r"search\.first\[0\]: seed must be one of 1, 2, not 3"),
        ({"seed": {"choices": [1, 2]}}, ({"sed": 1},), r"search\.first\[0\]: sed is not searched; the space has seed"),
    ],
)
def test_bad_spaces_are_refused(space, first, message):
    """Each refusal names key, value and the way out."""
    with pytest.raises(ConfigError, match=message):
        search_space(TrialConfig(), search(space, first=first))


def test_a_strength_of_no_ranges_is_refused():
    """With a range in the trial or in the space it scales something."""
    strength = {"augment.strength": {"low": 0, "high": 2}}
    with pytest.raises(
        ConfigError, match=r"augment\.strength has nothing to scale; set one of augment\.rotate_degrees"
    ):
        search_space(TrialConfig(), SearchConfig(space=strength))
    turned = TrialConfig.model_validate({"augment": {"rotate_degrees": 10}})
    assert set(search_space(turned, SearchConfig(space=strength))) == {"augment.strength"}
    both = {**strength, "augment.rotate_degrees": {"low": 0, "high": 20}}
    assert len(search_space(TrialConfig(), SearchConfig(space=both))) == 2


def test_a_strength_that_makes_a_share_too_large_is_refused():
    moved = TrialConfig.model_validate({"augment": {"shift_fraction": 0.5}})
    with pytest.raises(ConfigError, match=r"strength 2 x shift_fraction 0\.5 must be less than 1"):
        search_space(moved, SearchConfig(space={"augment.strength": {"low": 0, "high": 2}}))


def models(space):
    trials = [trial for _, trial in searched_trials(TrialConfig(), search(space))]
    return [(trial.model.backbone, trial.model.side_px) for trial in trials]


def test_every_backbone_is_searched_with_every_side():
    """Of a range the ends; 0 is the largest side, and above it 1 is drawn."""
    sides, names = {"model.side_px": {"choices": [0, 64]}}, {"model.backbone": {"choices": ["VGG16", "resnet18"]}}
    assert models({**sides, **names}) == [("VGG16", 0), ("VGG16", 64), ("resnet18", 0), ("resnet18", 64)]
    assert models({"model.side_px": {"low": 32, "high": 64}}) == [("resnet18", 32), ("resnet18", 64)]
    assert models({"model.side_px": {"low": 0, "high": 64}}) == [("resnet18", 1), ("resnet18", 64)]
    assert models({"model.dropout": {"low": 0, "high": 0.5}}) == [("resnet18", 0)]


def test_other_choices_are_with_a_pair_that_is_drawn_and_say_where_they_are_from():
    """InceptionV3 takes no images of 64 px, the side of the base: nothing is to be checked with that."""
    base = TrialConfig(model={"side_px": 64})
    space = {
        "model.backbone": {"choices": ["InceptionV3"]},
        "model.side_px": {"choices": [96, 128]},
        "training.optimizer": {"choices": ["adam", "sgd"]},
        "model.dropout": {"low": 0, "high": 0.5},
    }
    found = searched_trials(base, search(space))
    assert [(where, trial.model.side_px, trial.training.optimizer) for where, trial in found] == [
        ("search.space: model.backbone InceptionV3 with model.side_px 96", 96, "adam"),
        ("search.space: model.backbone InceptionV3 with model.side_px 128", 128, "adam"),
        ("search.space: training.optimizer adam", 96, "adam"),
        ("search.space: training.optimizer sgd", 96, "sgd"),
    ]
    assert [where for where, _ in searched_trials(base, search({"model.dropout": {"low": 0, "high": 0.5}}))] == [
        "trial"
    ]


def test_a_first_point_that_makes_no_trial_is_refused():
    """Where it gives every field of the space; what is left out is drawn."""
    space = {
        "training.schedule": {"choices": ["cosine", "one_cycle"]},
        "training.warmup_epochs": {"low": 0, "high": 3},
    }
    whole = {"training.schedule": "one_cycle", "training.warmup_epochs": 2}
    good = {"training.schedule": "one_cycle", "training.warmup_epochs": 0}
    searched = search(space, first=[{"training.warmup_epochs": 3}, good])
    assert [where for where, _ in searched_trials(TrialConfig(), searched)][-1] == "search.first[1]"
    with pytest.raises(ConfigError, match=r"^search\.first\[0\]: training: schedule one_cycle includes a warm-up"):
        searched_trials(TrialConfig(), search(space, first=[whole]))
