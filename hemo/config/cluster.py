"""Which Ray a job runs on."""

from typing import Literal

from pydantic import Field, PositiveInt

from hemo.config.fields import Config, Location


class ClusterConfig(Config):
    """How to reach Ray. Inside `ray job submit` nothing needs to be set."""

    address: str = Field(
        "auto",
        description="`auto`: the cluster in RAY_ADDRESS if it is set, else a fresh local one; "
        "`local`: always a fresh local one; or host:port",
    )
    cpus: PositiveInt | Literal["all"] = Field("all", description="CPUs of a fresh local cluster")
    temp_dir: Location = Field("/tmp/ray", description="where a fresh local cluster keeps its session files")
