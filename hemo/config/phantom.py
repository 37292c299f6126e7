"""What `phantom` is told."""

from typing import Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from hemo.config.types import ClusterConfig, Config, Location

MIN_SLICES_WITH_TRAPS = 20
"""Two patients, room for each fault, and no larger share of unreadable files than `convert` puts up with."""


class PhantomConfig(Config):
    """A synthetic head-CT corpus in RSNA's own layout."""

    out: Location = Field(description="folder to write: `stage_2_train/ID_*.dcm` and `stage_2_train.csv`")
    slices: PositiveInt = Field(600, description="number of DICOM files")
    seed: NonNegativeInt = Field(0, description="same seed, same bytes")
    positive_fraction: float = Field(
        0.4,
        ge=0,
        le=0.6,
        description="share of slices with a hemorrhage (0.14 in the real corpus); none at base and vertex",
    )
    traps: bool = Field(
        True,
        description="include the real corpus's faults: broken intercepts, truncated and constant files, "
        "duplicate labels, ...",
    )
    spoiled_fraction: float = Field(
        0,
        ge=0,
        le=0.5,
        description="share of slices, beyond the traps, whose pixels are lost to a constant or to noise while their "
        "label stays: what cleaning is there to leave out",
    )
    cluster: ClusterConfig = ClusterConfig()

    @model_validator(mode="after")
    def _has_room_for_traps(self) -> Self:
        if self.traps and self.slices < MIN_SLICES_WITH_TRAPS:
            raise ValueError(f"traps need --slices {MIN_SLICES_WITH_TRAPS} or more; or give --traps false")
        return self
