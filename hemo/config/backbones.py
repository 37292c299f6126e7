"""What `backbones` is told."""

from pydantic import Field, PositiveInt

from hemo.config.fields import Config


class BackbonesConfig(Config):
    """Which backbones to list."""

    containing: str = Field("", description="part of timm's names to list, such as `convnext`; empty: the sources' six")
    channels: PositiveInt = Field(3, description="channels of the images; parameters depend on them")
