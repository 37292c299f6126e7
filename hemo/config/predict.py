"""What `predict` is told."""

from typing import Literal, Self

from pydantic import Field, PositiveInt, model_validator

from hemo.config.cluster import ClusterConfig
from hemo.config.convert import require_names_settled
from hemo.config.fields import Config, Location, SecretLocation


class PredictConfig(Config):
    """Shards or a raw corpus and a checkpoint to probabilities."""

    source: Location = Field(description="output folder of `convert`, or a raw corpus")
    corpus: Literal["shards", "rsna", "dicom", "image_folder", "manifest"] = Field(
        "shards", description="what the source holds"
    )
    checkpoint: Location = Field(description="a record, or its checkpoint folder")
    out: Location = Field(description="folder for predictions.parquet, studies.parquet and submission.csv")
    batch_size: PositiveInt = Field(64, description="images at once")
    test_time_augmentation: Literal["none", "flip"] = Field(
        "none", description="`flip`: the mean over each image and its mirror image, left to right; twice the cost"
    )
    public_ids: bool | Literal["by_corpus"] = Field("by_corpus", description="raw corpora: as in `convert`")
    pseudonym_key: Literal[""] | SecretLocation = Field("", description="raw corpora: as in `convert`")
    cluster: ClusterConfig = ClusterConfig()

    @model_validator(mode="after")
    def _names_are_settled(self) -> Self:
        if self.corpus != "shards":
            require_names_settled(self.corpus, self.public_ids, self.pseudonym_key)
        elif self.pseudonym_key or self.public_ids != "by_corpus":
            raise ValueError("shards hold their ids as `convert` stored them: leave out public_ids and pseudonym_key")
        return self
