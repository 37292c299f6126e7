"""CPUs and GPUs of the cluster now, for settings that are `auto`. Ray does not report what it could grow to."""

import math
from collections.abc import Iterable

import ray

from hemo.cluster.session import starts_local_ray
from hemo.config.tune import TuneConfig, WorkersConfig
from hemo.config.types import ClusterConfig, Gpus
from hemo.errors import ConfigError

GPU_PARTS = 10_000
"""Ray counts resources in such parts, rounded: a fraction must be rounded down, or the last trial would not fit."""


def gpus_each(gpus: Gpus, flag: str) -> float:
    """Return the GPUs of one worker or model: as configured, or, for `auto`, one where the cluster has any.

    Args:
        gpus: As configured.
        flag: Where, such as `workers.gpus`.

    Raises:
        ConfigError: For `auto`, if no worker node is up yet: whether one with a GPU would come is unknown.
    """
    if gpus != "auto":
        return gpus
    present = _present()
    if not present.get("CPU"):
        raise ConfigError(
            f"{flag}: `auto` takes what the cluster has, and it has no CPU yet; where nodes start on demand, "
            f"give a number: --{flag} 1 (0 for none), and for `tune` --concurrent N"
        )
    return 1.0 if present.get("GPU") else 0.0


def gpus_per_worker(workers: WorkersConfig) -> float:
    """Return the GPUs of a worker, see `gpus_each`."""
    return gpus_each(workers.gpus, "workers.gpus")


def gpus_per_trial_worker(config: TuneConfig) -> float:
    """Return the GPUs of a worker of a sweep: as configured, or so that `concurrent` trials run side by side.

    For `auto` that is one GPU, or a fraction of one where the cluster has fewer than trials. Several workers of a
    trial never share a GPU: NCCL refuses that.
    """
    gpus = gpus_per_worker(config.workers)
    if config.workers.gpus != "auto" or config.workers.count > 1 or config.concurrent == "auto" or not gpus:
        return gpus
    trials_per_gpu = math.ceil(config.concurrent / _present()["GPU"])
    return math.floor(GPU_PARTS / trials_per_gpu) / GPU_PARTS


def trials_at_once(config: TuneConfig, gpus: float, count: int) -> int:
    """Return how many of `count` trials run side by side: as configured, or as many as the cluster holds now.

    Raises:
        ConfigError: For `auto`, if it does not hold one.
    """
    if config.concurrent != "auto":
        return min(config.concurrent, count)
    held = workers_held(config.workers, gpus) // config.workers.count
    if not held:
        needed = trial_needs(config.workers, gpus)
        raise ConfigError(
            f"concurrent: `auto` counts what the cluster holds, and it does not hold one trial now (a trial takes "
            f"{in_words(needed)}, each worker on one node; the cluster has {present_in_words(needed)}); "
            "where it grows by itself, give --workers.gpus 1 --concurrent N; else give smaller workers"
        )
    return min(count, held)


def workers_held(workers: WorkersConfig, gpus: float) -> int:
    """Return how many workers the nodes hold now, each of which has all its CPUs and GPUs on one node."""
    needed = trial_needs(workers.model_copy(update={"count": 1}), gpus)
    return sum(min(int(node.get(kind, 0.0) / amount) for kind, amount in needed.items()) for node in _nodes())


def trial_needs(workers: WorkersConfig, gpus: float) -> dict[str, float]:
    """Return what all workers of one trial need: resource -> amount."""
    return {"CPU": workers.count * workers.cpus, **({"GPU": workers.count * gpus} if gpus else {})}


def in_words(resources: dict[str, float]) -> str:
    """Return `1 CPU, 0.5 GPU`."""
    return ", ".join(f"{amount:g} {kind}" for kind, amount in resources.items())


def present_in_words(kinds: Iterable[str]) -> str:
    """Return what the cluster has now of some resources: `16 CPU, 4 GPU on 4 nodes`."""
    nodes = sum(bool(node.get("CPU")) for node in _nodes())
    present = _present()
    return in_words({kind: present.get(kind, 0.0) for kind in kinds}) + (f" on {nodes} nodes" if nodes > 1 else "")


def plan_in_words(config: TuneConfig, count: int) -> str:
    """Return in words how many of `count` trials run side by side, on what each, and what the cluster has for that now.

    Raises:
        ConfigError: If `auto` has nothing to count, or see `require_capacity`.
    """
    gpus = gpus_per_trial_worker(config)
    concurrent, needed = trials_at_once(config, gpus, count), trial_needs(config.workers, gpus)
    require_capacity(config.cluster, needed)
    held = workers_held(config.workers, gpus) // config.workers.count
    waiting = (
        f"; the cluster has {present_in_words(needed)} now, where {held} fit: the others wait until it grows"
        if held < concurrent
        else ""
    )
    return f"{concurrent} at once, each on {in_words(needed)}{waiting}"


def require_capacity(
    cluster: ClusterConfig,
    needed: dict[str, float],
    what: str = "workers: a trial",
    cure: str = "give --workers.gpus 0, or fewer and smaller workers",
) -> dict[str, float]:
    """Refuse what would wait for ever: it needs more than this machine has, and Ray has this machine alone.

    Args:
        cluster: Where it runs.
        needed: Of a trial with all its workers, see `trial_needs`, or of a model that predicts.
        what: Which of the two, for the error, after the section or flag that is at fault.
        cure: What to give instead.

    Returns:
        What the cluster has now of what is needed; a cluster of other machines may grow.

    Raises:
        ConfigError: With both.
    """
    present = _present()
    available = {kind: present.get(kind, 0.0) for kind in needed}
    if starts_local_ray(cluster) and any(available[kind] < amount for kind, amount in needed.items()):
        raise ConfigError(
            f"{what} takes {in_words(needed)}, this machine has {in_words(available)} and cannot grow; {cure}"
        )
    return available


def _present() -> dict[str, float]:
    """Return what all nodes have together."""
    nodes = _nodes()
    return {kind: sum(node.get(kind, 0.0) for node in nodes) for kind in {kind for node in nodes for kind in node}}


def _nodes() -> list[dict[str, float]]:
    """Return what each node has."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
