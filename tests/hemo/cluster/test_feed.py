"""A training set that all trials share, resident or streamed."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import ray

from hemo.cluster import feed
from hemo.cluster.feed import get_training_set, put_training_set, stored_bytes
from hemo.curation.card import read_card
from hemo.errors import HemoError, SourceError
from hemo.training.data.dataset import read_training_set
from hemo.training.data.streaming import StreamedImages


@pytest.mark.usefixtures("ray_cluster")
def test_what_comes_out_is_what_was_read_without_a_copy(make_training_set: Callable[..., str]) -> None:
    folder = make_training_set(channels=("brain", "bone"))
    shared = put_training_set(folder, "auto")
    found, again, read = get_training_set(shared), get_training_set(shared), read_training_set(folder)
    np.testing.assert_array_equal(found.train.images.pixels, read.train.images.pixels)
    np.testing.assert_array_equal(found.test.patient, read.test.patient)
    assert found.card == read.card
    assert not found.train.images.pixels.flags.writeable
    assert np.shares_memory(found.train.images.pixels, again.train.images.pixels)


@pytest.mark.usefixtures("ray_cluster")
def test_a_split_whose_node_is_gone_is_read_again_without_a_cpu(
    make_training_set: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Ray's own task that would make it again waits for a CPU, as trials hold all of them."""
    folder = make_training_set()
    shared, read = put_training_set(folder, "auto"), read_training_set(folder)

    @ray.remote(num_cpus=2)
    def trials(started: Path) -> None:
        started.touch()
        time.sleep(60)

    @ray.remote(num_cpus=1)
    def read_again() -> None: ...

    busy = trials.remote(tmp_path / "started")
    while not (tmp_path / "started").exists():
        time.sleep(0.05)
    waiting = read_again.remote()
    monkeypatch.setattr(feed, "LOST_AFTER_S", 1.0)
    found = get_training_set(replace(shared, val=waiting))
    np.testing.assert_array_equal(found.val.labels, read.val.labels)
    np.testing.assert_array_equal(found.train.images.pixels, read.train.images.pixels)
    assert ray.wait([busy, waiting], timeout=0)[0] == []  # the CPUs were taken all the time
    for task in (waiting, busy):
        ray.cancel(task, force=True)


def test_stored_bytes_by_hand(make_training_set: Callable[..., str]) -> None:
    assert stored_bytes(read_card(make_training_set(channels=("brain", "bone")))) == (48 + 16 + 16) * 2 * 16 * 16


@pytest.mark.usefixtures("ray_cluster")
def test_a_streamed_set_leaves_its_images_where_they_are(make_training_set: Callable[..., str]) -> None:
    folder = make_training_set()
    found, read = get_training_set(put_training_set(folder, "streaming")), read_training_set(folder)
    assert isinstance(found.train.images, StreamedImages)
    assert found.train.images.shape == read.train.images.shape
    np.testing.assert_array_equal(found.val.labels, read.val.labels)
    rows = np.array([40, 2, 2])
    np.testing.assert_array_equal(next(found.train.images.batches([rows])), read.train.images.pixels[rows])


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize(
    ("store_bytes", "kind", "reported"), [(25_600, "Resident", "resident"), (25_599, "Streamed", "streaming")]
)
def test_auto_keeps_what_fits_and_reports_it(
    make_training_set: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    store_bytes: int,
    kind: str,
    reported: str,
) -> None:
    """20,480 bytes of images are four fifths of 25,600."""
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": {"object_store_memory": store_bytes}}])
    train = get_training_set(put_training_set(make_training_set(), "auto")).train
    assert type(train.images).__name__ == f"{kind}Images"
    printed = capsys.readouterr().err
    assert f"feed: {reported} (" in printed
    assert "takes 20.5 kB, the largest object store of Ray's nodes has 25.6 kB)" in printed


def test_a_set_larger_than_any_store_is_refused(
    make_training_set: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The 20,480 bytes of images are one too many."""
    small = {"Alive": True, "Resources": {"object_store_memory": 20_479.0}}
    gone = {"Alive": False, "Resources": {"object_store_memory": 1e12}}
    monkeypatch.setattr(ray, "nodes", lambda: [small, gone])
    with pytest.raises(
        HemoError, match="start Ray with a larger --object-store-memory, give --feed streaming, or curate"
    ):
        put_training_set(make_training_set(), "resident")


@pytest.mark.usefixtures("ray_cluster")
def test_a_damaged_part_is_refused_in_a_line_before_any_trial(make_training_set: Callable[..., str]) -> None:
    folder = make_training_set()
    part = Path(folder, "val", "part-00000.parquet")
    part.write_bytes(part.read_bytes()[:-20])
    with pytest.raises(SourceError) as raised:
        put_training_set(folder, "resident")
    assert str(raised.value) == f"{part} is damaged; remove the training set and run `hemo curate` again"
