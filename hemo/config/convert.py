"""Configs of `convert` and of `plan`, which estimates a conversion."""

import re
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, field_validator, model_validator

from hemo.config.types import ClusterConfig, Config, Location, SecretLocation

Corpus = Literal["rsna", "dicom", "image_folder", "manifest", "idx", "word_indices"]
Media = Literal["dicom", "photo", "idx", "word_indices"]

MEDIA: dict[str, Media] = {
    "rsna": "dicom",
    "dicom": "dicom",
    "image_folder": "photo",
    "idx": "idx",
    "word_indices": "word_indices",
}
"""What the files of a corpus are; of `manifest` the table says."""


class WindowConfig(Config):
    """An intensity window of one's own."""

    name: str = Field(min_length=1, description="channel name")
    centre_hu: float = Field(description="centre in HU")
    width_hu: float = Field(gt=0, description="full width in HU")


class ImagesConfig(Config):
    """Which images there are, and how they are made of their files."""

    source: Location = Field(description="folder, zip or bucket of the corpus; for `manifest` a CSV or Parquet table")
    corpus: Corpus = Field(
        description="what the source holds; `idx`: images as MNIST is published, `word_indices`: texts as `reuters.npz`"
    )
    pixels: Literal["windows", "hu16"] = Field(
        "windows", description="DICOM: `windows` stores a uint8 channel a window, `hu16` the Hounsfield units as int16"
    )
    windows: Annotated[tuple[str | WindowConfig, ...], Field(min_length=1)] = Field(
        ("brain", "subdural", "soft"),
        description="DICOM: one channel a window, by name (brain, subdural, soft, bone, stroke) "
        "or {name, centre_hu, width_hu}; not used by `hu16`",
    )
    side_px: int = Field(
        256, ge=8, le=4096, description="stored height and width in pixels; not used by `word_indices`"
    )
    crop: Literal["none", "head"] = Field(
        "none", description="DICOM: `head` cuts each slice to the square around the head before it is resized"
    )
    colour: Literal["rgb", "grey"] = Field("rgb", description="pictures: channels to keep")
    words: int = Field(
        10_000, ge=2, le=1_000_000, description="word_indices: the commonest words kept; an image has a column a word"
    )
    patient_pattern: str = Field(
        r"(person\d+)_|(IM-\d+)-",
        description="image_folder: regular expression whose first matching group in the file name is the patient; "
        "no match: the image is its own patient",
    )
    public_ids: bool | Literal["by_corpus"] = Field(
        "by_corpus",
        description="keep ids and paths as they are; `by_corpus`: for dicom and manifest you must choose, "
        "true for the others",
    )
    pseudonym_key: Literal[""] | SecretLocation = Field(
        "",
        description="file with a secret of at least 16 bytes, or env:NAME for an environment variable of the job; "
        "ids and paths become keyed pseudonyms",
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
        return self


class ConvertConfig(ImagesConfig):
    """A raw corpus to Parquet shards."""

    out: Location = Field(description="folder for shards, index, rejects and card")
    max_reject_fraction: float = Field(
        0.05, ge=0, le=1, description="the run stops once a larger share of the inputs is known to be rejected"
    )
    unit_files: PositiveInt = Field(1024, description="files in a unit: one shard")
    read_threads: PositiveInt = Field(4, description="files read ahead in each task, to hide the storage's latency")
    cluster: ClusterConfig = ClusterConfig()

    @model_validator(mode="after")
    def _out_is_apart(self) -> Self:
        if f"{self.out}/".startswith(f"{self.source}/") or f"{self.source}/".startswith(f"{self.out}/"):
            raise ValueError(f"out {self.out} and source {self.source} lie within each other; give a folder beside it")
        return self


def require_names_settled(corpus: str, public_ids: bool | str, pseudonym_key: str) -> None:
    """Refuse a config that leaves open whether ids and paths may be stored as they are.

    Raises:
        ValueError: Naming both ways out.
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
