"""One trial from config to record."""

import errno
import json
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.torch
import torch

from hemo.config.trial import TrainingConfig, TrialConfig
from hemo.curation.card import read_card
from hemo.errors import ConfigError, SourceError, TrialError
from hemo.inference.predict import DeployedModel
from hemo.models.backbones import build_backbone
from hemo.models.checkpoint import load_checkpoint, read_checkpoint_card
from hemo.models.classifier import normalise, to_unit_range
from hemo.reporting.trial_row import image_of
from hemo.training.data.dataset import read_training_set
from hemo.training.distributed import Worker
from hemo.training.reporting import Epochs
from hemo.training.results import METRICS, EpochMetrics
from hemo.trials import run as trial
from hemo.trials.checks import check_trials
from hemo.trials.key import TrialKey
from hemo.trials.make_record import _small_set_notes
from hemo.trials.predictions import split_scores
from hemo.trials.progress import clear_progress, read_progress
from hemo.trials.record import TrialRecord, read_predictions, read_record, read_training_set_card
from hemo.trials.run import ProgressWriter, _is_failure, evaluate_on_test, run_trial
from tests.records import trial_digest
from tests.trial_runs import run_to_record, trial_key

Maker = Callable[..., str]

TRIAL = TrialConfig(name="mine", training=TrainingConfig(epochs=7))


def _epochs(config: TrialConfig, folder: str, out: Path) -> Epochs[TrialRecord]:
    return run_trial(trial_key(config, folder, out), folder, worker=Worker(), data=read_training_set(folder))


def _stopped(epochs: Epochs[TrialRecord]) -> TrialRecord:
    """Return the record of a trial that is stopped after its first epoch."""
    next(epochs)
    with pytest.raises(StopIteration) as end:
        epochs.send(True)
    return end.value.value


def _changed(config: TrialConfig, **changed: dict[str, object]) -> TrialConfig:
    content = config.model_dump()
    return TrialConfig.model_validate(
        {**content, **{name: {**content[name], **value} for name, value in changed.items()}}
    )


def test_a_trial_leaves_record_predictions_and_checkpoint(
    make_training_set: Maker, tiny_trial: TrialConfig, tmp_path: Path
) -> None:
    folder = make_training_set()
    record = run_to_record(tiny_trial, folder, tmp_path)
    assert record == read_record(str(tmp_path), record.digest)
    assert record.digest == trial_digest(tiny_trial, "feedfacefeedface")
    assert (record.status, record.classes, record.split) == ("complete", ("any",), "by_patient")
    assert record.rows == {"train": 48, "val": 16, "test": 16}
    assert record.patients == {"train": 25, "val": 9, "test": 9}
    assert record.positives == {"train": (24,), "val": (8,), "test": (8,)}
    assert record.image == "1 x 16 x 16"
    assert [figures.epoch for figures in record.epochs] == [1, 2, 3]
    assert record.reductions == ("train limited to 48 of 96 images",)
    assert set(record.confusion) == set(record.by_pixel_format) == {"train", "val", "test"}
    group = record.by_pixel_format["test"]["u12"]  # all images have this format
    assert (group.images, group.confusion) == (16, record.confusion["test"])
    assert group.metrics == {name: record.metrics["test"].get(name) for name in METRICS}
    assert record.megabytes == pytest.approx(_weights_bytes(tmp_path, record) / 1e6, rel=0.05)
    assert record.inference_batch_size in range(1, 9)  # no more than a batch of the training
    assert 0 < record.latency_ms < 1000 < 1000 * record.inference_images_per_second
    assert record.hardware.startswith("1 x CPU (1 thread, ")
    assert {"python", "torch", "timm", "numpy", "ray"} <= set(record.versions)
    assert record.seconds == pytest.approx(sum(figures.seconds for figures in record.epochs))
    kept = read_training_set_card(str(tmp_path), record.training_set)
    assert kept == read_card(folder)
    names = {path.name for path in (tmp_path / record.digest).rglob("*") if path.is_file()}
    assert names == {"record.json", "predictions.parquet", "weights.safetensors", "checkpoint.json"}


def test_a_streamed_set_gives_the_same_record(
    make_training_set: Maker, tiny_trial: TrialConfig, tmp_path: Path
) -> None:
    folder = make_training_set()
    resident = run_to_record(tiny_trial, folder, tmp_path / "resident")
    data = read_training_set(folder, streaming=True)
    from_disk = run_to_record(tiny_trial, folder, tmp_path / "streamed", data=data)
    timed = {"epochs", "seconds", "latency_ms", "inference_images_per_second", "inference_batch_size", "finished"}
    assert from_disk.model_dump(exclude=timed) == resident.model_dump(exclude=timed)
    assert [epoch.val for epoch in from_disk.epochs] == [epoch.val for epoch in resident.epochs]


@pytest.mark.parametrize(("balance", "images"), [("oversample", 72), ("undersample", 24)])
def test_a_balanced_epoch_is_recorded_beside_train(
    make_training_set: Maker, tiny_trial: TrialConfig, tmp_path: Path, balance: str, images: int
) -> None:
    """12 of 48 images are positive: 36 and 36, or 12 and 12."""
    folder = make_training_set(label=lambda number, _: int(number % 4 == 0))
    config = _changed(tiny_trial, training={"balance": balance, "epochs": 1}, augment={"mixup_alpha": 0.4})
    record = run_to_record(config, folder, tmp_path)
    assert (record.status, record.epoch_rows, record.epoch_positives) == ("complete", images, (images // 2,))
    assert (record.rows["train"], record.positives["train"]) == (48, (12,))
    assert sum(map(sum, record.confusion["train"][0])) == 48
    noted = "train undersampled to 24 of 48 images" in record.reductions
    assert noted == (balance == "undersample")
    streamed = run_to_record(config, folder, tmp_path / "b", data=read_training_set(folder, streaming=True))
    assert streamed.metrics == record.metrics


def test_labels_are_balanced_by_a_class_that_there_is_and_that_varies(make_training_set: Maker) -> None:
    card = read_card(make_training_set(classes=("a", "b"), label=lambda number, name: int(name == "b" or number % 2)))
    for target, problem in (("any", r"needs a class to balance by, 'any' is none .* a, b"), ("b", "are alike in 'b'")):
        config = TrialConfig(task="multi_label", target=target, training={"balance": "oversample"})
        with pytest.raises(ConfigError, match=rf"trial.target: .*{problem}"):
            check_trials({"": config}, card)


def test_a_part_that_one_of_two_workers_cannot_read_is_told_to_both() -> None:
    """Alone it is the user's to mend; of several workers the others wait, so that the trial must end as failed."""
    damaged = SourceError("part-00001.parquet is damaged")
    assert [_is_failure(damaged, Worker(count=count)) for count in (1, 2)] == [False, True]
    assert [_is_failure(ConfigError("no weights"), Worker(count=count)) for count in (1, 2)] == [False, False]
    assert [_is_failure(RuntimeError("lost"), Worker(count=count)) for count in (1, 2)] == [True, False]
    assert [_is_failure(TrialError("diverged"), Worker(count=count)) for count in (1, 2)] == [True, True]


def _weights_bytes(out: Path, record: TrialRecord) -> int:
    return (out / record.digest / "checkpoint" / "weights.safetensors").stat().st_size


@pytest.mark.parametrize(("rows", "told"), [(8, []), (7, ["each step is of all 7 images of train, fewer than"])])
def test_a_batch_larger_than_the_set_is_told(rows: int, told: list[str]) -> None:
    key = TrialKey(TrialConfig(training=TrainingConfig(batch_size=8)), "records", "digest")
    splits = SimpleNamespace(epoch=range(rows))
    assert [sentence.removesuffix(" batch_size 8") for sentence in _small_set_notes(splits, key)] == told


def test_predictions_are_those_of_the_checkpoint(
    make_training_set: Maker, tiny_trial: TrialConfig, tmp_path: Path
) -> None:
    folder = make_training_set()
    record = run_to_record(tiny_trial, folder, tmp_path)
    rows = read_predictions(str(tmp_path), record.digest).to_pylist()
    assert [row["image_id"] for row in rows] == [f"{split}-{n:03d}" for split in ("val", "test") for n in range(16)]
    assert [row["labels"] for row in rows[:4]] == [[0], [1], [0], [1]]
    stored = torch.tensor([row["logits"] for row in rows if row["split"] == "val"])
    model, card = load_checkpoint(f"{tmp_path}/{record.digest}/checkpoint")
    val = read_training_set(folder).val
    logits = model(normalise(to_unit_range(torch.from_numpy(val.images.pixels)), card.normalisation))
    torch.testing.assert_close(logits.detach(), stored, atol=1e-5, rtol=0)
    assert (card.classes, card.thresholds, card.image["corpus"]) == (("any",), record.thresholds, "phantom")


def test_a_trial_on_sampled_labels_is_calibrated_everywhere(
    make_training_set: Maker, tiny_trial: TrialConfig, tmp_path: Path
) -> None:
    """Whatever validation of 48 images finds: record, checkpoint, model and stored predictions agree."""
    folder = make_training_set({"train": 48, "val": 48, "test": 48}, label=lambda number, _: int(number % 4 == 0))
    config = _changed(tiny_trial, training={"balance": "oversample", "operating_point": "sensitivity=0.8"})
    record = run_to_record(config, folder, tmp_path)
    calibration = record.calibration
    assert calibration.method in ("prior_and_temperature", "platt")
    assert (calibration.images, calibration.patients) == (48, 25)
    model, card = load_checkpoint(f"{tmp_path}/{record.digest}/checkpoint")
    assert (card.calibration, card.thresholds) == (calibration, record.operating_points["sensitivity=0.8"])
    assert card.operating_points == record.operating_points
    _, probabilities = DeployedModel(model, card).predict(read_training_set(folder).test.images.pixels)
    scores = split_scores(read_predictions(str(tmp_path), record.digest), "test", record)
    np.testing.assert_allclose(probabilities, scores.probabilities, atol=1e-5)
    assert record.confusion["test"][0] == _counts(scores.predicted[:, 0], scores.labels[:, 0])
    before, after = (getattr(record.probability_metrics["test"]["any"], state) for state in ("before", "after"))
    assert after.mean_probability == pytest.approx(float(probabilities.mean()), abs=1e-5)
    assert before.mean_probability != pytest.approx(after.mean_probability, abs=0.01)
    bins = record.probability_metrics["test"]["any"].bins_after
    assert [each.images for each in bins] == [24, 24]
    assert sum(each.observed.value for each in bins) / 2 == pytest.approx(1 / 4)
    assert record.metrics["test"]["log_loss"] == pytest.approx(after.log_loss, rel=1e-4)


def _counts(predicted: np.ndarray, labels: np.ndarray) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(int(((labels == row) & (predicted == column)).sum()) for column in (0, 1)) for row in (0, 1))


def test_a_finished_trial_is_not_run_again(make_training_set: Maker, tiny_trial: TrialConfig, tmp_path: Path) -> None:
    folder = make_training_set()
    record = run_to_record(tiny_trial, folder, tmp_path)
    with pytest.raises(StopIteration) as end:  # no epoch is left
        next(_epochs(tiny_trial, folder, tmp_path))
    assert end.value.value == record
    renamed = tiny_trial.model_copy(update={"name": "another name"})
    again = run_to_record(renamed, folder, tmp_path)
    assert again == record.model_copy(update={"config": renamed}) == read_record(str(tmp_path), record.digest)
    assert read_predictions(str(tmp_path), record.digest).num_rows == 32


def test_a_loss_that_is_no_number_is_recorded_as_failed(
    make_training_set: Maker, tiny_trial: TrialConfig, tmp_path: Path
) -> None:
    config = _changed(tiny_trial, training={"optimizer": "sgd", "learning_rate": 1e30})
    folder = make_training_set()
    record = run_to_record(config, folder, tmp_path)
    assert record.status == "failed"
    assert "in epoch 1, step" in record.reason
    assert read_record(str(tmp_path), record.digest) == record
    assert trial_key(config, folder, tmp_path).state() == "failed"
    assert trial_key(config, folder, tmp_path).finished_record() is None


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ZeroDivisionError("by nought"), "ZeroDivisionError: by nought"),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "OSError: [Errno 28] No space left on device; free some, or give a folder on a larger disk",
        ),
    ],
)
def test_an_unexpected_error_is_recorded_with_its_type_and_the_trial_goes_on_when_run_again(
    make_training_set: Maker, tiny_trial: TrialConfig, tmp_path: Path, error: Exception, reason: str
) -> None:
    folder = make_training_set()
    epochs = _epochs(tiny_trial, folder, tmp_path)
    next(epochs)
    with pytest.raises(StopIteration) as end:
        epochs.throw(error)
    failed = end.value.value
    assert (failed.status, failed.reason) == ("failed", reason)
    assert run_to_record(tiny_trial, folder, tmp_path).status == "complete"


def test_an_interruption_passes(make_training_set: Maker, tiny_trial: TrialConfig, tmp_path: Path) -> None:
    folder = make_training_set()
    epochs = _epochs(tiny_trial, folder, tmp_path)
    next(epochs)
    with pytest.raises(KeyboardInterrupt):
        epochs.throw(KeyboardInterrupt())
    assert trial_key(tiny_trial, folder, tmp_path).state() == "running"


def test_a_stopped_trial_is_pruned_and_not_tested(
    make_training_set: Maker, tiny_trial: TrialConfig, tmp_path: Path
) -> None:
    record = _stopped(_epochs(tiny_trial, make_training_set(), tmp_path))
    assert (record.status, record.reason) == ("pruned", "stopped by the scheduler after epoch 1")
    assert record.metrics == {"val": record.epochs[0].val}  # none of train with the best epoch's weights is known
    assert not (tmp_path / record.digest / "predictions.parquet").exists()


def test_rows_without_label_are_said_to_be_left_out(
    make_training_set: Maker, tiny_trial: TrialConfig, tmp_path: Path
) -> None:
    folder = make_training_set(label=lambda number, _: None if number == 1 else number % 2)
    record = run_to_record(_changed(tiny_trial, training={"epochs": 1}), folder, tmp_path)
    assert record.rows["val"] == 15
    assert "1 image of val left out: blank label of any (1)" in record.reductions


def test_a_split_of_one_class_has_neither_accuracy_nor_auroc_nor_threshold(
    make_training_set: Maker, tiny_trial: TrialConfig, tmp_path: Path
) -> None:
    folder = make_training_set(label=lambda number, _: number % 2 if number >= 16 else 0)  # val and test have 16 rows
    record = run_to_record(_changed(tiny_trial, training={"epochs": 1}), folder, tmp_path)
    assert record.thresholds == (None,)
    assert read_checkpoint_card(str(tmp_path / record.digest / "checkpoint")).thresholds == (0.5,)
    for split in ("val", "test"):
        assert {"accuracy", "auroc"} & set(record.metrics[split]) == set()
        assert "specificity" in record.metrics[split]
    assert [(found.split, found.patients, found.one_sided) for found in record.findings] == [
        ("val", 9, ("any",)),
        ("test", 9, ("any",)),
    ]
    assert record.reductions == ("train limited to 48 of 96 images",)


def test_blank_labels_do_not_hide_that_train_has_one_class(make_training_set: Maker, tiny_trial: TrialConfig) -> None:
    card = read_card(make_training_set(label=lambda number, _: 1 if number % 4 else None))
    with pytest.raises(SourceError, match=r"one class only \(any 36 of 36 labelled rows are positive\)"):
        check_trials({"": tiny_trial}, card)


def test_starting_weights_are_known_by_their_content(
    make_training_set: Maker, tiny_trial: TrialConfig, tmp_path: Path
) -> None:
    """Moved, the same file is the same trial; replaced, it is another."""
    folder, first, second = make_training_set(), tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    weights = build_backbone("test_resnet", 1, (16, 16)).state_dict()
    safetensors.torch.save_file(weights, first)
    start = _changed(tiny_trial, model={"weights": str(first)}, training={"epochs": 1})
    record = run_to_record(start, folder, tmp_path)
    assert trial_digest(start, "feedfacefeedface") == record.digest
    first.rename(second)
    moved = _changed(start, model={"weights": str(second)})
    with pytest.raises(StopIteration) as end:
        next(_epochs(moved, folder, tmp_path))
    assert end.value.value == record.model_copy(update={"config": record.config})
    safetensors.torch.save_file({name: value + 1 for name, value in weights.items()}, second)
    assert trial_digest(moved, "feedfacefeedface") != record.digest


def test_a_step_with_a_single_image_is_refused(
    make_training_set: Maker, tiny_trial: TrialConfig, tmp_path: Path
) -> None:
    folder = make_training_set(rows={"train": 3, "val": 4, "test": 4})
    with pytest.raises(ConfigError, match=r"2 images a step, of 3 to train on, leave one of 1 workers .* with 1 in"):
        run_to_record(_changed(tiny_trial, training={"batch_size": 2}), folder, tmp_path)


def test_with_others_only_a_trials_own_failure_is_final(
    make_training_set: Maker, tiny_trial: TrialConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a lost peer looks like is raised; a failure is written by the worker that met it, the first or not."""

    def die_of(error: Exception) -> TrialRecord:
        monkeypatch.setattr(trial, "fit", lambda *_, **__: throw(error))
        monkeypatch.setattr(trial, "raise_together", lambda _: nullcontext())
        second = Worker(rank=1, count=2, device="cuda")
        return run_to_record(tiny_trial, folder, tmp_path, worker=second)

    def throw(error: Exception) -> Iterator[EpochMetrics]:
        raise error
        yield

    folder = make_training_set()
    with pytest.raises(RuntimeError, match="Connection closed by peer"):
        die_of(RuntimeError("Connection closed by peer"))
    record = die_of(TrialError("out of device memory"))
    assert (record.status, record.reason, record.workers) == ("failed", "out of device memory", 2)
    assert read_record(str(tmp_path), record.digest) == record


def test_a_trial_that_shrinks_its_images_is_told_and_asked_as_any_other(
    make_training_set: Maker, tiny_trial: TrialConfig, tmp_path: Path
) -> None:
    """Its checkpoint answers stored images as the trial did; stopped and run again it ends with the same weights."""
    folder = make_training_set(side_px=24)
    shrunk = _changed(tiny_trial, model={"side_px": 16})
    record = run_to_record(shrunk, folder, tmp_path / "one")
    assert (record.status, image_of(record)) == ("complete", "1 x 16 x 16 (resized from 1 x 24 x 24)")
    assert record.digest != trial_digest(tiny_trial, "feedfacefeedface")
    deployed = DeployedModel(*load_checkpoint(f"{tmp_path}/one/{record.digest}/checkpoint"), batch_size=5)
    _, found = deployed.predict(read_training_set(folder).test.images.pixels)
    told = read_predictions(str(tmp_path / "one"), record.digest).to_pydict()
    wanted = [logits for split, logits in zip(told["split"], told["logits"], strict=True) if split == "test"]
    torch.testing.assert_close(torch.from_numpy(found), torch.tensor(wanted).sigmoid())
    killed = _epochs(shrunk, folder, tmp_path / "two")
    next(killed)
    killed.close()
    assert run_to_record(shrunk, folder, tmp_path / "two").metrics == record.metrics


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model": {"side_px": 17}}, "16 x 16 px cannot be shrunk to 17 px, it wants at most 16"),
        ({"model": {"backbone": "CNN(4,8)", "side_px": 9}}, "9 x 9 px, it wants at least 10 px"),
        ({"model": {"backbone": "none", "side_px": 8}}, "backbone none takes the values as they are"),
        ({"model": {"backbone": "resnet5O"}}, "'resnet5O' is no backbone"),
        ({"model": {"backbone": "VGG16"}}, "16 x 16 px, it wants at least 32 px"),
        ({"model": {"weights": "/nowhere.pt"}}, "model.weights: /nowhere.pt"),
        ({"training": {"loss": "rsna"}}, "rsna needs task multi_label and a class 'any'"),
    ],
)
def test_what_cannot_work_is_refused_before_work(
    make_training_set: Maker,
    tiny_trial: TrialConfig,
    tmp_path: Path,
    changed: dict[str, dict[str, object]],
    message: str,
) -> None:
    with pytest.raises(ConfigError, match=message):
        run_to_record(_changed(tiny_trial, **changed), make_training_set(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_unknown_target_is_refused(make_training_set: Maker, tiny_trial: TrialConfig) -> None:
    with pytest.raises(ConfigError, match=r"trial.target: 'sdh' is no class of the training set; it has any"):
        check_trials({"": tiny_trial.model_copy(update={"target": "sdh"})}, read_card(make_training_set()))


def test_hounsfield_units_are_refused_until_they_are_windowed(
    make_training_set: Maker, tiny_trial: TrialConfig
) -> None:
    card = read_card(make_training_set()).model_copy(update={"dtype": "int16", "channels": ("hu",)})
    with pytest.raises(SourceError, match=r"pixels are int16 .*--pixels windows"):
        check_trials({"": tiny_trial}, card)


@pytest.mark.parametrize("value", [0, 1])
def test_a_set_with_one_class_only_is_refused(make_training_set: Maker, tiny_trial: TrialConfig, value: int) -> None:
    card = read_card(make_training_set(label=lambda number, _: value))
    with pytest.raises(SourceError, match=rf"one class only \(any {48 * value} of 48 labelled rows are positive\)"):
        check_trials({"": tiny_trial}, card)


def test_a_split_without_rows_is_refused(make_training_set: Maker, tiny_trial: TrialConfig) -> None:
    folder = Path(make_training_set())
    card = json.loads((folder / "card.json").read_text())
    card["splits"]["val"]["rows"] = 0
    (folder / "card.json").write_text(json.dumps(card))
    with pytest.raises(SourceError, match="val has no rows"):
        check_trials({"": tiny_trial}, read_card(str(folder)))


def test_parts_of_a_batch_with_a_single_image_are_refused(
    make_training_set: Maker, tiny_trial: TrialConfig, tmp_path: Path
) -> None:
    """Five images in three parts are 2, 2 and 1."""
    folder = make_training_set(rows={"train": 10, "val": 4, "test": 4})
    with pytest.raises(ConfigError, match=r"5 images a step, .* with 1 in one of 3 parts .* fewer workers or parts"):
        run_to_record(_changed(tiny_trial, training={"batch_size": 5, "accumulation": 3}), folder, tmp_path)


def metrics(epoch: int, loss: float) -> EpochMetrics:
    return EpochMetrics(
        epoch=epoch,
        train={"loss": 0.5},
        val={"loss": loss, "auroc": 0.75},
        learning_rate=1e-4,
        seconds=2.0,
        images_per_second=10.0,
    )


def progress_writer(out: Path) -> ProgressWriter:
    return ProgressWriter(TrialKey(TRIAL, str(out), "d"))


def test_progress_is_written_before_the_first_epoch_and_after_each(tmp_path: Path) -> None:
    writer = progress_writer(tmp_path)
    begun = read_progress(str(tmp_path), "d")
    assert (begun.name, begun.epoch, begun.epochs, begun.best_val_loss) == ("mine", 0, 7, None)
    writer.write(metrics(1, 0.25))
    writer.write(metrics(2, 0.5))
    found = read_progress(str(tmp_path), "d")
    assert (found.epoch, found.val, found.best_val_loss, found.seconds) == (2, {"loss": 0.5, "auroc": 0.75}, 0.25, 4.0)
    assert found.curves["val loss"] == (0.25, 0.5)
    assert "val accuracy" not in found.curves  # these epochs have none
    clear_progress(str(tmp_path), "d")
    assert read_progress(str(tmp_path), "d") is None


def test_a_resumed_trial_continues_its_progress_and_one_that_starts_anew_does_not(tmp_path: Path) -> None:
    progress_writer(tmp_path).write(metrics(1, 0.25))
    progress_writer(tmp_path).write(metrics(2, 0.5))
    found = read_progress(str(tmp_path), "d")
    assert (found.best_val_loss, found.seconds) == (0.25, 4.0)
    progress_writer(tmp_path).write(metrics(1, 0.75))  # its state was lost
    found = read_progress(str(tmp_path), "d")
    assert (found.epoch, found.best_val_loss, found.seconds) == (1, 0.75, 2.0)
    assert found.curves["val loss"] == (0.75,)


def test_test_predictions_are_there_once_though_a_process_was_killed_before_it_wrote_the_record(
    make_training_set: Maker, tiny_trial: TrialConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search holds the 16 test images back; their predictions are written before the record."""
    folder = make_training_set()
    data, key = read_training_set(folder), trial_key(tiny_trial, folder, tmp_path / "out")
    run_to_record(tiny_trial, folder, tmp_path / "out", data=replace(data, test=None))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("hemo.trials.record.write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            evaluate_on_test(key, key.record(), data, Worker())
    evaluate_on_test(key, key.record(), data, Worker())
    assert read_predictions(key.records, key.digest)["split"].to_pylist() == ["val"] * 16 + ["test"] * 16
