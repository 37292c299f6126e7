"""Fixtures of the whole suite."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.records import make_record  # noqa: F401 (a fixture of several packages)
from tests.training_sets import make_training_set, tiny_trial  # noqa: F401 (fixtures of several packages)

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real DICOM, labels and X-rays beside the checkout; where it is missing, tests that need it skip."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the real data folder is not on this machine")
    return SHARED_DATA


@pytest.fixture(scope="session")
def ray_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One local Ray with two CPUs for the whole session, in its own directory."""
    from hemo.cluster.session import connected
    from hemo.config.types import ClusterConfig

    os.environ["WANDB_MODE"] = "offline"  # workers inherit it: a developer's key is not used
    with connected(ClusterConfig(address="local", cpus=2, temp_dir=str(tmp_path_factory.mktemp("ray")))):
        yield


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
