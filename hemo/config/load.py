"""The command line of a job: `--config FILE`, a flag for each field of its config, and `--help`."""

import argparse
import json
import re
import sys
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, get_args, get_origin

import yaml
from pydantic.fields import FieldInfo

from hemo.config.types import Config
from hemo.config.validation import is_config, meant, members, merge, validated
from hemo.errors import ConfigError

C = TypeVar("C", bound=Config)

HELP_OF_FLAGS = "Values are YAML: 3, true, '[a, b]', '{key: value}'. A flag replaces the value in FILE."


def load_config(config_type: type[C], argv: Sequence[str] | None = None, *, job: str, doc: str = "") -> C:
    """Read `--config FILE` and flags into a config. Flags replace values of the file.

    Args:
        config_type: The job's config. Its fields are the flags; fields of a section are dotted (`--model.backbone`),
            and a section may be given whole (`--model '{backbone: vgg16}'`).
        argv: Arguments after the program name; None for the process's own.
        job: Name in the usage line, such as `convert`.
        doc: What `--help` prints: summary, what is read and written; from a line `Example` on, after the flags.

    Raises:
        ConfigError: One line for each error: file or flag, dotted key, value, what is allowed; also for a flag that
            would change nothing.
    """
    parser = _parser(config_type, job, doc)
    known, unknown = parser.parse_known_args(list(sys.argv[1:] if argv is None else argv))
    if unknown:
        raise ConfigError(_unknown_argument(unknown[0], config_type, job))
    given = vars(known)
    file = given.pop("config", "")
    flags = _nested(given)
    merged = merge(read_yaml(file), flags) if file else flags
    config = validated(config_type, merged, origin=file, flags=flags)
    config.check_flags(flags)
    return config


class _YamlLoader(yaml.SafeLoader):
    """YAML in which `1e-5` is a number, as in YAML 1.2, and a repeated key is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        repeated = [key for key in keys if keys.count(key) > 1]
        if repeated:
            raise yaml.constructor.ConstructorError(None, None, f"{repeated[0]} is repeated", node.start_mark)
        return super().construct_mapping(node, deep)


_YamlLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def read_yaml(file: str, flag: str = "config") -> dict[str, Any]:
    """Return the mapping in a YAML file; `flag` is the one that named it.

    Raises:
        ConfigError: If the file is missing, is not YAML, or holds no mapping.
    """
    try:
        content = yaml.load(Path(file).read_text(encoding="utf-8"), Loader=_YamlLoader)  # noqa: S506  (a SafeLoader)
    except OSError as error:
        raise ConfigError(f"--{flag} {file}: {error.strerror}; give a YAML file such as those in conf/") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"--{flag} {file} is no YAML: {_yaml_problem(error)}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"--{flag} {file} must hold `key: value` lines, not {type(content).__name__}")
    return content


def _yaml_problem(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    return " ".join(str(error).split())


def _yaml_value(text: str) -> Any:
    """Return the value of a flag, read as in a YAML file; text that is not YAML stays text."""
    try:
        return yaml.load(text, Loader=_YamlLoader)  # noqa: S506  (a SafeLoader)
    except yaml.YAMLError:
        return text


def _nested(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return dotted flags as nested dicts. Flags of a section's fields replace values of the section given whole."""
    nested: dict[str, Any] = {}
    for key in sorted(flags, key=lambda key: key.count(".")):
        value = flags[key]
        for part in reversed(key.split(".")):
            value = {part: value}
        nested = merge(nested, value)
    return nested


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message.removeprefix('argument ')}; `{self.prog} --help` lists the flags")


def _parser(config_type: type[Config], job: str, doc: str) -> _Parser:
    about, _, example = doc.strip().partition("\nExample")
    parser = _Parser(
        prog=f"hemo {job}",
        usage=f"hemo {job} [--config FILE] [--FLAG VALUE ...]",
        description=about,
        epilog=example and f"Example{example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    parser.add_argument("--config", metavar="FILE", help=f"YAML file with any of the flags below. {HELP_OF_FLAGS}")
    groups: dict[str, argparse._ArgumentGroup] = {}
    for heading, key, field in _fields(config_type):
        if _section(field):
            parser.add_argument(f"--{key}", type=_yaml_value, help=argparse.SUPPRESS)
            continue
        if heading not in groups:
            groups[heading] = parser.add_argument_group(heading)
        value_type = str if _is_text(field.annotation) else _yaml_value
        groups[heading].add_argument(
            f"--{key}", type=value_type, metavar=_metavar(field.annotation), help=_help(key, field).replace("%", "%%")
        )
    return parser


def _fields(config_type: type[Config], prefix: str = "", heading: str = "") -> Iterator[tuple[str, str, FieldInfo]]:
    """Yield heading, dotted key and field of every section and every leaf, in the order of the config's `GROUPS`."""
    headings = {name: title for title, names in config_type.GROUPS.items() for name in names}
    for name in dict.fromkeys([*headings, *config_type.model_fields]):
        field = config_type.model_fields[name]
        full_heading = ": ".join(part for part in (heading, headings.get(name)) if part)
        yield full_heading, f"{prefix}{name}", field
        if section := _section(field):
            yield from _fields(section, f"{prefix}{name}.", full_heading)


def _section(field: FieldInfo) -> type[Config] | None:
    """Return the config that is the value of a field, None for a leaf."""
    return next((member for member in members(field.annotation) if is_config(member)), None)


def _is_text(annotation: Any) -> bool:
    """Return whether every value of this type is text: then `--out 2024` is a folder and no number."""
    return all(
        all(isinstance(value, str) for value in get_args(member)) if get_origin(member) is Literal else member is str
        for member in members(annotation)
    )


def _metavar(annotation: Any) -> str:
    """Return the placeholder of a value in `--help`: the words to choose from, else its kind."""
    kinds = {str: "TEXT", int: "N", float: "X", bool: "true|false", dict: "{K: V}", tuple: "[A, B]"}
    words = []
    for member in members(annotation):
        choices = [value for value in get_args(member) if value != ""] if get_origin(member) is Literal else []
        words += [str(value) for value in choices] or [kinds.get(get_origin(member) or member, "")]
    return "|".join(dict.fromkeys(word for word in words if word)) or "VALUE"


def _help(key: str, field: FieldInfo) -> str:
    """Return description and default as written in YAML; without default a field is required, once its section is."""
    if field.is_required():
        section = key.rpartition(".")[0]
        return f"{field.description} ({f'required with {section}' if section else 'required'})"
    default = field.get_default()
    return f"{field.description} (default {default if default and isinstance(default, str) else json.dumps(default)})"


def _unknown_argument(argument: str, config_type: type[Config], job: str) -> str:
    """Return the error line of an argument that is no flag, with the flag that was probably meant.

    The last part of a flag, `--epochs` for `--trial.training.epochs`, means that flag where no other ends so.
    """
    name = argument.split("=")[0]
    hint = f"`hemo {job} --help` lists the flags"
    if not name.startswith("--"):
        return f"{name!r} belongs to no flag; write --FLAG VALUE, and lists as '[a, b]'; {hint}"
    known = [f"--{key}" for _, key, _ in _fields(config_type)]
    ends_so = [flag for flag in known if flag.rpartition(".")[2] == name.removeprefix("--")]
    probably = f" (did you mean {ends_so[0]}?)" if len(ends_so) == 1 else meant(name, known)
    return f"{name} is no flag of `hemo {job}`{probably}; {hint}"
