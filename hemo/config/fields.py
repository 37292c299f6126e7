"""What all configs share: frozen, unknown keys refused, locations made absolute."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict

from hemo.storage import absolute


class Config(BaseModel):
    """A frozen config. Unknown keys are an error, and `model_dump(mode="json")` is what cards and records store."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)


def _place(location: str) -> str:
    if not location.strip():
        raise ValueError("is empty; give a folder, a file or a URI")
    return absolute(location)


Location = Annotated[str, AfterValidator(_place)]
"""A folder or file: a path, made absolute when the config is loaded, or a URI such as `s3://bucket/folder`.

In a union with words of its own write those first, `Literal["none"] | Location`: every text is a location.
"""

ENVIRONMENT = "env:"


def _secret_place(location: str) -> str:
    if not location.startswith(ENVIRONMENT):
        return _place(location)
    if not location.removeprefix(ENVIRONMENT).isidentifier():
        raise ValueError(f"the name of a variable after {ENVIRONMENT}, or a file")
    return location


SecretLocation = Annotated[str, AfterValidator(_secret_place)]
"""Where a secret is: a file, as a `Location`, or `env:NAME` for an environment variable. Never the secret itself."""
