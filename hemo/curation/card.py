"""`card.json` of a training set: counts after each step, audit, classes, channels, shape."""

from typing import Any

from pydantic import Field

from hemo.config.types import Config, load_card

CARD_SCHEMA_VERSION = 1


class Count(Config):
    """Rows at one point, in all and by what they are."""

    rows: int
    patients: int
    positives: dict[str, int] = Field(description="class -> rows with that label")
    pixel_formats: dict[str, int] = Field({}, description="pixel format -> rows")


class Step(Config):
    """One step of curation, with the rows that were left after it."""

    name: str
    removed: int
    left: Count
    detail: str = ""


class TrainingSetCard(Config):
    """`SET/card.json`.

    The parts are `SET/{train,val,test}/part-*.parquet`: the row schema and a `label_NAME` column a class.
    """

    schema_version: int = CARD_SCHEMA_VERSION
    digest: str = Field(description="covers ids, labels, splits, pixels and the image config; trials are keyed by it")
    inputs_digest: str = Field(
        description="covers curate's config and the content of the shards' card and index and of the label file: "
        "a stage with this digest is complete"
    )
    config: dict[str, Any] = Field(description="curate's config as it was run; its locations are for information only")
    image: dict[str, Any] = Field(
        description="how the images were made: what `predict` needs to make the same from a raw file"
    )
    classes: tuple[str, ...] = Field(description="in order; columns are `label_NAME`")
    channels: tuple[str, ...]
    dtype: str = Field(description="of a pixel: uint8 or int16")
    height_px: int
    width_px: int
    split: str = Field(
        description="by_patient, by_patient_stratified, by_image (leaky), official, or fold k of K by patient"
    )
    splits: dict[str, Count] = Field(description="train, val, test")
    steps: tuple[Step, ...]
    audit: dict[str, Any] = Field(
        {}, description="linked patients, conflicts, labels without images and images without labels"
    )
    reductions: tuple[str, ...] = Field(
        (), description="sentences for table headings, such as `train limited to 900 of 4,707 images`"
    )


def read_card(training_set: str) -> TrainingSetCard:
    """Return the card of a training set.

    Raises:
        SourceError: If the folder is no finished training set, or of another version.
    """
    return load_card(training_set, TrainingSetCard, stage="training set", job="curate")
