"""What `plan` is told."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from hemo.config.convert import ConvertConfig


class PlanConfig(ConvertConfig):
    """All that `convert` is told, and the clusters to reckon with."""

    nodes: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = Field(
        (1, 2, 4, 8, 16), description="node counts to tell hours and cost of"
    )
    cpus_per_node: PositiveInt | Literal["as_here"] = Field(
        "as_here", description="CPUs of a node; `as_here`: as many as the nodes have that are measured on"
    )
    price_per_node_hour: NonNegativeFloat | Literal["unknown"] = Field(
        "unknown", description="what a node costs an hour, in any currency"
    )
    storage_mb_per_s: PositiveFloat | Literal["unlimited"] = Field(
        "unlimited", description="what the storage of the source gives all nodes together, in 10^6 bytes a second"
    )
    files_per_cpu: int = Field(
        1024, ge=8, description="files measured for each CPU there is now; a quarter of them is read only"
    )
