"""Names and aliases of models; the artifacts themselves are read back in `test_track_wandb`."""

from pathlib import Path

from hemo.cluster.track_artifacts import best_of, model_name, unplaced_weights
from hemo.config.trial import TrialConfig
from hemo.trials.record import EpochRecord, TrialRecord, write_record


def record(digest: str, loss: float, **fields) -> TrialRecord:
    epoch = EpochRecord(
        epoch=1, train={"loss": 1.0}, val={"loss": loss}, learning_rate=0.1, seconds=1.0, images_per_second=1.0
    )
    known = {"digest": digest, "status": "complete", "config": TrialConfig(), "classes": ("any",), "best_epoch": 1}
    return TrialRecord(**{**known, "training_set": "feed", "split": "by_patient", "epochs": (epoch,), **fields})


def test_models_of_one_question_on_one_set_share_a_name() -> None:
    assert model_name(record("a", 0.5)) == "any-feed"
    assert model_name(record("b", 0.5, config=TrialConfig(task="multi_label"))) == "multi_label-feed"
    assert model_name(record("c", 0.5, config=TrialConfig(target="lung/left: 1"))) == "lung-left--1-feed"


def test_the_best_has_the_lowest_validation_loss_of_its_name(tmp_path: Path) -> None:
    failed = record("f", 0.1, status="failed", epochs=(), best_epoch=0)
    other = record("o", 0.1, training_set="beef")
    worse, better = record("w", 0.6), record("b", 0.4)
    for written in (failed, other, worse):
        write_record(str(tmp_path), written, None)
    assert best_of(str(tmp_path), worse) == ["best"]
    write_record(str(tmp_path), better, None)
    assert best_of(str(tmp_path), better) == ["best"]
    assert best_of(str(tmp_path), worse) == []


def test_weights_of_a_library_keep_their_name() -> None:
    assert [unplaced_weights(name) for name in ("none", "imagenet")] == ["none", "imagenet"]
