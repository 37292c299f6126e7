"""Trials in pandas and torch."""

from pathlib import Path

import numpy as np
import pytest
import torch

from hemo.errors import ConfigError, SourceError
from hemo.library.trials import Trial, Trials
from hemo.trials.record import TrialRecord, read_predictions, write_record
from tests.records import TRAINING_SET
from tests.trial_runs import run_to_record


@pytest.fixture
def trained(make_training_set, tiny_trial, tmp_path: Path) -> Trial:
    """A trial of three epochs."""
    record = run_to_record(tiny_trial, make_training_set(), tmp_path / "records")
    return Trial(str(tmp_path / "records"), record.digest)


def test_a_folder_of_trials(make_record, tmp_path: Path) -> None:
    make_record({"name": "good", "seed": 1}, quality=0.9)
    make_record({"name": "bad", "seed": 2}, quality=0.2)
    make_record({"name": "broken", "seed": 3}, status="failed", reason="no memory")
    trials = Trials(str(tmp_path / "records"))
    assert len(trials) == 3
    assert trials.best().name == trials.best("val_auroc").name == trials.best("val_loss").name == "good"
    frame = trials.to_pandas().set_index("name")
    assert frame.loc["good", "seed"] == 1
    assert frame.loc["good", "val_loss"] < frame.loc["bad", "val_loss"]
    assert frame.loc["broken", "status"] == "failed"
    assert np.isnan(frame.loc["broken", "val_loss"])
    assert trials["bad"].record.config.seed == 2
    assert trials[trials["bad"].record.digest].name == "bad"
    with pytest.raises(ConfigError, match="'ugly' is the name of 0 trials"):
        trials["ugly"]
    with pytest.raises(ConfigError, match=r"no complete trial has 'val_luck'; .*val_auroc"):
        trials.best("val_luck")
    for column in ("seconds", "best_epoch", "name"):
        with pytest.raises(ConfigError, match=rf"no complete trial has '{column}'; .*val_auroc"):
            trials.best(column)
    with pytest.raises(SourceError, match=r"the trial failed \(no memory\)"):
        _ = trials["broken"].predictions


def test_the_best_of_failed_trials(make_record, tmp_path: Path) -> None:
    make_record({"name": "broken"}, status="failed", reason="no memory")
    with pytest.raises(ConfigError, match=r"^best: /.*records has none complete$"):
        Trials(str(tmp_path / "records")).best()


def test_losses_of_several_kinds_do_not_choose_the_best(make_record, tmp_path: Path) -> None:
    """A focal loss is smaller than cross-entropy whatever the model has learned."""
    make_record({"name": "good"}, quality=0.9)
    make_record({"name": "poor", "training.loss": "focal"}, quality=0.2)
    trials = Trials(str(tmp_path / "records"))
    assert trials.best().name == trials.best("val_auroc").name == "good"
    with pytest.raises(ConfigError, match=r"records minimise several losses, so val_loss is not comparable$"):
        trials.best("val_loss")


def test_trials_of_several_training_sets_have_no_best_one(make_record, tmp_path: Path) -> None:
    make_record({"name": "a"})
    make_record({"name": "b"}, training_set="0" * 16)
    expected = r"best: .* has trials that cannot be compared; the best are '.' \(.*\), '.' \(.*\)$"
    for metric in ("", "val_auroc"):
        with pytest.raises(ConfigError, match=expected):
            Trials(str(tmp_path / "records")).best(metric)


def test_two_trials_are_compared_as_the_report_compares_them(make_record, tmp_path: Path) -> None:
    """Eight patients are too few for an interval or a test; the differences are those of the records' predictions."""
    from sklearn.metrics import log_loss, roc_auc_score

    for seed, (name, quality) in enumerate({"good": 0.9, "bad": 0.1}.items()):
        make_record({"name": name, "seed": seed}, quality=quality)
    trials = Trials(str(tmp_path / "records"))
    compared = trials.compare("good", "bad", bootstrap_samples=20)
    predicted = {name: trials[name].predictions for name in ("good", "bad")}
    areas = {name: roc_auc_score(rows["label_any"], rows["probability_any"]) for name, rows in predicted.items()}
    losses = {name: log_loss(rows["label_any"], rows["probability_any"]) for name, rows in predicted.items()}
    assert compared.loc["auroc", "difference"] == pytest.approx(areas["good"] - areas["bad"])
    assert compared.loc["log_loss", "difference"] == pytest.approx(losses["good"] - losses["bad"])
    assert compared[["low", "high", "p"]].isna().all(axis=None)
    assert compared["reason"].str.contains("8 patients").all()
    table = trials.table(bootstrap_samples=20)
    assert table["trial"].str.contains("good").tolist() == [True, False]


@pytest.mark.parametrize(
    ("changes", "set_digest", "says"),
    [
        ({}, "ffffffffffffffff", "first and other are of different training sets"),
        ({"task": "multi_label"}, TRAINING_SET, "binary of any in images, and multi_label of any in images"),
        ({"target": "epidural"}, TRAINING_SET, "binary of any in images, and binary of epidural in images"),
    ],
)
def test_trials_that_cannot_be_compared(
    make_record, tmp_path: Path, changes: dict[str, str], set_digest: str, says: str
) -> None:
    make_record({"name": "first"})
    make_record({"name": "other", "seed": 2, **changes}, training_set=set_digest)
    with pytest.raises(ConfigError, match=says):
        Trials(str(tmp_path / "records")).compare("first", "other")


def test_a_folder_without_records_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="holds no trial records"):
        Trials(str(tmp_path))


def test_history_and_metrics(trained: Trial) -> None:
    record: TrialRecord = trained.record
    assert trained.history.index.tolist() == [1, 2, 3]
    assert trained.history.loc[2, "val_loss"] == record.epochs[1].val["loss"]
    assert trained.history.loc[3, "train_loss"] == record.epochs[2].train["loss"]
    assert trained.metrics.loc["test", "accuracy"] == record.metrics["test"]["accuracy"]
    assert "test_resnet" in trained._repr_html_()


def test_predictions_are_those_of_the_model(trained: Trial, make_training_set, tmp_path: Path) -> None:
    """What the record holds, the loaded model, and `predict` agree."""
    from hemo.library.training_set import TrainingSet

    dataset = TrainingSet(str(tmp_path / "set")).test
    images = torch.stack([dataset[row][0] for row in range(16)])
    stored = trained.predictions.query("split == 'test'").set_index("image_id").loc[dataset.frame["image_id"]]
    assert stored["label_any"].tolist() == dataset.labels[:, 0].tolist()
    model = trained.load_model()
    with torch.inference_mode():
        np.testing.assert_allclose(model(images)[:, 0].numpy(), stored["probability_any"], atol=1e-5)
    predicted = trained.predict(images.numpy())
    assert trained.predict(images).equals(predicted)
    assert trained.predict(list(images)).equals(predicted)
    np.testing.assert_allclose(predicted["probability_any"], stored["probability_any"], atol=1e-5)
    assert predicted["predicted_any"].tolist() == stored["predicted_any"].tolist()
    assert predicted["probability_any"].nunique() > 0


def test_a_picture_of_what_the_model_looked_at(trained: Trial) -> None:
    picture = trained.explain(np.zeros((1, 16, 16), np.uint8))
    assert min(picture.size) > 100
    assert trained.explain(torch.zeros((1, 16, 16), dtype=torch.uint8)).tobytes() == picture.tobytes()
    with pytest.raises(ConfigError, match="'nay' is no class of the trial; it has any"):
        trained.explain(np.zeros((1, 16, 16), np.uint8), target="nay")


def test_images_that_the_model_does_not_take(trained: Trial) -> None:
    with pytest.raises(ConfigError, match=r"float64 of shape \(2, 2\), must be uint8 of shape \(images, 1, 16, 16\)"):
        trained.predict(np.zeros((2, 2)))
    with pytest.raises(ConfigError, match=r"must be uint8 of shape \(images, 1, 16, 16\) \(.*inhomogeneous"):
        trained.predict([np.zeros((1, 16, 16), np.uint8), np.zeros((1, 8, 8), np.uint8)])
    with pytest.raises(ConfigError, match=r"uint8 of shape \(1, 3, 16, 16\), must be uint8 of shape"):
        trained.explain(np.zeros((3, 16, 16), np.uint8))


def test_each_prediction_stays_with_its_image_whatever_the_stored_order(make_record, tmp_path: Path) -> None:
    """Stored backwards: the logits of i00 and i09 would change places."""
    record = make_record({"name": "one"})
    folder = str(tmp_path / "records")
    before = Trials(folder)["one"].predictions.set_index(["split", "image_id"])
    table = read_predictions(folder, record.digest)
    write_record(folder, record, table.take(list(reversed(range(table.num_rows)))))
    after = Trials(folder)["one"].predictions.set_index(["split", "image_id"])
    assert after["probability_any"].to_dict() == before["probability_any"].to_dict()
    assert before["probability_any"].nunique() > 5
