"""What `phantom` is told."""

from pydantic import Field, NonNegativeInt, PositiveInt

from hemo.config.cluster import ClusterConfig
from hemo.config.fields import Config, Location


class PhantomConfig(Config):
    """A synthetic head-CT corpus in RSNA's own layout."""

    out: Location = Field(description="folder to write: `stage_2_train/ID_*.dcm` and `stage_2_train.csv`")
    slices: PositiveInt = Field(600, description="number of DICOM files")
    seed: NonNegativeInt = Field(0, description="same seed, same bytes")
    positive_fraction: float = Field(
        0.4, ge=0, le=1, description="share of slices with a hemorrhage (0.14 in the real corpus)"
    )
    traps: bool = Field(
        True,
        description="include the real corpus's faults: broken intercepts, truncated and constant files, "
        "duplicate labels, ...",
    )
    cluster: ClusterConfig = ClusterConfig()
