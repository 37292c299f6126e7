"""Images read while they are needed."""

import time
import weakref
from collections.abc import Callable
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch

from hemo.config.trial import AugmentConfig, TrialConfig
from hemo.curation.card import read_card
from hemo.errors import SourceError
from hemo.models.classifier import Normalisation
from hemo.training.data import streaming as streamed
from hemo.training.data.dataset import read_split, read_training_set, select_splits
from hemo.training.data.examples import ImageSet
from hemo.training.data.loader import DataWaitTime, TrainingBatches
from hemo.training.data.sampling import epoch_rows
from hemo.training.data.streaming import plan_visits
from hemo.training.distributed import Worker
from hemo.training.loop import fit
from hemo.training.reporting import run_to_end
from tests.s3 import s3_environment  # noqa: F401 (a fixture)

Maker = Callable[..., str]
ROWS = {"train": 160, "val": 16, "test": 16}  # train: 20 blocks of 8


def _train(folder: str) -> ImageSet:
    return read_split(folder, "train", read_card(folder), streaming=True)


def _in_order(images: int = 160, at_once: int = 8) -> list[np.ndarray]:
    return np.array_split(np.arange(images), images // at_once)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_streamed_batches_are_those_of_memory(make_training_set: Maker, workers: int, alpha: float) -> None:
    folder = make_training_set(rows=ROWS, channels=("brain", "bone"), label=lambda n, _: None if n % 7 == 3 else n % 2)
    batches = []
    for streaming in (False, True):
        train = select_splits(read_training_set(folder, streaming=streaming), TrialConfig()).train
        options = AugmentConfig(mixup_alpha=alpha, rotate_degrees=20)
        made = TrainingBatches(train, torch.from_numpy(train.labels).float(), options, 5, Normalisation((0.0,), (1.0,)))
        order = epoch_rows(train.block_of, seed=5, epoch=2, rank=workers - 1, workers=workers, batch_size=12)
        batches.append(list(made.epoch_batches(order, 2, DataWaitTime())))
    resident, from_disk = batches
    assert len(resident) == len(from_disk) == 12  # 137 labelled images in twelves
    assert all(torch.equal(*pair) for two in zip(resident, from_disk, strict=True) for pair in zip(*two, strict=True))


def test_a_fit_comes_out_the_same_to_the_bit(make_training_set: Maker, tiny_trial: TrialConfig, tmp_path: Path) -> None:
    folder = make_training_set()
    results = []
    for streaming in (False, True):
        splits = select_splits(read_training_set(folder, streaming=streaming), tiny_trial)
        state = str(tmp_path / f"{streaming}.pt")
        results.append(run_to_end(fit(tiny_trial, splits, worker=Worker(), state_path=state)))
    resident, from_disk = results
    assert [epoch.train for epoch in resident.epochs] == [epoch.train for epoch in from_disk.epochs]
    assert resident.metrics == from_disk.metrics
    for figures in from_disk.epochs:
        assert figures.first_batch_seconds > 0
        assert 0 < figures.data_wait_seconds < figures.seconds


def test_blocks_are_read_once_and_few_are_held_at_a_time(
    make_training_set: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = _train(make_training_set(rows=ROWS)).images
    alive, most, read = 0, 0, []
    read_pixels = streamed.read_pixels

    def gone() -> None:
        nonlocal alive
        alive -= 1

    def counted(part: object, group: int, shape: tuple[int, ...]) -> np.ndarray:
        nonlocal alive, most
        found = read_pixels(part, group, shape)
        weakref.finalize(found, gone)
        alive, most = alive + 1, max(most, alive + 1)
        read.append((part.location, group))
        return found

    monkeypatch.setattr(streamed, "read_pixels", counted)
    monkeypatch.setattr(streamed, "OPEN_BLOCKS", 5)
    monkeypatch.setattr(streamed, "READ_THREADS", 1)
    reading = images.batches(_in_order())
    seen = len(next(reading))
    deadline = time.monotonic() + 30
    while alive < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    seen += sum(len(batch) for batch in reading)
    assert (seen, len(read), len(set(read)), alive) == (160, 20, 20, 0)
    assert most == 5


def test_visits_by_hand() -> None:
    """Block 0 is left after batch 0 and needed again after more than 32; block 2 waits no more than 32."""
    blocks = [[0, 0, 1], [2, 1], *[[1]] * 31, [0, 2]]
    visits = plan_visits([np.array(found) for found in blocks])
    assert visits.block.tolist() == [0, 1, 2, 0]
    assert visits.first.tolist() == [0, 0, 1, 33]
    assert visits.last.tolist() == [0, 32, 33, 33]
    assert len(plan_visits([]).block) == 0


def test_a_part_that_is_damaged_is_named_when_it_is_reached(make_training_set: Maker) -> None:
    folder = make_training_set(rows=ROWS)
    part = Path(folder, "train", "part-00001.parquet")
    content = bytearray(part.read_bytes())
    images = _train(folder).images
    column = images.parts[1].footer.row_group(9).column(1)
    content[column.dictionary_page_offset + column.total_compressed_size - 2] ^= 1
    part.write_bytes(content)
    seen = []
    with pytest.raises(SourceError, match=r"part-00001.parquet is damaged; remove the training set and run `hemo cur"):
        seen.extend(len(batch) for batch in images.batches(_in_order()))
    assert sum(seen) == 152  # all but the last block


def test_a_part_that_is_gone_is_named(make_training_set: Maker) -> None:
    folder = make_training_set()
    images = _train(folder).images
    Path(folder, "train", "part-00000.parquet").unlink()
    with pytest.raises(
        SourceError, match=r"part-00000.parquet is gone, or not mounted on this node: mount it there, or remove"
    ):
        list(images.batches([np.arange(4)]))


def test_batches_may_be_left_early_and_asked_for_again(make_training_set: Maker) -> None:
    images = _train(make_training_set(rows=ROWS)).images
    reading = images.batches(_in_order())
    first = next(reading)
    reading.close()
    np.testing.assert_array_equal(next(images.batches(_in_order())), first)
    assert list(images.batches([])) == []


@pytest.mark.usefixtures("s3_environment")
def test_images_stream_from_a_bucket(make_training_set: Maker) -> None:
    folder = make_training_set()
    storage = fsspec.filesystem("s3")
    storage.mkdir("streamed-set")
    storage.put(folder, "streamed-set/set", recursive=True)
    found = _train("s3://streamed-set/set").images
    wanted = [np.array([40, 3, 3]), np.array([17])]
    expected = read_training_set(folder).train.images.pixels
    for rows, batch in zip(wanted, found.batches(wanted), strict=True):
        np.testing.assert_array_equal(batch, expected[rows])
