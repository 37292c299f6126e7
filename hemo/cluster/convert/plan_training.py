"""Hours and cost of what follows a conversion: training on its images, their embeddings, a sequence model on these.

Rates are measured on made-up examples, on the cluster as it is now; hours follow by arithmetic. torch is imported where
trials are checked and timed: tasks of the conversion load this module, and their start is measured too.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import ray
from rich.box import SIMPLE_HEAD
from rich.table import Table

from hemo.cluster.convert.estimate import SECONDS_AN_HOUR, Cluster, Estimate, MeasuredSpeeds, duration_text
from hemo.config.convert import PlanConfig
from hemo.config.load import read_yaml
from hemo.config.trial import TrialConfig
from hemo.config.tune import TrainConfig, title
from hemo.config.types import Gpus
from hemo.config.validation import validated
from hemo.console import print_line
from hemo.errors import ConfigError
from hemo.imaging.settings import ImageSettings

if TYPE_CHECKING:
    from hemo.training.distributed import Worker
    from hemo.trials.speed import TrainingSpeed

NO_CPU = (
    "cluster: it has no CPU yet, so nothing can be measured; start a node of the kind to plan for, such as by "
    "`python -m ray_jobs.doctor --cpus 16`, for training with `--gpus 1`, and plan before it is idle for too long"
)

ASSUMED = (
    "training, embedding and the sequence model scale linearly with the nodes, each with the device that was timed, "
    "whatever its number of CPUs; exchanging gradients, and steps divided among more workers, were not timed",
    "a step takes as long on images of the corpus as on the made-up ones; images are read in each epoch, at most as "
    "fast as the source was read here, and all nodes together at most at --storage_mb_per_s",
    "all epochs are run, without early stopping, and every file becomes a labelled image; curating, starting workers "
    "and decoding for embeddings are not in the hours",
)


@dataclass(frozen=True)
class PlannedTraining:
    """The configs of `train` that are planned."""

    images: TrainConfig
    series: TrainConfig | None


@dataclass(frozen=True)
class Device:
    """What a node of the plan trains with."""

    workers_a_node: int
    cpus: int  # of a worker
    gpus: int  # of a worker: 0 or 1


@dataclass(frozen=True)
class Work:
    """Examples that pass a model in one way."""

    examples: int  # in all
    per_s: float  # on one node


@dataclass(frozen=True)
class Step:
    """A step after the conversion, and how fast a node was measured to be."""

    name: str  # `train`, `embed` or `series`
    title: str  # of the trial
    work: dict[str, Work]  # `trained`, `evaluated` or `embedded`
    example_bytes: float  # read for each; 0: they are in memory
    hardware: str  # of one worker
    timed: str  # on what


@dataclass(frozen=True)
class StepEstimate:
    """Time and cost of a step on a cluster."""

    nodes: int
    step: str
    hours: float
    node_hours: float
    cost: float | None  # in the currency of the price; None without one
    bound: str  # of most of the time


def read_trials(config: PlanConfig, settings: ImageSettings) -> PlannedTraining | None:
    """Read the configs of `train` that a plan names; None if it names none.

    Raises:
        ConfigError: If one is missing or wrong, is of the other kind, or its model does not take the planned images.
    """
    if not config.train:
        return None
    from hemo.training.option_checks import check_models

    images = _read_trial(config.train, "train")
    if images.trial.model.is_sequence:
        raise ConfigError(
            f"--train {config.train} trains {images.trial.model.backbone}: give it as --series, and a model "
            "of images as --train"
        )
    series = _read_trial(config.series, "series") if config.series else None
    if series and not series.trial.model.is_sequence:
        raise ConfigError(
            f"--series {config.series} trains {series.trial.model.backbone}, which takes images; give a "
            "config with a backbone such as BiGRU(256,256)"
        )
    if series and settings.media != "dicom":
        raise ConfigError(f"--series {config.series}: pictures have no series; leave it out")
    trials = {config.train: images.trial, **({config.series: series.trial} if series else {})}
    without = {
        file: trial.model_copy(update={"model": trial.model.model_copy(update={"weights": "none"})})
        for file, trial in trials.items()
    }
    check_models(without, len(settings.channels), (settings.side_px, settings.side_px))
    return PlannedTraining(images, series)


def _read_trial(file: str, flag: str) -> TrainConfig:
    return validated(TrainConfig, read_yaml(file, flag), origin=file)


def device_of(gpus: Gpus, nodes: Sequence[dict[str, Any]]) -> Device:
    """Return what a node trains with: each of its GPUs, unless the trial wants none or there is none; else all CPUs.

    Args:
        gpus: Of a worker, as the trial configures them.
        nodes: Of the cluster, as `ray.nodes` describes them.

    Raises:
        ConfigError: If the cluster has no CPU yet.
    """
    resources = [node["Resources"] for node in nodes if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
    if not resources:
        raise ConfigError(NO_CPU)
    most = max(int(each.get("GPU", 0)) for each in resources)
    if most and gpus != 0:
        return Device(workers_a_node=most, cpus=1, gpus=1)
    return Device(workers_a_node=1, cpus=min(int(each["CPU"]) for each in resources), gpus=0)


@dataclass(frozen=True)
class Speeds:
    """What was measured of the trials."""

    images: "TrainingSpeed"
    embedded_per_s: float
    image_workers: int  # a node
    series: "TrainingSpeed | None"
    series_workers: int


def measure(config: PlanConfig, trials: PlannedTraining, settings: ImageSettings) -> Speeds:
    """Time the trials, one after the other, each on one device of the cluster.

    Raises:
        ConfigError: If the cluster has no CPU yet, or a step does not fit into memory.
        TrialError: If a loss becomes NaN or infinite.
    """
    from hemo.trials.speed import sequence_speed, slice_speed

    shape = (len(settings.channels), settings.side_px, settings.side_px)
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    device = device_of(trials.images.workers.gpus, nodes)
    if not device.gpus and trials.images.workers.gpus not in (0, "auto"):
        print_line(
            f"plan: {config.train} trains on GPUs, and the cluster has none now: training is timed on CPUs; "
            "`python -m ray_jobs.doctor --gpus 1` starts a node with one"
        )
    options = {"shape": shape, "enough_s": config.timed_s}
    timed = _on(device, slice_speed).remote(trials.images.trial, worker=_worker(device), **options)
    images, embedded_per_s = ray.get(timed)
    if trials.series is None:
        return Speeds(images, embedded_per_s, device.workers_a_node, None, 0)
    other = device_of(trials.series.workers.gpus, nodes)
    options |= {"slices_per_study": config.slices_per_study, "worker": _worker(other)}
    series = ray.get(_on(other, sequence_speed).remote(trials.series.trial, trials.images.trial, **options))
    return Speeds(images, embedded_per_s, device.workers_a_node, series, other.workers_a_node)


def _worker(device: Device) -> "Worker":
    from hemo.training.distributed import Worker

    return Worker(device="cuda" if device.gpus else "cpu", threads=device.cpus)


def _on(device: Device, work: Any) -> Any:
    """Return a function as a task on a device; a failure would only come again."""
    return ray.remote(num_cpus=device.cpus, num_gpus=device.gpus, max_retries=0)(work)


def steps_of(
    config: PlanConfig, trials: PlannedTraining, speeds: Speeds, *, images: int, image_bytes: float
) -> tuple[Step, ...]:
    """Return the steps after the conversion.

    Args:
        config: Of the plan.
        trials: What is trained.
        speeds: As measured, of one worker.
        images: All that are converted.
        image_bytes: Of a stored image.
    """
    own, workers = speeds.images, speeds.image_workers
    train = _step("train", trials.images.trial, own, workers, passes(config, trials.images.trial, images), image_bytes)
    embedded = {"embedded": Work(images, workers * speeds.embedded_per_s)}
    embed = Step("embed", train.title, embedded, image_bytes, own.hardware, "made-up images")
    if trials.series is None or speeds.series is None:
        return train, embed
    trial = trials.series.trial
    return train, embed, _step("series", trial, speeds.series, speeds.series_workers, passes(config, trial, images), 0)


def _step(
    name: str, trial: TrialConfig, speed: "TrainingSpeed", workers: int, counts: tuple[int, int], example_bytes: float
) -> Step:
    work = {
        "trained": Work(counts[0], workers * speed.trained_per_s),
        "evaluated": Work(counts[1], workers * speed.evaluated_per_s),
    }
    examples = "studies" if trial.model.is_sequence else "images"
    timed = f"an epoch of {speed.examples:,} made-up {examples} in steps of {speed.batch_size:,}, {speed.epoch_s:.1f} s"
    return Step(name, title(trial), work, example_bytes, speed.hardware, timed)


def passes(config: PlanConfig, trial: TrialConfig, images: int) -> tuple[int, int]:
    """Return how many images a trial trains on in all its epochs, and how many it evaluates.

    Train and validation are evaluated before the first epoch, validation after each, and every split in the end; the
    studies of validation and test once more.
    """
    val, test = round(images * config.val_fraction), round(images * config.test_fraction)
    train, epochs = images - val - test, trial.training.epochs
    of_studies = val + test if trial.model.is_sequence and trial.model.series.labels == "slice" else 0
    return epochs * train, (train + val) + epochs * val + images + of_studies


def step_estimate(step: Step, here: MeasuredSpeeds, cluster: Cluster) -> StepEstimate:
    """Estimate a step on a cluster: each kind of work at the rate of its narrowest bound, one after the other."""
    limits = {}
    if step.example_bytes:
        limits["read"] = cluster.nodes * here.read_bytes_per_s / here.nodes / step.example_bytes
        limits["shared storage"] = cluster.storage_bytes_per_s / step.example_bytes
    seconds: dict[str, float] = {}
    for work in step.work.values():
        rates = {"compute": cluster.nodes * work.per_s, **limits}
        bound = min(rates, key=lambda name: rates[name])
        seconds[bound] = seconds.get(bound, 0.0) + work.examples / rates[bound]
    hours = math.fsum(seconds.values()) / SECONDS_AN_HOUR
    price = cluster.price_per_node_hour
    return StepEstimate(
        nodes=cluster.nodes,
        step=step.name,
        hours=hours,
        node_hours=cluster.nodes * hours,
        cost=None if price is None else price * cluster.nodes * hours,
        bound=max(seconds, key=lambda name: seconds[name]),
    )


def all_steps(
    conversion: Estimate, steps: Sequence[Step], here: MeasuredSpeeds, cluster: Cluster
) -> list[StepEstimate]:
    """Return the conversion and what follows it on a cluster, in order."""
    first = StepEstimate(
        conversion.nodes, "convert", conversion.hours, conversion.node_hours, conversion.cost, conversion.bound
    )
    return [first, *(step_estimate(step, here, cluster) for step in steps)]


def step_lines(steps: Sequence[Step]) -> list[str]:
    """Return what was measured, a line a step."""
    return [
        f"{step.name}, {step.title}: a node "
        + ", ".join(f"{name} {_rate(work.per_s)}/s ({work.examples:,} in all)" for name, work in step.work.items())
        + f"; measured on {step.hardware}, {step.timed}"
        for step in steps
    ]


def _rate(per_s: float) -> str:
    return f"{per_s:,.0f}" if per_s >= 100 else f"{per_s:.3g}"


def path_table(rows: Sequence[Sequence[StepEstimate]]) -> Table:
    """Return the time of each step and the cost of all by number of nodes, for a terminal of 80 columns.

    Args:
        rows: Of each cluster the steps, as `all_steps` returns them.
    """
    title = "the whole path, step after step; cost (your currency)"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for heading in ("nodes", *(estimate.step for estimate in rows[0]), "all", "cost"):
        table.add_column(heading, justify="right", no_wrap=True)
    for steps in rows:
        costs = [step.cost for step in steps if step.cost is not None]
        table.add_row(
            f"{steps[0].nodes}",
            *(duration_text(step.hours) + ("*" if step.bound in ("read", "shared storage") else "") for step in steps),
            duration_text(math.fsum(step.hours for step in steps)),
            f"{math.fsum(costs):,.2f}" if costs else "unknown",
        )
    table.caption = "*: bound by reading"
    return table


def as_json(steps: Sequence[Step], rows: Sequence[Sequence[StepEstimate]]) -> dict[str, Any]:
    """Return what `plan.json` has of the steps: what was measured, and a row a step and cluster."""
    return {"measured": [asdict(step) for step in steps], "steps": [asdict(row) for path in rows for row in path]}
