"""Config of `leaks`: the cell to train under each split, and how the images are split."""

from typing import ClassVar, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from hemo.config.trial import TrialConfig
from hemo.config.tune import FEED_DESCRIPTION, Feed, TrackingConfig, WorkersConfig
from hemo.config.types import ClusterConfig, Config, Groups, Location


class LeaksConfig(Config):
    """Configuration of the `leaks` job."""

    GROUPS: ClassVar[Groups] = {
        "input": ("training_set",),
        "output": ("out",),
        "": ("trial",),
        "splits": ("holdout_fraction", "val_fraction", "test_fraction", "split_seed"),
        "trials": ("seeds", "shuffled_labels", "concurrent", "retries"),
        "resources": ("feed", "workers", "cluster"),
        "tracking": ("tracking",),
    }

    training_set: Location = Field(
        description="output folder of `curate`, not balanced and not `official`; all its images are split anew, and "
        "none is copied"
    )
    out: Location = Field(description="folder for the table, the splits and the records of the trials")
    trial: TrialConfig = Field(TrialConfig(), description="the cell that is trained under each split")
    holdout_fraction: float = Field(
        0.2, gt=0, lt=1, description="fraction of the images whose patients no split uses: the unseen patients"
    )
    val_fraction: float = Field(0.1, gt=0, lt=1, description="fraction of the images for validation, in each split")
    test_fraction: float = Field(0.2, gt=0, lt=1, description="fraction of the images for a split's own test")
    split_seed: NonNegativeInt = Field(0, description="random seed of the splits and of the shuffled labels")
    seeds: PositiveInt = Field(
        1,
        description="trainings of each split, with the trial's own seed and those after it; 3 or more bring the "
        "variance of training into the intervals",
    )
    shuffled_labels: bool = Field(
        True,
        description="also train the leakiest split and `by_patient` on labels shuffled between patients, which shows "
        "what a model can remember; two more trainings a seed",
    )
    concurrent: PositiveInt | Literal["auto"] = Field(
        "auto",
        description="seeds of a split that train at the same time; `auto`: as many as the cluster allows",
    )
    retries: NonNegativeInt = Field(1, description="how often a trial that failed is started again")
    feed: Feed = Field("auto", description=FEED_DESCRIPTION)
    workers: WorkersConfig = WorkersConfig()
    tracking: TrackingConfig = TrackingConfig()
    cluster: ClusterConfig = ClusterConfig()

    @model_validator(mode="after")
    def _leaves_training_images(self) -> Self:
        used = self.holdout_fraction + self.val_fraction + self.test_fraction
        if used >= 1:
            raise ValueError(
                f"holdout_fraction {self.holdout_fraction:g}, val_fraction {self.val_fraction:g} and test_fraction "
                f"{self.test_fraction:g} leave nothing to train on; lower one of them"
            )
        return self

    @model_validator(mode="after")
    def _trains_on_images(self) -> Self:
        if self.trial.model.is_sequence:
            raise ValueError(
                f"trial.model.backbone {self.trial.model.backbone} reads embeddings of whole studies, and a split by "
                "image tears these; measure leaks with the backbone that made the embeddings"
            )
        return self
