"""One Ray connection a job."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray

from hemo.config.cluster import ClusterConfig
from hemo.errors import HemoError


@contextmanager
def connected(config: ClusterConfig) -> Iterator[None]:
    """Connect to the cluster, or start a local one, for the length of a job; inside another job's connection do nothing.

    Raises:
        HemoError: If the cluster cannot be reached.
    """
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    address = os.environ.get("RAY_ADDRESS", "local") if config.address == "auto" else config.address
    try:
        if address == "local":
            _start_local(config)
        else:
            ray.init(address=address, logging_level="warning", log_to_driver=False)
    except (ConnectionError, RuntimeError) as error:
        raise HemoError(f"cannot connect to Ray at {address}: {error}; `ray status` shows whether it runs") from error
    try:
        yield
    finally:
        ray.shutdown()


def _start_local(config: ClusterConfig) -> None:
    cpus = os.cpu_count() if config.cpus == "all" else config.cpus
    ray.init(address="local", num_cpus=cpus, include_dashboard=True, _temp_dir=config.temp_dir, logging_level="warning", log_to_driver=False)
    token = Path(os.environ.get("RAY_AUTH_TOKEN_PATH", "~/.ray/auth_token")).expanduser()
    if token.exists():
        token.chmod(0o600)  # Ray writes it readable by everyone
