"""From a YAML file and flags to a validated config, with one line for each key that is wrong."""

import argparse
import difflib
import json
import re
import sys
import types
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import yaml
from jsonargparse import SUPPRESS, ArgumentParser
from pydantic import BaseModel, ValidationError

from hemo.config.types import Config
from hemo.errors import ConfigError

C = TypeVar("C", bound=Config)

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


def load_config(config_type: type[C], argv: Sequence[str] | None = None, *, job: str, summary: str = "") -> C:
    """Read `--config FILE` and flags into a config; flags win.

    Args:
        config_type: The job's config. Its fields are the flags, nested ones dotted.
        argv: Arguments after the program name; None for the process's own.
        job: Name in the usage line, such as `convert`.
        summary: What the job does, for `--help`.

    Raises:
        ConfigError: One line a fault: file or flag, dotted key, what came, what was wanted.
    """
    parser = _parser(config_type, job, summary)
    try:
        flags = parser.parse_args(list(sys.argv[1:] if argv is None else argv)).as_dict()
    except argparse.ArgumentError as error:
        raise ConfigError(_flag_fault(str(error), config_type, job)) from None
    file = flags.pop("config", "")
    merged = merge(read_yaml(file), flags) if file else flags
    return validated(config_type, merged, origin=file, flags=flags)


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
        ConfigError: One line a fault.
    """
    try:
        return config_type.model_validate(dict(data))
    except ValidationError as error:
        faults = fault_lines(error, config_type)
        raise ConfigError("\n".join(f"{_place(key, origin, flags or {})}{text}" for key, text in faults)) from None


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return `below` with the values of `above` laid over it, dict by dict."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else value
    return merged


class _YamlLoader(yaml.SafeLoader):
    """YAML in which `1e-5` is a number, as in YAML 1.2, and a key that stands twice is an error, not the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = [key for key in keys if keys.count(key) > 1]
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"{twice[0]} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


_YamlLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def read_yaml(file: str) -> dict[str, Any]:
    """Return the mapping in a YAML file.

    Raises:
        ConfigError: If the file is missing, no YAML, or no mapping.
    """
    try:
        content = yaml.load(Path(file).read_text(encoding="utf-8"), Loader=_YamlLoader)
    except OSError as error:
        raise ConfigError(f"--config {file}: {error.strerror}; give a YAML file such as those in conf/") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config {file} is no YAML: {_yaml_problem(error)}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"--config {file} must hold `key: value` lines, not {type(content).__name__}")
    return content


def _yaml_problem(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    return " ".join(str(error).split())


def _place(key: str, origin: str, flags: Mapping[str, Any]) -> str:
    """Return what an error line starts with: the flag, or the file and the key in it."""
    if key and (not origin or _given(flags, key)):
        return f"--{key}: "
    return "".join(f"{part}: " for part in (origin, key) if part)


def _given(flags: Mapping[str, Any], key: str) -> bool:
    value: Any = flags
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return False
        value = value[part]
    return True


def _parser(config_type: type[Config], job: str, summary: str) -> ArgumentParser:
    parser = ArgumentParser(
        prog=f"hemo {job}",
        usage=f"hemo {job} [--config FILE] [--FLAG VALUE ...]",
        description=summary,
        formatter_class=argparse.HelpFormatter,
        exit_on_error=False,
        allow_abbrev=False,
        default_env=False,
    )
    parser.add_argument("--config", type=str, default=SUPPRESS, metavar="FILE", help="YAML file; flags win over it")
    for key, annotation, help_text in _flags(config_type):
        kind: Any = str if _is_text(annotation) else Any
        parser.add_argument(f"--{key}", type=kind, default=SUPPRESS, metavar=_metavar(annotation), help=help_text)
    return parser


def _flags(config_type: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """Yield dotted key, annotation and help of every leaf field."""
    for name, field in config_type.model_fields.items():
        nested = next((part for part in members(field.annotation) if _is_config(part)), None)
        if nested is not None:
            yield from _flags(nested, f"{prefix}{name}.")
            continue
        default = "required" if field.is_required() else f"default {_as_typed(field.get_default())}"
        yield f"{prefix}{name}", field.annotation, f"{field.description or name} ({default})".replace("%", "%%")


def _is_config(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _is_text(annotation: Any) -> bool:
    """Tell whether every value of this type is text: then `--out 2024` is a folder and no number."""
    return all(
        all(isinstance(value, str) for value in get_args(member)) if get_origin(member) is Literal else member is str
        for member in members(annotation)
    )


def _metavar(annotation: Any) -> str:
    """Return what stands for the value in `--help`: the words to choose from, else its kind."""
    kinds = {str: "TEXT", int: "N", float: "X", bool: "true|false", dict: "{K: V}", tuple: "[A, B]"}
    words = []
    for member in members(annotation):
        chosen = [value for value in get_args(member) if value] if get_origin(member) is Literal else []
        words += [str(value) for value in chosen] or [kinds.get(get_origin(member) or member, "")]
    return "|".join(dict.fromkeys(word for word in words if word)) or "VALUE"


def _as_typed(default: Any) -> str:
    """Return a default as one may write it in YAML."""
    return default if default and isinstance(default, str) else json.dumps(default)


def _flag_fault(message: str, config_type: type[Config], job: str) -> str:
    """Return one line for what the parser refused, with the flag that was probably meant."""
    help_hint = f"`hemo {job} --help` lists the flags"
    unknown = re.search(r"unrecognized arguments: (\S+)", message, re.IGNORECASE)
    if not unknown:
        return f"{message.removeprefix('argument ')}; {help_hint}"
    word = unknown[1].split("=")[0]
    if not word.startswith("--"):
        return f"{word!r} belongs to no flag; write --FLAG VALUE, and lists as '[a, b]'; {help_hint}"
    known = [f"--{key}" for key, _, _ in _flags(config_type)]
    return f"{word} is no flag of `hemo {job}`{meant(word, known)}; {help_hint}"


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
