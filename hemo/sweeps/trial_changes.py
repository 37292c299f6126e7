"""Changes to a trial config by nested or dotted keys, settings that vary between trials, and trial names from them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hemo.config.trial import TrialConfig
from hemo.config.validation import merge, validated

NAME_FORMATS = {
    "model.backbone": "{}",
    "model.weights": "weights {}",
    "model.pooling": "{}",
    "model.hidden_layers": "hidden {}",
    "model.dense_width": "dense {}",
    "model.dropout": "dropout {}",
    "training.learning_rate": "lr {:.3g}",
    "seed": "seed {}",
}
"""Dotted field -> format of its value in a trial name; other fields have `last_part value`."""


def nested(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `changes` with each dotted key (`model.backbone`) turned into nested dicts."""
    result: dict[str, Any] = {}
    for key, value in changes.items():
        first, _, rest = str(key).partition(".")
        inner = {rest: value} if rest else value
        result = merge(result, {first: nested(inner) if isinstance(inner, Mapping) else inner})
    return result


def flattened(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted key and value of every leaf of a nested dict."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flattened(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def changed(base: TrialConfig, changes: Mapping[str, Any], *, origin: str) -> TrialConfig:
    """Return `base` with `changes` made.

    Args:
        base: The trial to change.
        changes: Field -> value, nested or dotted.
        origin: Where the changes come from, for error messages: `grid.cells[2]`.

    Raises:
        ConfigError: One line for each fault, with `origin`, key, value and what is allowed.
    """
    return validated(TrialConfig, merge(base.model_dump(), nested(changes)), origin=origin)


def varying(trials: Sequence[TrialConfig]) -> list[str]:
    """Return the dotted deciding fields in which `trials` differ, in the order of the config."""
    rows = [dict(flattened(trial.deciding())) for trial in trials]
    return [key for key in rows[0] if any(row[key] != rows[0][key] for row in rows)]


def settings_name(trial: TrialConfig, keys: Sequence[str]) -> str:
    """Return a trial name from the values of the dotted `keys`: `ResNet50, hidden 1, dense 16, lr 1e-05`."""
    values = dict(flattened(trial.deciding()))
    return ", ".join(NAME_FORMATS.get(key, key.rsplit(".", 1)[-1] + " {}").format(values[key]) for key in keys)
