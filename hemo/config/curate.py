"""Config of `curate`: labels, split, balance."""

from typing import ClassVar, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from hemo.config.types import ClusterConfig, Config, Groups, Location, SecretLocation

SPLITS = ("train", "val", "test")

LEAKY = {
    "by_image": "images of one patient may be in several splits",
    "by_study": "studies of one patient may be in several splits",
    "by_patient_id": "an image may be in several splits, under two patient ids",
}
"""Splits in which test knows train -> how; by_patient_id is one of `hemo leaks`."""


class BalanceConfig(Config):
    """Deterministic undersampling of the negatives of train."""

    mode: Literal["none", "undersample"] = Field(
        "none",
        description="`undersample`: drop negatives until `negatives_per_positive` is reached; to repeat the rare label "
        "instead, give trials `training.balance: oversample`, which stores no image twice",
    )
    target: str = Field(
        "",
        description="class that makes an image positive; by default the only class, else `any` if there is one. Given, "
        "it is also what `by_patient_stratified` and `folds` stratify by, otherwise the combinations of all classes",
    )
    negatives_per_positive: PositiveFloat = Field(
        1.0, description="negatives kept for each positive; 1.0: as many of both"
    )


class SubsetConfig(Config):
    """Number of images kept of each split, chosen by hash: for trying things out. Tables state it in their heading."""

    train: PositiveInt | Literal["all"] = Field("all", description="images of train to keep")
    val: PositiveInt | Literal["all"] = Field("all", description="images of validation to keep")
    test: PositiveInt | Literal["all"] = Field("all", description="images of test to keep")


class DatasetConfig(Config):
    """What readers of a published training set want to know: `croissant.json` has it. It changes nothing in the set."""

    name: str = Field("", description="name of the data set; empty: its digest")
    description: str = Field("", description="what its images show, and who they are of")
    license: str = Field("", description="URL of the licence, such as https://creativecommons.org/licenses/by/4.0/")
    url: str = Field("", description="web page of the data set")
    creators: tuple[str, ...] = Field((), description="people who made it")
    publisher: str = Field("", description="institution that publishes it")
    cite_as: str = Field("", description="how to cite it, best as BibTeX")
    version: str = Field("", description="such as 1.0.0", pattern=r"^(\d+\.\d+\.\d+)?$")
    date_published: str = Field("", description="such as 2026-11-27", pattern=r"^(\d{4}-\d\d-\d\d)?$")


class CurateConfig(Config):
    """Configuration of the `curate` job."""

    GROUPS: ClassVar[Groups] = {
        "input": ("shards", "labels", "label_key", "label_columns", "pseudonym_key"),
        "output": ("out", "part_rows"),
        "audit": ("embeddings", "near_duplicate_cosine"),
        "split": ("split", "folds", "fold", "val_fraction", "test_fraction", "seed"),
        "selection": ("drop_flags", "balance", "subset", "neighbours"),
        "description, for croissant.json": ("dataset",),
        "resources": ("cluster",),
    }

    shards: Location = Field(description="output folder of `convert`")
    labels: Literal["source_class", "manifest"] | Location = Field(
        description="table of labels: RSNA's long CSV, or a CSV or Parquet with a key, see `label_key`, and a "
        "column a class; `manifest`: the table that `corpus: manifest` was converted from; `source_class`: the class "
        "folders of an image folder"
    )
    label_key: str = Field(
        "",
        description="column of `labels` with image ids or paths, with or without folder and ending; a column named "
        "`study`, `series` or `patient` has those ids, and each row is one of all their images; by default image_id, "
        "source_path or path, or a CSV's first column",
    )
    label_columns: tuple[str, ...] = Field(
        (),
        description="columns of `labels` that are classes, the others are ignored; or one column with the names of "
        "exclusive classes; by default all that are neither key nor a column of `corpus: manifest`",
    )
    pseudonym_key: Literal[""] | SecretLocation = Field(
        "",
        description="pseudonym key of `convert`, if it had one: ids and paths in `labels` are replaced in the same way",
    )
    out: Location = Field(description="folder to write the training set to")
    embeddings: Literal[""] | Location = Field(
        "",
        description="output folder of `embed --source SHARDS`: the audit then lists images of different patients that "
        "are nearly the same; time grows with the square of the images",
    )
    near_duplicate_cosine: float = Field(
        0.8, gt=0, le=1, description="cosine of their vectors, minus the mean of all, from which images are listed"
    )
    split: Literal["by_patient", "by_patient_stratified", "by_image", "by_study", "official", "folds"] = Field(
        "by_patient",
        description="how images are held out: by patient, else study, else series, where the ids before are blank; "
        "`by_image` and `by_study` may put images, or studies, of one patient into several splits (leaky; stated in "
        "every table); `hemo leaks` measures what that is worth",
    )
    folds: int = Field(5, ge=3, description="`split: folds`: number of folds, of equal size and with whole patients")
    fold: PositiveInt = Field(
        1,
        description="`split: folds`: the fold to hold out as test, 1 to `folds`; val is the next one, train all others",
    )
    val_fraction: float = Field(
        0.15,
        gt=0,
        lt=1,
        description="fraction of patients (`by_image`: of images, `by_study`: of studies) for validation; ignored with "
        "`split: folds`",
    )
    test_fraction: float = Field(
        0.15, gt=0, lt=1, description="fraction for test; ignored with `split: official` and `folds`"
    )
    drop_flags: tuple[str, ...] = Field(
        (), description="leave out images with any of these flags (blank, little_brain, secondary_capture, ...)"
    )
    balance: BalanceConfig = BalanceConfig()
    subset: SubsetConfig = SubsetConfig()
    neighbours: Literal[0, 1] = Field(0, description="1: add the previous and the next slice by position as channels")
    part_rows: PositiveInt = Field(4096, description="approximate number of rows of a part file")
    seed: NonNegativeInt = Field(0, description="random seed of split, balance and shuffle")
    dataset: DatasetConfig = DatasetConfig()
    cluster: ClusterConfig = ClusterConfig()

    @model_validator(mode="after")
    def _names_columns_of_a_table(self) -> Self:
        if self.labels == "source_class" and (self.label_key or self.label_columns):
            raise ValueError("label_key and label_columns name columns of a table; labels is source_class")
        return self

    @model_validator(mode="after")
    def _leaves_training_rows(self) -> Self:
        if self.val_fraction + self.test_fraction >= 1:
            raise ValueError(
                f"val_fraction {self.val_fraction} and test_fraction {self.test_fraction} leave nothing to train on; "
                "lower one of them"
            )
        return self

    @model_validator(mode="after")
    def _has_such_a_fold(self) -> Self:
        if self.split != "folds" and (self.fold, self.folds) != (1, 5):
            raise ValueError(f"fold and folds need `split: folds`, and split is {self.split}; give --split folds")
        if self.fold > self.folds:
            raise ValueError(f"fold {self.fold} must be 1 to {self.folds}; give one of these, or more folds")
        return self

    @property
    def split_name(self) -> str:
        """Name of the split in cards and in headings of tables."""
        return f"fold {self.fold} of {self.folds} by patient" if self.split == "folds" else self.split
