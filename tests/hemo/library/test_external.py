"""Models of one's own beside hemo's trials: what is recorded, what is refused, how they are shown and compared."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import hemo
from hemo.errors import ConfigError, SourceError
from hemo.library.trials import Trial, Trials
from hemo.reporting.comparison import compare_trials
from hemo.reporting.trial_table import common_settings, grid_table
from tests.trial_runs import run_to_record


@pytest.fixture
def training_set(make_training_set: Callable[..., str]) -> str:
    """Validation and test of 16 images each, odd ones positive; image 3 of each split is not labelled."""
    return make_training_set(label=lambda number, _: None if number == 3 else number % 2)


def predicted(training_set: str, **logits: Callable[[int], float]) -> pd.DataFrame:
    """Return predictions of val and test: a column a keyword, its value by the number of the image in its split."""
    frames = []
    for split in ("val", "test"):
        frame = hemo.TrainingSet(training_set).split(split).frame[["image_id"]].assign(split=split)
        numbers = frame["image_id"].str.rsplit("-", n=1).str[-1].astype(int)
        frames.append(frame.assign(**{name: numbers.map(value) for name, value in logits.items()}))
    return pd.concat(frames, ignore_index=True)


def recorded(training_set: str, tmp_path: Path, frame: pd.DataFrame, **more: Any) -> Trial:
    given = {"name": "mine", "target": "any", **more}
    return hemo.record_predictions(frame, training_set=training_set, out=str(tmp_path / "records"), **given)


def test_metrics_are_those_of_the_predictions_and_of_the_labels_of_the_set(training_set: str, tmp_path: Path) -> None:
    """Logit 2 for odd images, which are positive, but for image 1; -2 for the others: one of 7 positives is missed."""
    frame = predicted(training_set, logit_any=lambda number: 2.0 if number % 2 and number != 1 else -2.0)
    trial = recorded(training_set, tmp_path, frame.sample(frac=1, random_state=0))
    record = trial.record
    assert record.external
    assert record.rows == {"train": 47, "val": 15, "test": 15}
    assert record.positives["test"] == (7,)
    assert record.metrics["test"]["recall"] == pytest.approx(6 / 7)
    assert record.metrics["test"]["specificity"] == 1
    assert record.metrics["test"]["loss"] == pytest.approx((14 * np.log1p(np.exp(-2)) + np.log1p(np.exp(2))) / 15)
    assert record.metrics["test"]["auroc"] == pytest.approx(1 - 0.5 / 7)
    assert record.confusion["val"] == (((8, 0), (1, 6)),)
    assert record.thresholds == (pytest.approx(0.5),)
    assert "1 image of val left out: blank label of any (1)" in record.reductions
    rows = trial.predictions.set_index("image_id")
    assert rows.loc["test-001", "probability_any"] == pytest.approx(1 / (1 + np.exp(2)))
    assert rows.loc["test-001", "label_any"] == 1
    assert "val-003" not in rows.index


def test_a_trial_recorded_by_its_predictions_is_its_twin(training_set: str, tiny_trial, tmp_path: Path) -> None:
    """Its own probabilities give its own metrics on every split, and no difference on test."""
    record = run_to_record(tiny_trial, training_set, tmp_path / "records")
    own = Trial(str(tmp_path / "records"), record.digest)
    twin = recorded(training_set, tmp_path, own.predictions, name="twin")
    for split in ("val", "test"):
        assert twin.record.metrics[split] == pytest.approx(own.record.metrics[split], rel=1e-4)
        assert twin.record.confusion[split] == own.record.confusion[split]
    trials = Trials(str(tmp_path / "records"))
    difference = trials.compare("twin", own.name, bootstrap_samples=20)["difference"]
    assert difference["auroc"] == 0
    assert difference["log_loss"] == pytest.approx(0, abs=1e-4)


def test_in_tables_it_has_no_settings_but_its_name(training_set: str, tiny_trial, tmp_path: Path) -> None:
    """Two external models are cells of their own, though the settings in their records are equal."""
    run_to_record(tiny_trial.model_copy(update={"name": "ours"}), training_set, tmp_path / "records")
    recorded(
        training_set, tmp_path, predicted(training_set, logit_any=lambda number: number % 2 * 9.0 - 4), name="good"
    )
    recorded(training_set, tmp_path, predicted(training_set, logit_any=lambda number: number % 3 - 1.0), name="poor")
    trials = Trials(str(tmp_path / "records"))
    frame = trials.to_pandas().set_index("name")
    assert frame["external"].to_dict() == {"ours": False, "good": True, "poor": True}
    assert frame.loc["ours", "model.backbone"] == tiny_trial.model.backbone
    assert pd.isna(frame.loc["good", "model.backbone"])
    assert frame.loc["good", "test_auroc"] == 1
    assert trials.best("val_auroc").name == "good"
    (comparison,) = compare_trials([trial.record for trial in trials], trials.path, samples=20, seed=0)
    assert sorted(cell.name for cell in comparison.cells) == ["good", "ours", "poor"]
    table = grid_table(comparison)
    assert "backbone" not in table.head  # of one trained model nothing varies
    assert any(note == "Not trained by hemo, which has predictions only: good, poor." for note in table.notes)
    assert f"backbone {tiny_trial.model.backbone}" in common_settings(comparison)
    assert (
        hemo.report(records=trials.path, out=str(tmp_path / "report"), bootstrap_samples=20).grid["external"].sum() == 2
    )
    assert {trial.epochs for sweep in hemo.status(records=trials.path).sweeps for trial in sweep.trials} == {0, 3}
    with pytest.raises(SourceError, match="good was not trained by hemo, which has its predictions and no model"):
        trials["good"].load_model()
    assert "good (external)" in trials["good"]._repr_html_()


def test_alone_in_a_folder_it_can_be_reported(training_set: str, tmp_path: Path) -> None:
    recorded(training_set, tmp_path, predicted(training_set, logit_any=lambda number: float(number % 2)))
    text = hemo.report(records=str(tmp_path / "records"), out=str(tmp_path / "report"), bootstrap_samples=20).text
    assert "Common settings: none known" in text


def test_test_may_follow_and_is_not_replaced(training_set: str, tmp_path: Path) -> None:
    frame = predicted(training_set, logit_any=lambda number: float(number % 2))
    held_back = recorded(training_set, tmp_path, frame[frame["split"] == "val"])
    assert set(held_back.record.metrics) == {"val"}
    assert "test" not in held_back.record.rows
    both = recorded(training_set, tmp_path, frame, name="renamed")
    assert both.record.digest == held_back.record.digest
    assert set(both.record.metrics) == {"val", "test"}
    assert recorded(training_set, tmp_path, frame[frame["split"] == "val"]).record == both.record
    other = frame.assign(logit_any=frame["logit_any"].where(frame["split"] == "val", 0.0))
    with pytest.raises(ConfigError, match="mine is recorded with these predictions of val and others of test"):
        recorded(training_set, tmp_path, other)
    assert [trial.name for trial in Trials(str(tmp_path / "records"))] == ["renamed"]


def test_probabilities_become_logits(training_set: str, tmp_path: Path) -> None:
    """0.75 is log 3; 1 is the largest float32 below it: a finite loss, of 23 bits."""
    frame = predicted(training_set, probability_any=lambda number: 1.0 if number == 5 else 0.75)
    rows = recorded(training_set, tmp_path, frame).predictions.set_index("image_id")
    assert rows.loc["test-000", "probability_any"] == pytest.approx(0.75)
    assert rows.loc["test-005", "probability_any"] == pytest.approx(1 - 2**-23, abs=1e-9)


@pytest.mark.parametrize(
    "extreme",
    [
        lambda rank: 10.0 ** (rank - 16),
        lambda rank: 1 - 10.0 ** (-3 - rank * 0.8),
        lambda rank: rank * 1e-300,  # rank 0 is 0
        lambda rank: 1 - (15 - rank) * 2.0**-52,  # rank 15 is 1
    ],
)
def test_probabilities_near_0_and_1_keep_their_order(
    training_set: str, tmp_path: Path, extreme: Callable[[int], float]
) -> None:
    """Image n has rank 7 n modulo 16: the 8 negatives 0, 2, ... 14, the 7 positives 1, 3, 7, ... 15; 33 of 56 pairs."""
    from sklearn.metrics import roc_auc_score

    frame = predicted(training_set, probability_any=lambda number: extreme(number * 7 % 16))
    trial = recorded(training_set, tmp_path, frame)
    numbers = np.array([number for number in range(16) if number != 3])  # image 3 has no label
    expected = roc_auc_score(numbers % 2, [extreme(number * 7 % 16) for number in numbers])
    rows = trial.predictions.query("split == 'test'")
    assert roc_auc_score(rows["label_any"], rows["probability_any"]) == pytest.approx(expected, abs=1e-9)
    assert trial.record.metrics["test"]["auroc"] == pytest.approx(expected, abs=1e-7)  # float32
    assert expected == pytest.approx(33 / 56, abs=1e-9)


def test_exclusive_classes_of_probability_0_keep_their_order(
    make_training_set: Callable[..., str], tmp_path: Path
) -> None:
    """0 counts as half of 1e-20, the smallest other one."""
    folder = make_training_set(classes=("a", "b"), label=lambda number, name: int("ab".index(name) == number % 2))
    small = {0: 0.0, 1: 1e-20}
    columns = {
        "probability_a": lambda number: small.get(number, 0.5),
        "probability_b": lambda number: 1 - small.get(number, 0.5),
    }
    trial = recorded(folder, tmp_path, predicted(folder, **columns), task="multi_class")
    rows = trial.predictions.set_index("image_id")
    assert rows.loc["test-000", "probability_a"] == pytest.approx(5e-21, rel=1e-4)
    assert rows.loc["test-001", "probability_a"] == pytest.approx(1e-20, rel=1e-4)


def test_exclusive_classes(make_training_set: Callable[..., str], tmp_path: Path) -> None:
    """The most probable class counts, and probabilities of an image add up to 1."""
    folder = make_training_set(classes=("a", "b", "c"), label=lambda number, name: int("abc".index(name) == number % 3))
    shares = {"a": (0.6, 0.2, 0.5), "b": (0.3, 0.7, 0.3), "c": (0.1, 0.1, 0.2)}
    columns = {f"probability_{name}": (lambda number, of=of: of[number % 3]) for name, of in shares.items()}
    trial = recorded(folder, tmp_path, predicted(folder, **columns), task="multi_class")
    assert trial.record.classes == ("a", "b", "c")
    assert trial.record.thresholds == ()
    assert trial.record.metrics["test"]["accuracy"] == 11 / 16  # 5 images of class c are taken for a
    assert trial.predictions["probability_b"].tolist() == pytest.approx(
        [shares["b"][int(name.rsplit("-")[-1]) % 3] for name in trial.predictions["image_id"]], rel=1e-5
    )
    columns["probability_c"] = lambda number: 0.5
    with pytest.raises(ConfigError, match=r"probabilities of val-\d+ in val are .*, 0.5; of exclusive classes, must"):
        recorded(folder, tmp_path, predicted(folder, **columns), task="multi_class")


def wrong(**changes: Any) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda frame: frame.assign(**changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame[frame["image_id"] != "val-005"], "val: 1 of 15 labelled images have no prediction: val"),
        (lambda frame: frame[frame["image_id"] != "test-005"], "test: 1 of 15 labelled images have no prediction: t"),
        (lambda frame: frame[frame["split"] == "test"], "val: 15 of 15 labelled images have no prediction: val-000"),
        (lambda frame: pd.concat([frame, frame[:1]]), r"val: 'val-000' is predicted twice, in rows 0 and 16; keep one"),
        (wrong(split="val"), "val: 'test-000' is no image of val but of test"),
        (lambda frame: frame.replace("val-000", "val-099"), "val: 'val-099' is no image of val; `frame`"),
        (lambda frame: frame.assign(logit_any=frame["logit_any"].where(frame.index != 2)), "of val-002 are NaN or inf"),
        (wrong(logit_any="high"), "logit_any of val must be numbers"),
        (lambda frame: frame.drop(columns="split"), "have no column 'split', but image_id, logit_any"),
        (wrong(split="train"), "'train' in column split must be val or test"),
        (lambda frame: frame.rename(columns={"logit_any": "any"}), "have neither logit_any nor probability_any, but"),
        (
            lambda frame: frame.drop(columns="logit_any").assign(probability_any=1.2),
            r"probabilities of val-000 in val are 1\.2; must be 0 to 1",
        ),
    ],
)  # fmt: skip
def test_what_are_no_predictions_of_the_set_is_refused(
    training_set: str, tmp_path: Path, change: Callable[[pd.DataFrame], pd.DataFrame], message: str
) -> None:
    frame = predicted(training_set, logit_any=lambda number: float(number % 2))
    with pytest.raises(ConfigError, match=message):
        recorded(training_set, tmp_path, change(frame))
    assert not (tmp_path / "records").exists()


def test_arguments_are_checked(training_set: str, tmp_path: Path) -> None:
    frame = predicted(training_set, logit_any=lambda number: float(number % 2))
    with pytest.raises(ConfigError, match=r"predictions: must be a pandas\.DataFrame, not dict"):
        hemo.record_predictions({"split": []}, training_set=training_set, out=str(tmp_path), name="mine")
    with pytest.raises(ConfigError, match="name: is empty; give the model a name"):
        recorded(training_set, tmp_path, frame, name=" ")
    with pytest.raises(ConfigError, match="'subdural' is no class of the training set; it has any"):
        recorded(training_set, tmp_path, frame, target="subdural")
    with pytest.raises(ConfigError, match=r"hemo\.record_predictions: task"):
        recorded(training_set, tmp_path, frame, task="regression")
    with pytest.raises(SourceError, match="is no finished training set"):
        recorded(str(tmp_path / "nowhere"), tmp_path, frame)
