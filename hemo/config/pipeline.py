"""What `pipeline` is told: every stage in one file, wired to each other below one folder."""

from typing import Any

from pydantic import Field, model_validator

from hemo.config.convert import ConvertConfig
from hemo.config.curate import CurateConfig
from hemo.config.phantom import PhantomConfig
from hemo.config.report import ReportConfig
from hemo.config.tune import TuneConfig
from hemo.config.types import ClusterConfig, Config, Location
from hemo.storage import absolute, join


class PipelineConfig(Config):
    """All stages. Inputs and outputs of the stages are set from `out` and need not be given."""

    out: Location = Field(
        description="folder below which every stage writes: corpus, converted, training_set, records, report"
    )
    phantom: PhantomConfig | None = Field(None, description="make a synthetic corpus first, and convert that")
    convert: ConvertConfig
    curate: CurateConfig
    tune: TuneConfig
    report: ReportConfig
    cluster: ClusterConfig = Field(ClusterConfig(), description="the Ray all stages run on; theirs are not used")

    @model_validator(mode="before")
    @classmethod
    def _wire_stages(cls, data: Any) -> Any:
        """Fill in where each stage reads and writes; what the file says itself wins."""
        if not isinstance(data, dict):
            return data
        # without `out` the config is refused; the stages get a place all the same, so that only `out` is complained of
        out = absolute(str(data.get("out", ".")))
        corpus, converted, training_set, records = (
            join(out, name) for name in ("corpus", "converted", "training_set", "records")
        )
        wires: dict[str, dict[str, str]] = {
            "phantom": {"out": corpus},
            "convert": {"out": converted},
            "curate": {"shards": converted, "out": training_set},
            "tune": {"training_set": training_set, "out": records},
            "report": {"records": records, "out": join(out, "report")},
        }
        if data.get("phantom") is None:
            del wires["phantom"]
        else:
            wires["convert"] |= {"source": corpus, "corpus": "rsna"}
            wires["curate"] |= {"labels": join(corpus, "stage_2_train.csv")}
        if isinstance(data.get("convert"), dict) and (key := data["convert"].get("pseudonym_key")):
            wires["curate"] |= {"pseudonym_key": key}
        given = {name: data.get(name) or {} for name in wires}
        return {**data, **{name: {**wires[name], **said} for name, said in given.items() if isinstance(said, dict)}}
