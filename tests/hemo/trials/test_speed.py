import pytest

from hemo.config.trial import ModelConfig, SeriesConfig, TrainingConfig, TrialConfig
from hemo.errors import ConfigError
from hemo.training.distributed import Worker
from hemo.training.results import EpochMetrics
from hemo.trials.speed import sequence_speed, slice_speed

SLICES = TrialConfig(
    task="multi_label", model=ModelConfig(backbone="CNN(4)", weights="imagenet"), training=TrainingConfig(loss="rsna")
)
SEQUENCE = TrialConfig(
    task="multi_label",
    model=ModelConfig(backbone="BiGRU(4)", series=SeriesConfig(embeddings="none")),
    training=TrainingConfig(batch_size=3, loss="rsna"),
)
SHAPE = (3, 16, 16)


@pytest.fixture
def timed(monkeypatch):
    """Return the sizes that are timed, of a model that trains 10 examples a second and evaluates 40."""
    sizes = []

    def epoch(config, splits, worker):
        rows = len(splits.epoch)
        sizes.append((rows, config.training.batch_size))
        metrics = {"train": {}, "val": {}, "learning_rate": 0.1, "timestamp": 0.0, "runtime_seconds": 0.0}
        times = {"seconds": rows / 10 + rows / 40, "images_per_second": 10.0}
        return EpochMetrics(epoch=2, workers=1, first_batch_seconds=0.0, data_wait_seconds=0.0, **metrics, **times)

    monkeypatch.setattr("hemo.trials.speed.timed_epoch", epoch)
    return sizes


def test_epochs_grow_until_one_takes_long_enough(timed):
    """4, 16, 64 images take 0.5, 2 and 8 s; a step has at most the 32 images that are configured."""
    speed, embedded_per_s = slice_speed(SLICES, shape=SHAPE, worker=Worker(), enough_s=5)
    assert timed == [(4, 4), (16, 16), (64, 32)]
    assert (speed.trained_per_s, speed.evaluated_per_s, speed.epoch_s) == (10, pytest.approx(40), 8)
    assert (speed.examples, speed.batch_size) == (64, 32)
    assert speed.hardware.startswith("1 x CPU (1 thread, ")
    assert embedded_per_s > 1


def test_a_fast_model_is_timed_over_sixteen_steps_at_most(timed):
    """16 steps of 3 studies of 5 slices on average: 4, 16, then 64 studies."""
    options = {"shape": SHAPE, "slices_per_study": 5, "worker": Worker()}
    speed = sequence_speed(SEQUENCE, SLICES, **options, enough_s=1e6)
    assert [batch_size for _, batch_size in timed] == [3, 3, 3]
    assert speed.examples == 64
    assert timed[0][0] == 20


@pytest.mark.parametrize("labels", ["slice", "study"])
def test_real_steps_have_a_rate(labels):
    """Four studies of 3, 4, 6 and 7 slices are 20 slices, whichever have labels; no weights are fetched."""
    speed, _ = slice_speed(SLICES, shape=SHAPE, worker=Worker(), enough_s=1e-9)
    assert (speed.examples, speed.trained_per_s > 0, speed.evaluated_per_s > 0) == (4, True, True)
    model = SEQUENCE.model.model_copy(update={"series": SeriesConfig(embeddings="none", labels=labels)})
    trial = SEQUENCE.model_copy(update={"model": model})
    options = {"shape": SHAPE, "slices_per_study": 5, "worker": Worker()}
    speed = sequence_speed(trial, SLICES, **options, enough_s=1e-9)
    assert speed.epoch_s == pytest.approx(20 / speed.trained_per_s + 20 / speed.evaluated_per_s)


def test_parts_of_a_step_have_two_images_at_least(timed):
    training = SLICES.training.model_copy(update={"accumulation": 4})
    slice_speed(SLICES.model_copy(update={"training": training}), shape=SHAPE, worker=Worker(), enough_s=1e-9)
    assert timed == [(8, 8)]


def test_too_little_memory_names_the_size_of_a_step(monkeypatch):
    def no_memory(*_):
        raise MemoryError

    monkeypatch.setattr("hemo.trials.speed.timed_epoch", no_memory)
    with pytest.raises(ConfigError, match="out of memory with batch_size 4"):
        slice_speed(SLICES, shape=SHAPE, worker=Worker(), enough_s=1)
