"""What `curate` is told."""

from typing import Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from hemo.config.types import ClusterConfig, Config, Location, SecretLocation

SPLITS = ("train", "val", "test")


class BalanceConfig(Config):
    """Under-sampling of the negatives, deterministic, in train only."""

    mode: Literal["none", "undersample"] = Field(
        "none", description="`undersample` drops negatives until the ratio holds"
    )
    target: str = Field("any", description="class whose positives count")
    negatives_per_positive: PositiveFloat = Field(1.0, description="1.0 is the sources' 1 : 1")


class SubsetConfig(Config):
    """How many images of each split are kept, chosen by hash: for trying things out. Every table says so."""

    train: PositiveInt | Literal["all"] = "all"
    val: PositiveInt | Literal["all"] = "all"
    test: PositiveInt | Literal["all"] = "all"


class CurateConfig(Config):
    """Shards and labels to a labelled, audited, split, balanced, shuffled training set."""

    shards: Location = Field(description="output folder of `convert`")
    labels: Literal["source_class"] | Location = Field(
        description="RSNA's long CSV, a wide CSV or Parquet keyed by image_id or path, "
        "or `source_class`: the folder names of an image folder"
    )
    pseudonym_key: Literal[""] | SecretLocation = Field(
        "", description="the key of `convert`, where it replaced ids: the keys of `labels` are replaced alike"
    )
    out: Location = Field(description="folder for the training set and its card")
    split: Literal["by_patient", "by_patient_stratified", "by_image", "official", "folds"] = Field(
        "by_patient", description="how rows are held out; `by_image` leaks patients and is marked so in every table"
    )
    folds: int = Field(5, ge=3, description="`split: folds`: parts of equal size, whole patients each")
    fold: PositiveInt = Field(
        1, description="`split: folds`: 1 to `folds`; test is this fold, val the next, train all others: one set a run"
    )
    val_fraction: float = Field(
        0.15, gt=0, lt=1, description="share of patients (or images) for validation; not used by `folds`"
    )
    test_fraction: float = Field(0.15, gt=0, lt=1, description="share for test; not used by `official` and `folds`")
    drop_flags: tuple[str, ...] = Field(
        (), description="rows with any of these flags are left out (blank, little_brain, secondary_capture, ...)"
    )
    balance: BalanceConfig = BalanceConfig()
    subset: SubsetConfig = SubsetConfig()
    neighbours: Literal[0, 1] = Field(0, description="1: previous and next slice by position become further channels")
    part_rows: PositiveInt = Field(4096, description="rows in a part file, about")
    seed: NonNegativeInt = Field(0, description="seed of split, balance and shuffle")
    cluster: ClusterConfig = ClusterConfig()

    @model_validator(mode="after")
    def _leaves_training_rows(self) -> Self:
        if self.val_fraction + self.test_fraction >= 1:
            raise ValueError(
                f"val_fraction {self.val_fraction} and test_fraction {self.test_fraction} leave nothing to train on"
            )
        return self

    @model_validator(mode="after")
    def _has_such_a_fold(self) -> Self:
        if self.split != "folds" and (self.fold, self.folds) != (1, 5):
            raise ValueError(f"fold and folds are for `split: folds`, and split is {self.split}; give --split folds")
        if self.fold > self.folds:
            raise ValueError(f"fold {self.fold} is none of 1 to {self.folds}; give one of these, or more folds")
        return self

    @property
    def split_name(self) -> str:
        """How rows are held out, as cards and the headings of tables say it."""
        return f"fold {self.fold} of {self.folds} by patient" if self.split == "folds" else self.split
