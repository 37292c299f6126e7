"""Configs of the jobs on raw corpora: `phantom` makes one, `convert` converts one, `plan` estimates that conversion."""

import re
from typing import Annotated, ClassVar, Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from hemo.config.types import ClusterConfig, Config, Groups, Location, SecretLocation

Corpus = Literal["rsna", "dicom", "image_folder", "manifest"]
Media = Literal["dicom", "photo"]

MEDIA: dict[str, Media] = {
    "rsna": "dicom",
    "dicom": "dicom",
    "image_folder": "photo",
}
"""Kind of a corpus -> what its files are; those of `manifest` are of the kind that its table lists."""


class WindowConfig(Config):
    """A user-defined intensity window."""

    name: str = Field(min_length=1, description="name of the channel")
    centre_hu: float = Field(description="window centre (level) in HU")
    width_hu: float = Field(gt=0, description="window width in HU")


class ImagesConfig(Config):
    """Where a corpus is, and how its files become stored images."""

    GROUPS: ClassVar[Groups] = {
        "input": ("source", "corpus"),
        "images": ("pixels", "windows", "side_px", "crop", "colour"),
        "patients": ("patient_pattern", "public_ids", "pseudonym_key", "public_classes"),
    }

    source: Location = Field(
        description="folder, zip or bucket of the corpus; with `corpus: manifest` a CSV or Parquet table of files"
    )
    corpus: Corpus = Field(
        description="kind of corpus: `rsna` (with the repairs of that corpus), `dicom`, `image_folder` (class folders "
        "of pictures), or `manifest` (a table of files)"
    )
    pixels: Literal["windows", "hu16"] = Field(
        "windows",
        description="DICOM: what is stored; `windows`: a uint8 channel for each window, `hu16`: Hounsfield units as "
        "int16",
    )
    windows: Annotated[tuple[str | WindowConfig, ...], Field(min_length=1)] = Field(
        ("brain", "subdural", "soft"),
        description="DICOM: windows, a channel each: by name (brain, subdural, soft, bone, stroke) or "
        "{name, centre_hu, width_hu}; ignored with `pixels: hu16`",
    )
    side_px: int = Field(256, ge=8, le=4096, description="height and width of stored images in pixels")
    crop: Literal["none", "head"] = Field(
        "none", description="DICOM: `head` crops each slice to the square around the head before it is resized"
    )
    colour: Literal["rgb", "grey"] = Field("rgb", description="pictures: colour channels to store")
    patient_pattern: str = Field(
        r"(person\d+)_|(IM-\d+)-",
        description="image_folder: regular expression searched in the file name; its first matching group is the "
        "patient. If it does not match most names, only `curate --split by_image` is possible",
    )
    public_ids: bool | Literal["by_corpus"] = Field(
        "by_corpus",
        description="true: store ids and paths as they are, because they name nobody; false: replace them, with "
        "`pseudonym_key`; `by_corpus`: as if true, but dicom and manifest need this flag or `pseudonym_key`",
    )
    pseudonym_key: Literal[""] | SecretLocation = Field(
        "",
        description="file with a secret of at least 16 bytes, or env:NAME for an environment variable of the job; "
        "ids, paths, classes, change marks and pixel digests are replaced by keyed ones",
    )
    public_classes: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        (),
        description="with `pseudonym_key`: class folders, or classes in a manifest, whose names are kept; each other "
        "class becomes a pseudonym, as a folder may be named after a patient",
    )

    @field_validator("patient_pattern")
    @classmethod
    def _pattern_compiles(cls, pattern: str) -> str:
        try:
            groups = re.compile(pattern).groups
        except re.error as error:
            raise ValueError(f"is no regular expression: {error}") from error
        if not groups:
            raise ValueError("needs a group in parentheses that captures the patient")
        return pattern

    @model_validator(mode="after")
    def _names_are_settled(self) -> Self:
        require_names_settled(self.corpus, self.public_ids, self.pseudonym_key)
        if self.public_classes and not self.pseudonym_key:
            raise ValueError("--public_classes needs --pseudonym_key FILE; without a key all classes are kept")
        return self


class ReadConfig(ImagesConfig):
    """Arguments of `hemo.read_images` and `hemo.read_rejects`."""

    unit_files: PositiveInt = Field(256, description="files read by one task")


class ConvertConfig(ImagesConfig):
    """Configuration of the `convert` job."""

    GROUPS: ClassVar[Groups] = {
        "input": ImagesConfig.GROUPS["input"],
        "output": ("out", "max_reject_fraction", "unit_files"),
        **ImagesConfig.GROUPS,
        "resources": ("read_threads", "cluster"),
    }

    out: Location = Field(description="folder to write shards, index, rejects and card to")
    max_reject_fraction: float = Field(
        0.05, ge=0, le=1, description="stop with an error once a larger fraction of the files is rejected"
    )
    unit_files: PositiveInt = Field(
        1024, description="files in a unit, which becomes one shard; fewer where they have more than 2 GB"
    )
    read_threads: PositiveInt = Field(
        4, description="files that each task reads in advance, to hide the storage's latency"
    )
    cluster: ClusterConfig = ClusterConfig()

    @model_validator(mode="after")
    def _out_is_apart(self) -> Self:
        if f"{self.out}/".startswith(f"{self.source}/") or f"{self.source}/".startswith(f"{self.out}/"):
            raise ValueError(
                f"out {self.out} and source {self.source} lie within each other; give a folder outside of source"
            )
        return self


def require_names_settled(corpus: str, public_ids: bool | str, pseudonym_key: str) -> None:
    """Refuse a config that does not determine whether ids and paths may be stored as they are.

    Raises:
        ValueError: Naming the two flags of which one is needed.
    """
    if public_ids is True and pseudonym_key:
        raise ValueError("--public_ids true keeps the ids, --pseudonym_key FILE replaces them: give one of the two")
    if corpus in ("dicom", "manifest") and public_ids is not True and not pseudonym_key:
        raise ValueError(
            f"a {corpus} corpus may name patients: give --pseudonym_key FILE to replace ids and paths, "
            "or --public_ids true if they may be stored as they are"
        )
    if public_ids is False and not pseudonym_key:
        raise ValueError("--public_ids false needs --pseudonym_key FILE, a secret of at least 16 bytes")


class PlanConfig(ConvertConfig):
    """Configuration of the `plan` job: that of `convert`, what is trained on its images, and clusters."""

    GROUPS: ClassVar[Groups] = {
        **ConvertConfig.GROUPS,
        "training": ("train", "series", "val_fraction", "test_fraction", "slices_per_study", "timed_s"),
        "estimate": ("nodes", "cpus_per_node", "price_per_node_hour", "storage_mb_per_s", "files_per_cpu"),
    }

    out: Location = Field(description="folder to write plan.json to; it may be that of the conversion")
    train: Literal[""] | Location = Field(
        "",
        description="config of `train` for a model of images, such as conf/train/rsna.yaml: its training and `embed` "
        "with it are planned too",
    )
    series: Literal[""] | Location = Field(
        "",
        description="config of `train` for a sequence model on these embeddings, such as conf/train/rsna_series.yaml: "
        "it is planned too",
    )
    val_fraction: float = Field(0.15, gt=0, lt=1, description="fraction of the images for validation, as of `curate`")
    test_fraction: float = Field(0.15, gt=0, lt=1, description="fraction of the images for test, as of `curate`")
    slices_per_study: int = Field(
        35, ge=2, description="slices of a study on average, for `series`; 752,803 of 21,744 studies in RSNA 2019"
    )
    timed_s: PositiveFloat = Field(
        10, description="time training of more and more made-up images, until an epoch takes so many seconds"
    )
    nodes: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = Field(
        (1, 2, 4, 8, 16), description="numbers of nodes to estimate hours and cost for"
    )
    cpus_per_node: PositiveInt | Literal["as_here"] = Field(
        "as_here", description="CPUs of a node; `as_here`: as many as the nodes of this measurement"
    )
    price_per_node_hour: NonNegativeFloat | Literal["unknown"] = Field(
        "unknown", description="price of a node and hour, in your currency: that of the cost"
    )
    storage_mb_per_s: PositiveFloat | Literal["unlimited"] = Field(
        "unlimited", description="read rate of the source's storage for all nodes together, in 10^6 bytes/s"
    )
    files_per_cpu: int = Field(
        1024,
        ge=8,
        description="files to measure for each CPU of this cluster; a quarter of them is read but not decoded",
    )

    @model_validator(mode="after")
    def _trains_on_what_is_converted(self) -> Self:
        if self.series and not self.train:
            raise ValueError(
                "series is trained on embeddings of a model of images: give --train, the config of that model"
            )
        if self.train and self.pixels == "hu16":
            raise ValueError("train takes windows of 8 bits, not hu16: leave out --pixels, or --train")
        if self.val_fraction + self.test_fraction >= 1:
            raise ValueError(
                f"val_fraction {self.val_fraction} and test_fraction {self.test_fraction} leave nothing to train on"
            )
        return self


MIN_SLICES_WITH_FAULTS = 20
"""Enough for two patients and each fault, with fewer unreadable files than `max_reject_fraction` of `convert`."""


class PhantomConfig(Config):
    """Configuration of the `phantom` job: a synthetic head-CT corpus in the layout of RSNA 2019."""

    GROUPS: ClassVar[Groups] = {
        "output": ("out",),
        "images": ("slices", "seed", "positive_fraction", "faults", "corrupted_fraction", "partial_volume_fraction"),
        "resources": ("cluster",),
    }

    out: Location = Field(description="folder to write `stage_2_train/ID_*.dcm` and `stage_2_train.csv` to")
    slices: PositiveInt = Field(600, description="number of DICOM files")
    seed: NonNegativeInt = Field(0, description="random seed; the same seed gives the same bytes")
    positive_fraction: float = Field(
        0.4,
        ge=0,
        le=0.6,
        description="fraction of slices with a hemorrhage (0.14 in RSNA 2019); slices at base and vertex have none",
    )
    faults: bool = Field(
        True,
        description="include the known faults of RSNA 2019: wrong intercepts, truncated and constant files, duplicate "
        "labels, ...",
    )
    corrupted_fraction: float = Field(
        0,
        ge=0,
        le=0.5,
        description="fraction of slices, besides the known faults, whose pixels are replaced by a constant or noise "
        "while their label stays, to measure the effect of leaving such slices out",
    )
    partial_volume_fraction: float = Field(
        0,
        ge=0,
        le=0.3,
        description="fraction of slices that cut bone in part: a layer that looks like blood outside the brain and has "
        "no label; blood goes on in the next slice, bone does not",
    )
    cluster: ClusterConfig = ClusterConfig()

    @model_validator(mode="after")
    def _has_enough_slices_for_faults(self) -> Self:
        if self.faults and self.slices < MIN_SLICES_WITH_FAULTS:
            raise ValueError(f"faults need --slices {MIN_SLICES_WITH_FAULTS} or more; or give --faults false")
        return self
