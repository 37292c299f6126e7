"""What pydantic found wrong, in one line a key: where, what was wanted, what came, what was probably meant."""

import difflib
import types
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

PLAIN_WORDS = {
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
"""Pydantic's error type -> what a YAML file or flag should hold."""


def fault_lines(error: ValidationError, config_type: type[BaseModel]) -> list[tuple[str, str]]:
    """Return dotted key and message of each fault, in the order found.

    What the alternatives of a union say about one key is joined by `or`; a fault of a whole value is left out where
    one of its parts is at fault.

    Args:
        error: What `config_type` raised.
        config_type: The config that was to be made.
    """
    faults: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for fault in error.errors(include_url=False):
        faults.setdefault(_path(dict(fault), config_type), []).append(dict(fault))
    return [
        (".".join(path), _message(path, found, config_type))
        for path, found in faults.items()
        if not any(other[: len(path)] == path and len(other) > len(path) for other in faults)
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


def _path(fault: Mapping[str, Any], annotation: Any) -> tuple[str, ...]:
    """Return the key a fault is about: pydantic's location without the names of union members."""
    path = []
    for position, part in enumerate(fault["loc"]):
        inner = _inner(annotation, part)
        unknown_key = fault["type"] == "extra_forbidden" and position == len(fault["loc"]) - 1
        if inner is not None or unknown_key:
            path.append(str(part))
            annotation = inner
    return tuple(path)


def _inner(annotation: Any, part: str | int) -> Any:
    """Return the type of what stands at `part` in a value of this type; None where nothing can."""
    for member in members(annotation):
        if _is_config(member) and part in member.model_fields:
            return member.model_fields[part].annotation
        if get_origin(member) is dict or (get_origin(member) in (list, tuple) and isinstance(part, int)):
            return next(inner for inner in reversed(get_args(member)) if inner is not Ellipsis)
    return None


def _message(path: tuple[str, ...], faults: Sequence[Mapping[str, Any]], config_type: type[BaseModel]) -> str:
    first = faults[0]
    if first["type"] == "extra_forbidden":
        known = _known_keys(config_type, path[:-1])
        return f"no such key{meant(path[-1], known)}; known here: {', '.join(known)}"
    if first["type"] == "missing":
        return "is missing and has no default"
    wanted = " or ".join(dict.fromkeys(_wanted(fault) for fault in faults)).replace(" or must be ", " or ")
    came = first.get("input")
    return f"{wanted}, not {came!r}" if path and isinstance(came, str | int | float | bool | None) else wanted


def _wanted(fault: Mapping[str, Any]) -> str:
    text = PLAIN_WORDS.get(fault["type"]) or str(fault["msg"])
    return text.removeprefix("Value error, ").replace("Input should be", "must be")


def _known_keys(annotation: Any, path: Sequence[str]) -> list[str]:
    """Return the keys a config knows at `path`, through lists, dicts and unions."""
    for part in path:
        annotation = _inner(annotation, int(part) if part.isdigit() else part)
    return [key for member in members(annotation) if _is_config(member) for key in member.model_fields]


def _is_config(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
