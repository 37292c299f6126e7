"""From plain data to a validated config: merge, validate, and one line for each error."""

import difflib
import types
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from hemo.errors import ConfigError, without_passwords

C = TypeVar("C", bound=BaseModel)

MESSAGES = {
    "tuple_type": "must be a list such as [a, b]",
    "dict_type": "must be `key: value` lines or {key: value}",
    "model_type": "must be `key: value` lines or {key: value}",
    "bool_parsing": "must be true or false",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "string_type": "must be text",
    "too_short": "must have an entry",
}
"""Pydantic's error type -> what a YAML file or flag must hold; other types keep pydantic's own message."""


def validated(
    config_type: type[C], data: Mapping[str, Any], *, origin: str = "", flags: Mapping[str, Any] | None = None
) -> C:
    """Make a config of plain data.

    Args:
        config_type: What to make.
        data: Nested dict.
        origin: File (or cell, or stage) the data came from, named in errors.
        flags: The part of `data` that came from the command line: its errors name the flag instead.

    Raises:
        ConfigError: One line for each error.
    """
    try:
        return config_type.model_validate(dict(data))
    except ValidationError as error:
        lines = [f"{_source(key, origin, flags or {})}{text}" for key, text in error_lines(error, config_type)]
        raise ConfigError(without_passwords("\n".join(lines))) from None


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return `below` with the values of `above` laid over it, dict by dict."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def _source(key: str, origin: str, flags: Mapping[str, Any]) -> str:
    """Return the beginning of an error line: the flag, or the file and the key in it."""
    if key and (not origin or _is_in(flags, key)):
        return f"--{key}: "
    return "".join(f"{part}: " for part in (origin, key) if part)


def _is_in(nested: Mapping[str, Any], key: str) -> bool:
    value: Any = nested
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return False
        value = value[part]
    return True


def error_lines(error: ValidationError, config_type: type[BaseModel]) -> list[tuple[str, str]]:
    """Return dotted key and message of each error, in pydantic's order.

    The messages of the alternatives of a union about one key are joined by `or`. An error of a whole value is left out
    where one of its parts has an error.

    Args:
        error: What `config_type` raised.
        config_type: The config that was to be made.
    """
    by_key: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for details in error.errors(include_url=False):
        by_key.setdefault(_key(dict(details), config_type), []).append(dict(details))
    return [
        (".".join(key), _message(key, errors, config_type))
        for key, errors in by_key.items()
        if not any(other[: len(key)] == key and len(other) > len(key) for other in by_key)
    ]


def meant(word: str, known: Sequence[str]) -> str:
    """Return ` (did you mean ...?)` where one of the `known` is close to `word`, else nothing."""
    close = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def members(annotation: Any) -> tuple[Any, ...]:
    """Return the alternatives of a type, `Annotated` and `Union` taken apart."""
    if get_origin(annotation) is Annotated:
        return members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return tuple(part for member in get_args(annotation) for part in members(member))
    return (annotation,)


def _key(error: Mapping[str, Any], annotation: Any) -> tuple[str, ...]:
    """Return the key an error is about: pydantic's location without the names of union members."""
    key = []
    for position, part in enumerate(error["loc"]):
        inner = _inner(annotation, part)
        unknown_key = error["type"] == "extra_forbidden" and position == len(error["loc"]) - 1
        if inner is not None or unknown_key:
            key.append(str(part))
            annotation = inner
    return tuple(key)


def _inner(annotation: Any, part: str | int) -> Any:
    """Return the type of the value at `part` in a value of this type; None where there can be none."""
    for member in members(annotation):
        if is_config(member) and part in member.model_fields:
            return member.model_fields[part].annotation
        if get_origin(member) is dict or (get_origin(member) in (list, tuple) and isinstance(part, int)):
            return next(inner for inner in reversed(get_args(member)) if inner is not Ellipsis)
    return None


def is_config(annotation: Any) -> bool:
    """Return whether a type is a config, whose fields are keys."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _message(key: tuple[str, ...], errors: Sequence[Mapping[str, Any]], config_type: type[BaseModel]) -> str:
    first = errors[0]
    if first["type"] == "extra_forbidden":
        known = _known_keys(config_type, key[:-1])
        return f"no such key{meant(key[-1], known)}; known here: {', '.join(known)}"
    if first["type"] == "missing":
        return "is missing and has no default"
    allowed = " or ".join(dict.fromkeys(_allowed(error) for error in errors)).replace(" or must be ", " or ")
    value = first.get("input")
    return f"{allowed}, not {value!r}" if key and isinstance(value, str | int | float | bool | None) else allowed


def _allowed(error: Mapping[str, Any]) -> str:
    text = MESSAGES.get(error["type"]) or str(error["msg"])
    return text.removeprefix("Value error, ").replace("Input should be", "must be")


def _known_keys(annotation: Any, key: Sequence[str]) -> list[str]:
    """Return the keys of the config at `key`, through lists, dicts and unions."""
    for part in key:
        annotation = _inner(annotation, int(part) if part.isdigit() else part)
    return [name for member in members(annotation) if is_config(member) for name in member.model_fields]
