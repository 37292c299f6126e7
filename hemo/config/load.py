"""Flags over YAML over defaults, validated once: the only way a job gets its config."""

import argparse
import difflib
import re
import sys
import types
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import yaml
from jsonargparse import SUPPRESS, ArgumentParser
from pydantic import BaseModel, ValidationError

from hemo.config.fields import Config
from hemo.errors import ConfigError

C = TypeVar("C", bound=Config)


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
        raise ConfigError("\n".join(_fault_lines(error, config_type, data, origin, flags or {}))) from None


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return `below` with the values of `above` laid over it, dict by dict."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else value
    return merged


class _YamlLoader(yaml.SafeLoader):
    """YAML 1.2 floats: `1e-5` is a number, which PyYAML's YAML 1.1 reads as text."""


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
        raise ConfigError(f"--config {file} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"--config {file} must hold `key: value` lines, not {type(content).__name__}")
    return content


def _parser(config_type: type[Config], job: str, summary: str) -> ArgumentParser:
    parser = ArgumentParser(
        prog=f"hemo {job}", description=summary, exit_on_error=False, allow_abbrev=False, default_env=False
    )
    parser.add_argument("--config", type=str, default=SUPPRESS, metavar="FILE", help="YAML file; flags win over it")
    for key, annotation, help_text in _flags(config_type):
        kind: Any = str if _is_text(annotation) else Any
        parser.add_argument(
            f"--{key}", type=kind, default=SUPPRESS, metavar=key.rsplit(".", 1)[-1].upper(), help=help_text
        )
    return parser


def _flags(config_type: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """Yield dotted key, annotation and help of every leaf field."""
    for name, field in config_type.model_fields.items():
        nested = _nested_config(field.annotation)
        if nested is not None:
            yield from _flags(nested, f"{prefix}{name}.")
            continue
        default = "required" if field.is_required() else f"default {field.get_default(call_default_factory=True)!r}"
        yield f"{prefix}{name}", field.annotation, f"{field.description or name} ({default})".replace("%", "%%")


def _nested_config(annotation: Any) -> type[BaseModel] | None:
    """Return the config class of a nested field, `Config` or `Config | None`."""
    for member in get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,):
        if isinstance(member, type) and issubclass(member, BaseModel):
            return member
    return None


def _is_text(annotation: Any) -> bool:
    """Tell whether every value of this type is text: then `--out 2024` is a folder and no number."""
    if get_origin(annotation) is Annotated:
        return _is_text(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return all(_is_text(member) for member in get_args(annotation))
    if get_origin(annotation) is Literal:
        return all(isinstance(value, str) for value in get_args(annotation))
    return annotation is str


def _flag_fault(message: str, config_type: type[Config], job: str) -> str:
    """Return one line for what the parser refused, with the flag that was probably meant."""
    unknown = re.search(r"unrecognized arguments: (--[\w.]+)", message, re.IGNORECASE)
    if not unknown:
        return f"{message}; `hemo {job} --help` lists the flags"
    known = [f"--{key}" for key, _, _ in _flags(config_type)]
    return f"{unknown[1]} is no flag of `hemo {job}`{_meant(unknown[1], known)}; `hemo {job} --help` lists them"


def _meant(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _fault_lines(
    error: ValidationError, config_type: type[Config], data: Mapping[str, Any], origin: str, flags: Mapping[str, Any]
) -> Iterator[str]:
    """Yield one line for each faulty key; the alternatives of a union are joined by `or`."""
    faults: dict[str, list[str]] = defaultdict(list)
    for fault in error.errors(include_url=False):
        path = _path_in_data(fault["loc"], data)
        message = _fault_text(dict(fault), path, config_type)
        if message not in faults[".".join(path)]:
            faults[".".join(path)].append(message)
    for key, messages in faults.items():
        place = (
            f"--{key}"
            if key and _get(flags, key.split(".")) is not None
            else f"{origin}: {key}"
            if origin
            else f"--{key}"
            if key
            else ""
        )
        yield f"{place}: {' or '.join(messages)}".removeprefix(": ").replace(": : ", ": ")


def _path_in_data(loc: Sequence[str | int], data: Any) -> list[str]:
    """Return the part of an error's location that is a path in `data`: pydantic adds the names of union members."""
    path = []
    for position, part in enumerate(loc):
        inside = (isinstance(data, Mapping) and part in data) or (
            isinstance(data, list | tuple) and isinstance(part, int)
        )
        if inside:
            data = data[part]
            path.append(str(part))
        elif position == len(loc) - 1 and isinstance(data, Mapping):
            path.append(str(part))
    return path


def _fault_text(fault: Mapping[str, Any], path: Sequence[str], config_type: type[Config]) -> str:
    if fault["type"] == "extra_forbidden":
        known = _known_keys(config_type, path[:-1])
        return f"no such key{_meant(path[-1], known)} (known here: {', '.join(known)})"
    if fault["type"] == "missing":
        return "is missing and has no default"
    message = str(fault["msg"]).removeprefix("Value error, ").removeprefix("Input ").replace("should be", "must be")
    came = fault.get("input")
    return f"{message}, not {came!r}" if isinstance(came, str | int | float | bool | None) else message


def _known_keys(config_type: type[BaseModel], path: Sequence[str]) -> list[str]:
    for part in path:
        field = config_type.model_fields.get(part)
        nested = _nested_config(field.annotation) if field else None
        if nested is None:
            return []
        config_type = nested
    return list(config_type.model_fields)


def _get(data: Any, path: Sequence[str]) -> Any:
    for part in path:
        data = data.get(part) if isinstance(data, Mapping) else None
    return data
