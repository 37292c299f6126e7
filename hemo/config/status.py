"""What `status` is told."""

from pydantic import Field

from hemo.config.fields import Config, Location


class StatusConfig(Config):
    """A folder of records, whose trials may still run."""

    records: Location = Field(description="folder of records: the `out` of `train` or `tune`")
