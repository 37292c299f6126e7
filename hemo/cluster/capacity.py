"""What the cluster has now, for whatever is told `auto`. What it could grow to, Ray does not say."""

import math

import ray

from hemo.cluster.session import is_local
from hemo.config.tune import TuneConfig, WorkersConfig
from hemo.errors import ConfigError

GPU_PARTS = 10_000
"""Ray counts resources in such parts, rounded: a share must be rounded down, or the last trial would not fit."""


def gpus_per_worker(workers: WorkersConfig) -> float:
    """Return GPUs a worker gets: as told, or, for `auto`, one where the cluster has any.

    Raises:
        ConfigError: For `auto`, if no worker node is up yet: whether one with a GPU would come cannot be told.
    """
    if workers.gpus != "auto":
        return workers.gpus
    present = _present()
    if not present.get("CPU"):
        raise ConfigError(
            "workers.gpus: `auto` takes what the cluster has, and it has no CPU yet; where workers come when they are "
            "asked for, ask: --workers.gpus 1 (0 for none), and for `tune` --concurrent N"
        )
    return 1.0 if present.get("GPU") else 0.0


def gpus_per_trial_worker(config: TuneConfig) -> float:
    """Return GPUs a worker of a sweep's trials gets: as told, or what lets `concurrent` trials run at once.

    For `auto` that is one GPU, or a share of one where the cluster has fewer than trials. Several workers of a trial
    never share a GPU: they could not talk to each other.
    """
    gpus = gpus_per_worker(config.workers)
    if config.workers.gpus != "auto" or config.workers.count > 1 or config.concurrent == "auto" or not gpus:
        return gpus
    sharing = math.ceil(config.concurrent / _present()["GPU"])
    return math.floor(GPU_PARTS / sharing) / GPU_PARTS


def trials_at_once(config: TuneConfig, gpus: float, count: int) -> int:
    """Return how many of `count` trials run side by side: as told, or as many as the cluster holds now.

    Raises:
        ConfigError: For `auto`, if it does not hold one.
    """
    if config.concurrent != "auto":
        return min(config.concurrent, count)
    present, wanted = _present(), trial_needs(config.workers, gpus)
    held = min(int(present.get(kind, 0.0) / amount) for kind, amount in wanted.items())
    if not held:
        raise ConfigError(
            f"concurrent: `auto` counts what the cluster holds, and it does not hold one trial now (a trial takes "
            f"{in_words(wanted)}; the cluster has {in_words({kind: present.get(kind, 0.0) for kind in wanted})}); "
            "where it grows by itself, give --workers.gpus 1 --concurrent N; else give smaller workers"
        )
    return min(count, held)


def trial_needs(workers: WorkersConfig, gpus: float) -> dict[str, float]:
    """Return what all workers of one trial take: resource -> amount."""
    return {"CPU": workers.count * workers.cpus, **({"GPU": workers.count * gpus} if gpus else {})}


def in_words(resources: dict[str, float]) -> str:
    """Return `1 CPU, 0.5 GPU`."""
    return ", ".join(f"{amount:g} {kind}" for kind, amount in resources.items())


def plan_in_words(config: TuneConfig, count: int) -> str:
    """Return how many of `count` trials run at once, on what each, and what the cluster has for that now.

    Raises:
        ConfigError: If `auto` has nothing to count.
    """
    gpus = gpus_per_trial_worker(config)
    at_once, wanted, present = trials_at_once(config, gpus, count), trial_needs(config.workers, gpus), _present()
    there = {kind: present.get(kind, 0.0) for kind in wanted}
    short = any(there[kind] < at_once * amount for kind, amount in wanted.items())
    if is_local(config.cluster) and any(there[kind] < amount for kind, amount in wanted.items()):
        raise ConfigError(
            f"workers: a trial takes {in_words(wanted)}, this machine has {in_words(there)} and cannot grow; "
            "give --workers.gpus 0, or fewer and smaller workers"
        )
    waiting = f"; the cluster has {in_words(there)} now: what does not fit waits until it grows" if short else ""
    return f"{at_once} at once, each on {in_words(wanted)}{waiting}"


def _present() -> dict[str, float]:
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return resources
