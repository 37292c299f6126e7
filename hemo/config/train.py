"""What `train` is told."""

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt

from hemo.config.trial import TrialConfig
from hemo.config.types import ClusterConfig, Config, Location

Feed = Literal["auto", "resident", "streaming"]
"""Where a training set's images are while models learn; batches, order and results are the same."""

FEED_IN_WORDS = (
    "resident: images are loaded once into Ray's object store, for all trials on a node; streaming: each trial reads "
    "them from the training set while it runs; auto: resident where they fit"
)


class TrackingConfig(Config):
    """Where metrics go besides the record. Never patient data, and no key: W&B's own is read where W&B looks for it."""

    backend: Literal["none", "tensorboard", "wandb"] = Field(
        "none",
        description="wandb: online where WANDB_API_KEY or ~/.netrc has a key, else offline; WANDB_MODE decides if set",
    )
    project: str = Field("hemo", pattern=r"^[^/\\#?%:\s]{1,128}$", description="W&B project")
    group: str = Field(
        "", max_length=128, description="W&B group of the run; `tune` names it by its grid or search if it is empty"
    )
    onnx: bool = Field(
        False, description="W&B: `model.onnx` beside the weights in the model artifact; some 10 s and 0.8 GB a trial"
    )


class WorkersConfig(Config):
    """Workers of one trial; the record tells their number, its digest does not cover it.

    Steps, order and augmentation do not depend on them: a model without dropout and batch normalisation comes out the
    same within rounding. Else results are alike as those of two seeds are: dropout is drawn by each worker, and on the
    CPU, or without `sync_batch_norm`, batch normalisation sees a worker's share of a batch, else the whole.
    """

    count: PositiveInt = Field(1, description="data-parallel workers; batch_size is shared out among them")
    cpus: PositiveFloat = Field(1.0, description="CPUs a worker")
    gpus: float | Literal["auto"] = Field("auto", description="GPUs a worker; `auto`: one where the cluster has any")


class TrainConfig(Config):
    """A training set and one trial config to a record and a checkpoint."""

    training_set: Location = Field(description="output folder of `curate`")
    out: Location = Field(description="folder of records: the trial's record lies in a folder named by its digest")
    trial: TrialConfig = TrialConfig()
    feed: Feed = Field("auto", description=FEED_IN_WORDS)
    workers: WorkersConfig = WorkersConfig()
    tracking: TrackingConfig = TrackingConfig()
    cluster: ClusterConfig = ClusterConfig()
