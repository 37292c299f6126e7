"""Connect a job to a Ray cluster, or start a local one."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import grpc
import joblib
import ray
import ray.data  # its import sets up the logger that _quiet configures
from ray.exceptions import AuthenticationError

from hemo.cluster.events import report_in_short, reported_nodes
from hemo.cluster.ray_data import LOST_WORKERS
from hemo.config.types import ClusterConfig
from hemo.errors import ConfigError, HemoError
from hemo.interrupts import interruptible, raise_on_signals

CONNECT_TIMEOUT_S = 3.0
"""Of a connection to a head node, and of its reply; Ray itself tries for minutes."""

HEALTH_CHECK = "/grpc.health.v1.Health/Check"
"""The call of gRPC's health checking protocol, to which a head node replies, with or without a token."""

SERVING = b"\x08\x01"
"""The reply of a server that works: field 1, status, is 1."""

CHATTER = (
    "ray._private.authentication.authentication_token_setup",  # announces that the token, our default, is on
    "ray.tune.utils.util",  # warns of steps above half a second, such as waiting for a record
)


@contextmanager
def connected(config: ClusterConfig) -> Iterator[None]:
    """Connect to the cluster, or start a local one, for the length of a job; inside another connection do nothing.

    Meanwhile SIGINT and SIGTERM raise KeyboardInterrupt, see `interruptible`.

    Raises:
        HemoError: If the cluster cannot be reached.
        ConfigError: If a local cluster cannot keep its session files in `temp_dir`, or Ray's token is missing, wrong,
            or cannot be written.
    """
    if ray.is_initialized():
        yield
        return
    with interruptible():
        try:
            connect(config)
        except SystemExit as error:  # Ray's own reaction to SIGTERM while it starts
            raise KeyboardInterrupt from error
        raise_on_signals()  # again: Ray has set its own for SIGTERM
        try:
            with nullcontext() if starts_local_ray(config) else reported_nodes():
                yield
        finally:
            ray.shutdown()


def connect(config: ClusterConfig) -> None:
    """Connect to the cluster, or start a local one, and stay connected; raises what `connected` raises."""
    if ray.is_initialized():
        return
    _quiet()
    report_in_short()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("RAY_task_oom_retries", str(LOST_WORKERS))
    address = _address(config)
    try:
        if address == "local":
            _start_local(config)
        else:
            _connect(address)
    except AuthenticationError as error:
        raise ConfigError(f"Ray's token: {' '.join(str(error).split())}") from error
    # an error raised on purpose in a map task reaches the driver as itself
    ray.data.DataContext.get_current().raise_original_map_exception = True


def starts_local_ray(config: ClusterConfig) -> bool:
    """Return whether a job starts a local Ray, which has the CPUs and GPUs of this machine and never more."""
    return _address(config) == "local"


def _address(config: ClusterConfig) -> str:
    return os.environ.get("RAY_ADDRESS", "local") if config.address == "auto" else config.address


def _quiet() -> None:
    """Keep Ray Data's log lines out of the terminal: hemo shows progress and errors; Ray's log files keep all."""
    for name in CHATTER:
        logging.getLogger(name).setLevel(logging.ERROR)
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setLevel(logging.CRITICAL)


def _connect(address: str) -> None:
    try:
        _require_head_node(address)
        ray.init(address=address, logging_level=logging.WARNING, log_to_driver=False)
    except (OSError, RuntimeError, ValueError) as error:
        raise HemoError(
            f"cannot connect to Ray at {address}: {' '.join(str(error).split())}; `ray status` on its head node shows "
            "whether it runs; --cluster.address local starts Ray here, whatever RAY_ADDRESS is"
        ) from error


def _require_head_node(address: str) -> None:
    """Refuse a `host:port` where no head node replies; other forms of an address are Ray's to resolve.

    Raises:
        OSError: If nothing listens there, or what listens is something else.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit() or "/" in host:
        return
    socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_TIMEOUT_S).close()
    if address.startswith("ray://") or os.environ.get("RAY_USE_TLS", "0") not in ("", "0"):
        return  # Ray Client has no health check, and with TLS a check needs certificates
    with grpc.insecure_channel(f"{host}:{port}", options=[("grpc.enable_http_proxy", 0)]) as channel:
        check = channel.unary_unary(HEALTH_CHECK, request_serializer=None, response_deserializer=None)
        try:
            reply = check(b"", timeout=CONNECT_TIMEOUT_S)
        except grpc.RpcError as error:
            raise ConnectionError(f"what listens there does not reply as a head node ({error.code().name})") from error
    if reply != SERVING:
        raise ConnectionError("the head node replies that it does not serve")


def _start_local(config: ClusterConfig) -> None:
    cpus = joblib.cpu_count() if config.cpus == "all" else config.cpus
    # glibc keeps a heap for each of a worker's many threads, and frees little of them; cluster.yaml sets the same
    os.environ.setdefault("MALLOC_ARENA_MAX", "2")
    try:
        ray.init(
            address="local",
            num_cpus=cpus,
            include_dashboard=True,  # the state API, without which stopped trials keep their CPUs
            _temp_dir=config.temp_dir,
            logging_level=logging.WARNING,
            log_to_driver=False,
        )
    except OSError as error:  # no write access, or a path too long for a socket
        token = Path("~/.ray/auth_token").expanduser()
        if error.filename and Path(error.filename) in (token, *token.parents):
            raise ConfigError(
                f"Ray cannot write its token: {error}; set HOME to a folder you may write to, or "
                "RAY_AUTH_TOKEN_PATH to a file with a token"
            ) from error
        raise ConfigError(
            f"cluster.temp_dir: {config.temp_dir}: {error}; give a short path you may write to"
        ) from error
    except Exception as error:
        if type(error) is not Exception:  # so Ray says that a process of its own did not start in time
            raise
        raise HemoError(f"Ray did not start: {error} Run the same command again, with less beside it") from error
    token = Path(os.environ.get("RAY_AUTH_TOKEN_PATH", "~/.ray/auth_token")).expanduser()
    if token.exists():
        token.chmod(0o600)  # Ray writes it readable by everyone
