"""What all configs share: frozen, unknown keys refused, locations made absolute."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict

from hemo.storage import absolute


class Config(BaseModel):
    """A frozen config. Unknown keys are an error, and `model_dump(mode="json")` is what cards and records store."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


Location = Annotated[str, AfterValidator(absolute)]
"""A folder or file: a path, made absolute when the config is loaded, or a URI such as `s3://bucket/folder`."""
