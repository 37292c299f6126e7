"""Fixtures of the whole suite, and the markers that follow from them.

Imports neither torch nor Ray: with pytest-xdist a process that runs no test loads this file as well.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.records import make_record  # noqa: F401 (a fixture of several packages)
from tests.series_sets import make_series_set  # noqa: F401 (a fixture of several packages)
from tests.training_sets import make_training_set, tiny_trial  # noqa: F401 (fixtures of several packages)

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"
NO_SHARED_DATA = "the folder of real data is not on this machine"


@pytest.hookimpl(tryfirst=True)  # before tests are deselected by marker
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by the fixtures they use, and begin with the files that take longest, so that workers end together.

    These are files with tests that are given more time than others, the longest first, then the others that use Ray.
    """
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if "make_ray_folder" in fixtures:
            item.add_marker("slow")
        if fixtures & {"ray_cluster", "make_ray_folder"}:
            item.add_marker("ray")
    with_ray = {item.path for item in items if item.get_closest_marker("ray")}
    longest_s: dict[Path, float] = {}
    for item in items:
        timeout = item.get_closest_marker("timeout")
        longest_s[item.path] = max(longest_s.get(item.path, 0.0), float(timeout.args[0]) if timeout else 0.0)
    items.sort(key=lambda item: (-longest_s[item.path], item.path not in with_ray))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """State how many tests were skipped for want of real data."""
    skipped = [report for report in terminalreporter.stats.get("skipped", []) if NO_SHARED_DATA in str(report.longrepr)]
    terminalreporter.write_line(f"skipped because ../shared/data does not exist: {len(skipped)} tests")


@pytest.fixture(autouse=True, scope="session")
def environment() -> None:
    """Set what the processes that tests start inherit."""
    os.environ["WANDB_MODE"] = "offline"  # whatever key a developer has
    os.environ["OMP_NUM_THREADS"] = "1"  # on several threads small models wait longer than they compute
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 (by default 15: hardly any time beside tests that compute)
    os.environ["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] = "0.2"  # by default 2
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real DICOM, labels and X-rays beside the checkout; where it is missing, tests that need it skip."""
    if not SHARED_DATA.is_dir():
        pytest.skip(NO_SHARED_DATA)
    return SHARED_DATA


@pytest.fixture(scope="session")
def ray_cluster(environment: None) -> Iterator[None]:
    """One local Ray with two CPUs for all tests of this process, in its own directory."""
    from hemo.cluster.session import connected
    from hemo.config.types import ClusterConfig

    with short_folder() as folder, connected(ClusterConfig(address="local", cpus=2, temp_dir=str(folder))):
        yield


@pytest.fixture(scope="session")
def make_ray_folder() -> Iterator[Callable[[], Path]]:
    """Make a directory for a cluster that a test starts for itself; such a test is a slow one."""
    with ExitStack() as folders:
        yield lambda: folders.enter_context(short_folder())


@contextmanager
def short_folder() -> Iterator[Path]:
    """Make a directory whose path is short enough for Ray's sockets, as pytest's own are not with pytest-xdist."""
    folder = Path(tempfile.mkdtemp(prefix="hemo-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # a process that ends late may still write there


@pytest.fixture(scope="session")
def processes_in() -> Callable[[Path], list[int]]:
    """Return the other processes with open files below a directory: Ray's do not show it in title or environment."""

    def holds_a_file_below(process: Path, folder: Path) -> bool:
        try:
            return any(folder in descriptor.readlink().parents for descriptor in (process / "fd").iterdir())
        except OSError:  # it ended meanwhile, or is another user's
            return False

    def find(folder: Path) -> list[int]:
        others = [entry for entry in Path("/proc").iterdir() if entry.name.isdigit() and entry.name != str(os.getpid())]
        return [int(process.name) for process in others if holds_a_file_below(process, folder)]

    return find
