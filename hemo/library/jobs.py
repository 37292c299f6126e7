"""One function a job, with the job's flags as keyword arguments; each returns an object of what it made.

    shards = hemo.convert(source="/data/rsna", corpus="rsna", out="runs/converted", side_px=224)
    trial = hemo.train.from_config("conf/train/phantom.yaml", training_set="runs/set", out="runs/records")

The commands `hemo NAME` call these functions.
"""

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast

from hemo.config.convert import ConvertConfig, PhantomConfig, PlanConfig
from hemo.config.curate import CurateConfig
from hemo.config.document import DocumentConfig
from hemo.config.inference import EmbedConfig, EvaluateConfig, ExplainConfig, ExportConfig, PredictConfig
from hemo.config.leaks import LeaksConfig
from hemo.config.load import read_yaml
from hemo.config.pipeline import PipelineConfig
from hemo.config.report import BackbonesConfig, DoctorConfig, ReportConfig, StatusConfig, WatchConfig
from hemo.config.tune import TrainConfig, TuneConfig
from hemo.config.types import ClusterConfig, Config
from hemo.config.validation import merge, validated
from hemo.errors import ConfigError

if TYPE_CHECKING:
    from hemo.library.embeddings import Embeddings
    from hemo.library.evaluation import Evaluation
    from hemo.library.outputs import (
        Checkup,
        Documents,
        Estimate,
        Explanations,
        Export,
        Leaks,
        Predictions,
        Report,
        Status,
    )
    from hemo.library.shards import Shards
    from hemo.library.training_set import TrainingSet
    from hemo.library.trials import Trial, Trials
    from hemo.models.catalogue import BackboneFacts
    from hemo.reporting.server import Watch

P = ParamSpec("P")
C = TypeVar("C", bound=Config)
R = TypeVar("R")


class Job(Generic[P, C, R]):
    """A job as a function: its keyword arguments are the fields of its config, checked before anything is done.

    A section of the config (`trial`, `workers`, `cluster`, ...) is a dict or the config object itself.
    """

    def __init__(self, config_type: Callable[P, C], function: Callable[[C], R]) -> None:
        """Make a job of a function of its config."""
        self.config_type, self.run = cast(type[C], config_type), function
        self.__name__, self.__module__ = function.__name__, function.__module__
        self.__signature__ = inspect.signature(config_type)
        self.__doc__ = _documented(function, self.config_type)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Check the arguments and run the job.

        Raises:
            ConfigError: One line for each argument that is missing, unknown or wrong; or if one has no keyword.
        """
        if args:
            first = next(iter(self.config_type.model_fields))
            raise ConfigError(
                f"hemo.{self.__name__} takes keyword arguments only, such as {first}=...; got {args[0]!r}"
            )
        return self.run(validated(self.config_type, kwargs, origin=f"hemo.{self.__name__}"))

    def __reduce__(self) -> str:
        """Pickle the name, as of a function."""
        return self.__name__

    def from_config(self, file: str | Path, **changes: Any) -> R:
        """Run with the values of a YAML file, as `--config FILE` does; `changes` replace them, section by section.

        Raises:
            ConfigError: If the file is missing or is no YAML, or one line for each value that is wrong.
        """
        values = merge(read_yaml(str(file)), changes)
        return self.run(validated(self.config_type, values, origin=str(file), flags=changes))


def _documented(function: Callable[..., Any], config_type: type[Config]) -> str:
    """Return a function's docstring with its arguments, as the config describes them."""
    arguments = []
    for name, field in config_type.model_fields.items():
        default = "required" if field.is_required() else f"default {field.get_default()!r}"
        nested = isinstance(field.get_default(), Config) or not field.description
        section = f"a section; see `hemo {function.__name__} --help`"
        arguments.append(f"    {name}: {section if nested else f'{field.description} ({default})'}")
    return "\n".join([inspect.cleandoc(function.__doc__ or ""), "", "Args:", *arguments])


def job(config_type: Callable[P, C]) -> Callable[[Callable[[C], R]], Job[P, C, R]]:
    """Make a function of a config into a job with the config's fields as arguments."""
    return lambda function: Job(config_type, function)


@job(ClusterConfig)
def connect(config: ClusterConfig) -> None:
    """Connect to Ray, or start it on this machine, and stay connected: later calls share the connection.

    Without it each call connects and disconnects for itself, which takes some seconds.
    """
    from hemo.cluster.session import connect as stay_connected

    stay_connected(config)


@job(PhantomConfig)
def phantom(config: PhantomConfig) -> str:
    """Make a synthetic corpus; return its folder."""
    from hemo.cluster.phantom import make_phantom
    from hemo.cluster.session import connected

    with connected(config.cluster):
        return make_phantom(config)


@job(PlanConfig)
def plan(config: PlanConfig) -> "Estimate":
    """Estimate how long a conversion, and training on its images, takes and what it costs."""
    from hemo.cluster.convert.plan import plan_conversion
    from hemo.cluster.session import connected
    from hemo.library.outputs import Estimate

    with connected(config.cluster):
        return Estimate(plan_conversion(config))


@job(ConvertConfig)
def convert(config: ConvertConfig) -> "Shards":
    """Convert DICOM files or pictures into shards; finished units are skipped."""
    from hemo.cluster.convert.job import convert_corpus
    from hemo.cluster.session import connected
    from hemo.library.shards import Shards

    with connected(config.cluster):
        return Shards(convert_corpus(config))


@job(CurateConfig)
def curate(config: CurateConfig) -> "TrainingSet":
    """Label, audit, split and balance shards into a training set."""
    from hemo.cluster.curate import curate_corpus
    from hemo.cluster.session import connected
    from hemo.library.training_set import TrainingSet

    with connected(config.cluster):
        return TrainingSet(curate_corpus(config))


@job(TrainConfig)
def train(config: TrainConfig) -> "Trial":
    """Train one model; a finished trial is not trained again, a killed one goes on."""
    from hemo.cluster.ray_train import train_model
    from hemo.library.trials import Trial

    return Trial(config.out, train_model(config))


@job(TuneConfig)
def tune(config: TuneConfig) -> "Trials":
    """Train the trials of a grid or a search; return its trials, those of a search with the best first."""
    from hemo.cluster.tuning.sweep import tune_models
    from hemo.library.trials import Trials
    from hemo.sweeps.objectives import ranked

    records = tune_models(config)
    return Trials(config.out, ranked(records, config.search) if config.search else records)


@job(PredictConfig)
def predict(config: PredictConfig) -> "Predictions":
    """Predict the classes of shards or of a raw corpus with a checkpoint."""
    from hemo.cluster.predict import predict_corpus
    from hemo.cluster.session import connected
    from hemo.library.outputs import Predictions

    with connected(config.cluster):
        return Predictions(predict_corpus(config))


@job(EmbedConfig)
def embed(config: EmbedConfig) -> "Embeddings":
    """Turn the images of shards or of a training set into vectors; finished units are skipped."""
    from hemo.cluster.embed import embed_images
    from hemo.cluster.session import connected
    from hemo.library.embeddings import Embeddings

    with connected(config.cluster):
        return Embeddings(embed_images(config))


@job(EvaluateConfig)
def evaluate(config: EvaluateConfig) -> "Evaluation":
    """Evaluate a checkpoint on labelled images of another place, as is and recalibrated."""
    from hemo.cluster.evaluate import evaluate_checkpoint
    from hemo.cluster.session import connected
    from hemo.library.evaluation import Evaluation

    with connected(config.cluster):
        return Evaluation(evaluate_checkpoint(config))


@job(ExplainConfig)
def explain(config: ExplainConfig) -> "Explanations":
    """Draw heat maps of images, or which slices decided on studies: those with the highest loss, or given ones."""
    from hemo.inference.explain import explain_cases
    from hemo.inference.explain_studies import explain_studies
    from hemo.library.outputs import Explanations
    from hemo.models.checkpoint import read_checkpoint_card
    from hemo.models.weight_files import find_checkpoint

    is_sequence = read_checkpoint_card(find_checkpoint(config.checkpoint)).embedded_by is not None
    (explain_studies if is_sequence else explain_cases)(config)
    return Explanations(config.out)


@job(ExportConfig)
def export(config: ExportConfig) -> "Export":
    """Export a checkpoint to ONNX, compare it with torch and measure its speed."""
    from hemo.cluster.export import export_checkpoint
    from hemo.library.outputs import Export

    export_checkpoint(config)
    return Export(config.out)


@job(ReportConfig)
def report(config: ReportConfig) -> "Report":
    """Write tables and a page from records, and a page of a data set."""
    from hemo.library.outputs import Report
    from hemo.reporting.build import write_report

    write_report(config)
    return Report(config.out)


@job(DocumentConfig)
def document(config: DocumentConfig) -> "Documents":
    """Write the model card and the study sheet of a trial from its record."""
    from hemo.library.outputs import Documents
    from hemo.reporting.documents.build import write_documents

    write_documents(config)
    return Documents(config.out)


@job(StatusConfig)
def status(config: StatusConfig) -> "Status":
    """Return how far the trials in a folder of records are; sweeps may be running."""
    from datetime import UTC, datetime

    from hemo.job_log import last_lines
    from hemo.library.outputs import Status
    from hemo.trials.status import read_status

    return Status(read_status(config.records, datetime.now(UTC)), last_lines(config.records, config.log_lines))


@job(WatchConfig)
def watch(config: WatchConfig) -> "Watch":
    """Serve the page of trials that follows their records, in threads of this process, until `close` is called."""
    from hemo.reporting.server import Watch

    return Watch(config)


@job(LeaksConfig)
def leaks(config: LeaksConfig) -> "Leaks":
    """Measure by how much leaky splits flatter a trial on these images, against patients that none of them met."""
    from hemo.cluster.leaks import measure_leaks
    from hemo.library.outputs import Leaks

    return Leaks(measure_leaks(config))


@job(DoctorConfig)
def doctor(config: DoctorConfig) -> "Checkup":
    """Examine each node of a cluster: versions, storage, GPUs, memory, disk, clock, ports and token."""
    from hemo.cluster.doctor import examine_cluster
    from hemo.cluster.session import connected
    from hemo.library.outputs import Checkup

    with connected(config.cluster):
        return Checkup(*examine_cluster(config))


@job(PipelineConfig)
def pipeline(config: PipelineConfig) -> "Report":
    """Run all stages, from corpus to report; those that are complete are skipped."""
    from hemo.cluster.pipeline import run_pipeline
    from hemo.library.outputs import Report

    run_pipeline(config)
    return Report(config.report.out)


@job(BackbonesConfig)
def backbones(config: BackbonesConfig) -> "Iterator[BackboneFacts]":
    """Yield size and smallest image side of backbones; `pandas.DataFrame(hemo.backbones())` is a table of them."""
    from hemo.models.catalogue import listed_backbones

    return listed_backbones(config.containing, config.channels)
