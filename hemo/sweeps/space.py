"""A search space to Optuna distributions, checked before any work; points of the space to trials."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from pydantic import BaseModel

from hemo.config.trial import HEAD_FIELDS, RANGES, ModelConfig, TrialConfig
from hemo.config.tune import Choices, Range, SearchConfig, changed, flattened, settings_name
from hemo.errors import ConfigError

PAIRED = ("model.backbone", "model.side_px")
"""Fields that depend on each other: a backbone has a smallest side."""

BALANCING = ("training.balance", "training.balance_ratio")
"""Fields by which the labels of an epoch differ, and so the weights of a class-weighted loss."""


def search_space(base: TrialConfig, search: SearchConfig) -> dict[str, BaseDistribution]:
    """Return Optuna's distribution of every searched field, by its dotted key.

    Integer fields are sampled as integers, however the bounds are written.

    Args:
        base: Settings shared by all trials.
        search: The space, and the points to try first.

    Raises:
        ConfigError: If a key is not a field of a trial or changes what the metric measures, or if a bound, a choice or
            a first point is not a valid value.
    """
    space = {key: _distribution(key, values) for key, values in search.space.items()}
    for key in space:
        _refuse_incomparable(key, base, search)
    _refuse_strength_without_ranges(base, list(space))
    for key, values in search.space.items():
        for value in values.choices if isinstance(values, Choices) else (values.low, values.high):
            changed(base, {key: value}, origin="search.space")
    for number, point in enumerate(search.first):
        _check_first(point, base, search.space, f"search.first[{number}]")
    return space


def point_trial(base: TrialConfig, point: Mapping[str, Any]) -> TrialConfig:
    """Return the trial at one point of the space, named by the point's values.

    Args:
        base: Settings shared by all trials.
        point: Dotted field -> value, as Optuna sampled it.

    Raises:
        ConfigError: If values that are valid on their own break a rule between fields.
    """
    trial = changed(base, point, origin="search.space")
    keys = set(point)
    if "model.head" in keys:  # the trial has its fields
        keys = keys - {"model.head"} | {f"model.{name}" for name in HEAD_FIELDS}
    return trial.model_copy(update={"name": settings_name(trial, sorted(keys, key=list(_leaves()).index))})


def searched_trials(base: TrialConfig, search: SearchConfig) -> list[tuple[str, TrialConfig]]:
    """Return trials that together cover every choice of the space, each with its origin for error messages.

    Each backbone is combined with each side, because a search may sample any pair; other choices are combined with the
    first pair. First points that give every field of the space are trials too.

    Args:
        base: Settings shared by all trials.
        search: Its space.
    """
    pairs = [
        (_pair_origin(model, search), base.model_copy(update={"model": model}))
        for model in _searched_models(base, search)
    ]
    _, first = pairs[0]
    others = [
        (f"search.space: {key} {value}", {key: value})
        for key, values in search.space.items()
        for value in (values.choices if isinstance(values, Choices) and key not in PAIRED else ())
    ]
    whole = [
        (f"search.first[{number}]", point)
        for number, point in enumerate(search.first)
        if set(point) == set(search.space)
    ]
    return [
        *pairs,
        *((where, changed(first, change, origin=where)) for where, change in others),
        *((where, changed(base, point, origin=where)) for where, point in whole),
    ]


def _pair_origin(model: ModelConfig, search: SearchConfig) -> str:
    values = {"model.backbone": model.backbone, "model.side_px": model.side_px}
    searched = [f"{key} {values[key]}" for key in PAIRED if key in search.space]
    return f"search.space: {' with '.join(searched)}" if searched else "trial"


def _searched_models(base: TrialConfig, search: SearchConfig) -> list[ModelConfig]:
    """Return a model for every pair of backbone and side that a search may sample; of a range of sides its bounds."""
    backbones = search.space.get("model.backbone")
    names = backbones.choices if isinstance(backbones, Choices) else (base.model.backbone,)
    values = search.space.get("model.side_px")
    sides_px: tuple[Any, ...] = (base.model.side_px,)
    if isinstance(values, Choices):
        sides_px = values.choices
    elif isinstance(values, Range):
        sides_px = (max(1, values.low), values.high)  # 0 means the stored side; 1 may be sampled as well
    return [
        base.model.model_copy(update={"backbone": str(name), "side_px": int(side_px)})
        for name in names
        for side_px in sides_px
    ]


def _leaves() -> dict[str, Any]:
    """Return every field of a trial that a search may change: dotted key -> annotation."""
    return {key: kind for key, kind in flattened(_annotations(TrialConfig)) if key != "name"}


def _annotations(config_type: type[BaseModel]) -> dict[str, Any]:
    """Return field -> annotation, nested as the config is."""
    fields = {name: field.annotation for name, field in config_type.model_fields.items()}
    return {
        name: _annotations(kind) if isinstance(kind, type) and issubclass(kind, BaseModel) else kind
        for name, kind in fields.items()
    }


def _distribution(key: str, values: Choices | Range) -> BaseDistribution:
    known = _leaves()
    if key not in known:
        close = difflib.get_close_matches(key, known, n=1)
        meant = f"; did you mean {close[0]}?" if close else ""
        raise ConfigError(f"search.space: {key} is not a field of a trial{meant} (known: {', '.join(known)})")
    if isinstance(values, Choices):
        return CategoricalDistribution(values.choices)
    kinds = get_args(known[key]) or (known[key],)
    if not {int, float} & set(kinds):
        raise ConfigError(f"search.space: {key} is not a number, so it has no low and high; use `choices: [...]`")
    if float in kinds:
        return FloatDistribution(float(values.low), float(values.high), log=values.log)
    if values.low != int(values.low) or values.high != int(values.high):
        raise ConfigError(
            f"search.space: {key} is an integer; low {values.low} and high {values.high} must be integers as well"
        )
    return IntDistribution(int(values.low), int(values.high), log=values.log)


def _refuse_strength_without_ranges(base: TrialConfig, keys: Sequence[str]) -> None:
    """Refuse to search augment.strength where all ranges are 0: every value would give the same trial."""
    ranges = [f"augment.{name}" for name in RANGES]
    if "augment.strength" not in keys or any(key in keys for key in ranges):
        return
    if not any(getattr(base.augment, name) for name in RANGES):
        raise ConfigError(
            f"search.space: augment.strength has nothing to scale; set one of {', '.join(ranges)} in `trial` as well"
        )


def _refuse_incomparable(key: str, base: TrialConfig, search: SearchConfig) -> None:
    """Refuse a field that changes what the metric measures: values of the metric would not be comparable."""
    if key in ("task", "target", "model.series.labels"):
        raise ConfigError(
            f"search.space: {key} defines what is predicted, and metrics of different predictions cannot be compared; "
            "run one search for each"
        )
    if key == "training.loss" and "val_loss" in search.optimised:
        raise ConfigError(
            "search.space: training.loss is what val_loss measures, and values of different losses cannot be compared; "
            "search on val_auroc or val_accuracy"
        )
    if key in BALANCING and base.training.loss == "class_weighted" and "val_loss" in search.optimised:
        raise ConfigError(
            f"search.space: {key} changes the class weights of val_loss, as training.loss is class_weighted, and "
            "values of different weights cannot be compared; search on val_auroc or val_accuracy"
        )


def _check_first(
    point: Mapping[str, Any], base: TrialConfig, space: Mapping[str, Choices | Range], origin: str
) -> None:
    """Refuse a field that is not searched, or whose value is outside the space or no value of the field."""
    for key, value in point.items():
        if key not in space:
            raise ConfigError(f"{origin}: {key} is not searched; the space has {', '.join(space)}")
        values = space[key]
        inside = (
            value in values.choices
            if isinstance(values, Choices)
            else isinstance(value, int | float) and values.low <= value <= values.high
        )
        if not inside:
            wanted = (
                f"one of {', '.join(map(str, values.choices))}"
                if isinstance(values, Choices)
                else f"between {values.low} and {values.high}"
            )
            raise ConfigError(f"{origin}: {key} must be {wanted}, not {value!r}")
        changed(base, {key: value}, origin=origin)
