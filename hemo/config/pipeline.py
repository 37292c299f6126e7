"""Config of `pipeline`: all stages in one file, each reading what the one before wrote."""

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field, model_validator

from hemo.config.convert import ConvertConfig, PhantomConfig
from hemo.config.curate import CurateConfig
from hemo.config.report import ReportConfig
from hemo.config.tune import TuneConfig
from hemo.config.types import ClusterConfig, Config, Groups, Location
from hemo.storage import absolute, join


class PipelineConfig(Config):
    """Configuration of the `pipeline` job.

    Inputs and outputs of the stages are derived from `out` if they are not given.
    """

    GROUPS: ClassVar[Groups] = {
        "output": ("out",),
        "resources": ("cluster",),
        **{stage: (stage,) for stage in ("phantom", "convert", "curate", "tune", "report")},
    }

    out: Location = Field(
        description="folder below which every stage writes: corpus, converted, training_set, records, report"
    )
    phantom: PhantomConfig | None = Field(None, description="make a synthetic corpus first, and convert it")
    convert: ConvertConfig
    curate: CurateConfig
    tune: TuneConfig
    report: ReportConfig
    cluster: ClusterConfig = Field(
        ClusterConfig(), description="the cluster of all stages; those in their sections are ignored"
    )

    def check_flags(self, flags: Mapping[str, Any]) -> None:
        """Refuse what `tune` refuses of its own flags."""
        self.tune.check_flags(flags.get("tune", {}), "tune.")

    @model_validator(mode="before")
    @classmethod
    def _derive_locations(cls, data: Any) -> Any:
        """Fill in where each stage reads and writes, unless it is given."""
        if not isinstance(data, dict):
            return data
        # without `out` the config is refused; locations are derived all the same, so that only `out` is an error
        out = absolute(str(data.get("out", ".")))
        corpus, converted, training_set, records = (
            join(out, name) for name in ("corpus", "converted", "training_set", "records")
        )
        derived: dict[str, dict[str, str]] = {
            "phantom": {"out": corpus},
            "convert": {"out": converted},
            "curate": {"shards": converted, "out": training_set},
            "tune": {"training_set": training_set, "out": records},
            "report": {"records": records, "data": join(out, "training_set"), "out": join(out, "report")},
        }
        if data.get("phantom") is None:
            del derived["phantom"]
        else:
            derived["convert"] |= {"source": corpus, "corpus": "rsna"}
            derived["curate"] |= {"labels": join(corpus, "stage_2_train.csv")}
        if isinstance(data.get("convert"), dict) and (key := data["convert"].get("pseudonym_key")):
            derived["curate"] |= {"pseudonym_key": key}
        stages = {name: data.get(name) or {} for name in derived}
        return {
            **data,
            **{name: {**derived[name], **stage} for name, stage in stages.items() if isinstance(stage, dict)},
        }
