"""Base of all configs and cards, the types of their fields, and reading a card."""

import os
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveInt,
    ValidationError,
)

from hemo.errors import SourceError
from hemo.storage import ENVIRONMENT, absolute, exists, join, read_json

Groups = dict[str, tuple[str, ...]]
"""Heading in `--help` -> names of the fields below it, in this order."""


class Config(BaseModel):
    """A frozen config. Unknown keys are an error, and `model_dump(mode="json")` is what cards and records store."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        protected_namespaces=(),
        allow_inf_nan=False,
        hide_input_in_errors=True,  # of pydantic's own errors: a refused value may hold a password
    )

    GROUPS: ClassVar[Groups] = {}
    """Fields in no group, or below an empty heading, stand below the heading of the section they lie in."""

    def check_flags(self, flags: Mapping[str, Any]) -> None:
        """Refuse values of the command line, nested as this config is, that the rest of this config overrides.

        Raises:
            ConfigError: One line, with the flag.
        """


def _as_text(given: object) -> object:
    return os.fspath(given) if isinstance(given, os.PathLike) else given


def _absolute_location(location: str) -> str:
    if not location.strip():
        raise ValueError("is empty; give a folder, a file or a URI")
    return absolute(location)


Location = Annotated[str, BeforeValidator(_as_text), AfterValidator(_absolute_location)]
"""A folder or file: a path, made absolute when the config is loaded, or a URI such as `s3://bucket/folder`. In Python
also a `Path`, or an object of `hemo` that has a folder.

In a union with words, write the words first, `Literal["none"] | Location`: every text is a location.
"""


def _secret_location(location: str) -> str:
    if not location.startswith(ENVIRONMENT):
        return _absolute_location(location)
    if not location.removeprefix(ENVIRONMENT).isidentifier():
        raise ValueError(f"must be {ENVIRONMENT}NAME, NAME being an environment variable, or a file")
    return location


SecretLocation = Annotated[str, BeforeValidator(_as_text), AfterValidator(_secret_location)]
"""Where a secret is: a file, as a `Location`, or `env:NAME` for an environment variable. Never the secret itself."""


Gpus = NonNegativeFloat | Literal["auto"]
"""GPUs of one process: a number, a fraction where several share one, or `auto`: one if the cluster has any."""


class ClusterConfig(Config):
    """How to reach Ray. Inside `ray job submit` nothing needs to be set."""

    address: str = Field(
        "auto",
        description="`auto`: the cluster in RAY_ADDRESS if it is set, else a fresh local one; "
        "`local`: always a fresh local one; or host:port",
    )
    cpus: PositiveInt | Literal["all"] = Field(
        "all", description="CPUs of a fresh local cluster; `all`: those that this process may use"
    )
    temp_dir: Location = Field(
        "/tmp/ray",  # noqa: S108  (Ray's own default)
        description="where a fresh local cluster keeps its session files",
    )


CardT = TypeVar("CardT", bound=Config)


def load_card(folder: str, kind: type[CardT], *, stage: str, job: str) -> CardT:
    """Return the card in an output folder.

    Args:
        folder: Output of a job.
        kind: Class of its card, with a default `schema_version`.
        stage: What the folder holds, for the error.
        job: What makes such folders, for the error.

    Raises:
        SourceError: If there is no card, one of another kind or version, or a damaged one.
    """
    location, fields = join(folder, "card.json"), kind.model_fields
    if not exists(location):
        raise SourceError(f"{folder} is no finished {stage} (it has no card.json); `hemo {job}` makes one")
    content = read_json(location)
    version = fields["schema_version"].default
    required = {name for name, field in fields.items() if field.is_required()}
    lacking = required - content.keys() if isinstance(content, dict) else required
    stored = content.get("schema_version") if isinstance(content, dict) else None
    if stored != version and len(lacking) < len(required) / 2:  # a card of another version has most of the fields
        raise SourceError(
            f"{location} is of schema version {stored}, this hemo reads {version}; run `hemo {job}` again into another "
            "folder"
        )
    if lacking:
        raise SourceError(f"{location} is no {stage} card; run `hemo {job}` into another folder")
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise SourceError(
            f"{location} is damaged ({first_fault(error)}); run `hemo {job}` again into another folder"
        ) from error


def first_fault(error: ValidationError) -> str:
    """Return dotted key and message of the first error in a stored file: `rows.3: Input should be a valid integer`."""
    fault = error.errors()[0]
    return f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
