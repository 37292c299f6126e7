"""What leaks are worth, where images show the patient and nothing else: all skill of a leaky split is memory."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import hemo
from hemo.cluster import leaks
from hemo.config.leaks import LeaksConfig
from hemo.config.tune import TuneConfig, WorkersConfig
from hemo.curation.card import read_card
from hemo.errors import ConfigError, OutputError, SourceError, TrialError
from hemo.library.outputs import Leaks
from hemo.reporting.leak_table import LeakRow
from hemo.reporting.trial_row import split_name
from hemo.sweeps.grid import grid_trials
from hemo.training.data.dataset import read_split
from hemo.training.distributed import Worker
from hemo.trials.key import TrialKey, TrialKeys
from hemo.trials.record import TrialRecord, read_record, read_records
from tests.leak_sets import write_fingerprints
from tests.trial_runs import run_to_record

TRIAL = {
    "model": {"backbone": "none", "dropout": 0.0, "pooling": "flatten"},
    "training": {"epochs": 20, "batch_size": 16, "learning_rate": 0.02, "patience": 20},
}
SPLITS = {"holdout_fraction": 0.3, "val_fraction": 0.1, "test_fraction": 0.25}


@pytest.fixture(scope="module")
def training_set(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_fingerprints(tmp_path_factory.mktemp("fingerprints"))


def trained_here(job: TuneConfig) -> list[TrialRecord]:
    """Train the trials of a grid one after the other in this process, as `tune_models` does in others."""
    assert job.grid is not None
    return [run_to_record(trial, job.training_set, job.out) for trial in grid_trials(job.trial, job.grid)]


def predicted_here(trials: Sequence[tuple[TrialKey, TrialRecord]], _: TuneConfig | None, folder: str) -> None:
    """Predict the unseen patients in this process."""
    for key, record in trials:
        if problem := leaks._predict_holdout(key, record, folder, Worker()):
            raise problem


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    patch_ray(monkeypatch)


def patch_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "tune_models", trained_here)
    monkeypatch.setattr(leaks, "_predict_unseen", predicted_here)
    monkeypatch.setattr(leaks, "connected", lambda _: nullcontext())


@pytest.fixture(scope="module")
def measured(training_set: str, tmp_path_factory: pytest.TempPathFactory) -> Leaks:
    with pytest.MonkeyPatch.context() as monkeypatch:
        patch_ray(monkeypatch)
        return hemo.leaks(**settings(training_set, tmp_path_factory.mktemp("leaks"), seeds=2))


def settings(training_set: str, folder: Path, **changes: Any) -> dict[str, Any]:
    workers = WorkersConfig(gpus=0.0)
    return {
        "training_set": training_set,
        "out": str(folder / "out"),
        "trial": TRIAL,
        "workers": workers,
        **SPLITS,
        **changes,
    }


def row_of(measured: Leaks, rule: str, *, shuffled: bool = False) -> LeakRow:
    (row,) = [row for row in measured.card.rows if (row.rule, row.shuffled) == (rule, shuffled)]
    return row


@pytest.mark.parametrize("shuffled", [False, True])
def test_all_that_a_split_by_image_measures_is_memory(measured: Leaks, shuffled: bool) -> None:
    row = row_of(measured, "by_image", shuffled=shuffled)
    assert row.auroc.own.value > 0.75
    assert row.auroc.unseen.holds(0.5)
    assert row.auroc.leak.value > 0.3
    assert row.accuracy.leak.value > 0.2
    assert row.auroc.leak.value == pytest.approx(row.auroc.own.value - row.auroc.unseen.value)
    assert row.patients_of_train > 15


def test_a_split_by_study_remembers_the_patients_it_tears(measured: Leaks) -> None:
    row = row_of(measured, "by_study")
    assert row.auroc.own.value > 0.75
    assert row.auroc.unseen.holds(0.5)
    assert row.auroc.leak.value > 0.1


@pytest.mark.parametrize("shuffled", [False, True])
def test_a_clean_split_agrees_with_patients_whom_nobody_met(measured: Leaks, shuffled: bool) -> None:
    row = row_of(measured, "by_patient", shuffled=shuffled)
    assert row.auroc.leak.holds(0)
    assert row.auroc.own.holds(0.5)
    assert row.auroc.unseen.holds(0.5)
    assert row.patients_of_train == row.equal_images == 0


def test_a_patient_id_lets_equal_images_through(measured: Leaks) -> None:
    row = row_of(measured, "by_patient_id")
    assert row.patients_of_train == row.equal_images > 0
    assert row.auroc.leak.holds(0)  # two images of a hundred


def test_splits_that_cannot_leak_say_why(tmp_path: Path, no_ray: None) -> None:
    training_set = write_fingerprints(tmp_path, twins=0)
    found = hemo.leaks(**settings(training_set, tmp_path, shuffled_labels=False))
    assert [row.reason for row in found.card.rows] == ["no two patients have an image in common", "", "", ""]
    assert "by patient id: not measured, no two patients have an image in common." in found.text
    assert "One training each: what another seed would give is in no interval." in found.text


def test_all_are_trained_alike_and_tested_on_the_same_unseen_patients(measured: Leaks) -> None:
    rows = [row for row in measured.card.rows if not row.reason]
    assert len({(row.images["train"], row.images["val"], row.images["holdout"]) for row in rows}) == 1
    assert [row.seeds for row in rows] == [(0, 1)] * 6
    unseen = [
        pq.read_table(f"{measured.path}/records/{digest}/holdout.parquet")["image_id"].to_pylist()
        for row in rows
        for digest in row.records
    ]
    assert unseen == [unseen[0]] * 12
    assert len(unseen[0]) == rows[0].images["holdout"]
    assert len({name[:4] for name in unseen[0]}) * 6 == len(unseen[0])
    used = pq.read_table(f"{measured.path}/records/{rows[0].records[0]}/predictions.parquet")["patient"]
    assert not {name.partition("-")[0] for name in unseen[0]} & set(used.to_pylist())


def test_a_split_is_a_list_of_rows_with_the_images_of_the_training_set(measured: Leaks, training_set: str) -> None:
    assert sorted(path.name for path in Path(measured.path, "sets", "by_image").iterdir()) == [
        "card.json",
        "rows.parquet",
    ]
    folder = f"{measured.path}/sets/by_patient_shuffled"
    card = read_card(folder)
    assert (card.split, card.base.location) == ("by_patient", training_set)
    assert "labels are shuffled between patients" in card.reductions
    stored = read_split(training_set, "train", read_card(training_set))
    image = dict(zip(stored.image_id.tolist(), stored.images.pixels, strict=True))
    found = read_split(folder, "train", card)
    same = [name for name in found.image_id.tolist() if name in image]
    assert len(same) > 50
    for name, pixels in zip(found.image_id.tolist(), found.images.pixels, strict=True):
        np.testing.assert_array_equal(pixels, image.get(name, pixels))
    patients: dict[str, set[int]] = {str(name)[:4]: set() for name in found.image_id}
    for name, label in zip(found.image_id.tolist(), found.labels[:, 0].tolist(), strict=True):
        patients[name[:4]].add(label)
    assert all(len(labels) == 1 for labels in patients.values())
    assert any(labels != {int(name[1:]) % 2} for name, labels in patients.items())


def test_the_object_shows_itself(measured: Leaks) -> None:
    frame = measured.to_pandas()
    assert frame["labels"].tolist() == ["true"] * 4 + ["shuffled"] * 2
    assert frame["split"].tolist() == ["by_image", "by_study", "by_patient_id", "by_patient", "by_image", "by_patient"]
    assert frame["auroc_leak"].tolist() == [row.auroc.leak.value for row in measured.card.rows]
    assert "Leaks(" in repr(measured)
    assert measured._repr_html_().startswith("<ul><li>Split by image, the metrics are off by +")


def test_records_of_the_trials_are_ordinary_and_marked_leaky(measured: Leaks) -> None:
    records = read_records(f"{measured.path}/records")
    assert sorted({record.config.name for record in records}) == [
        f"{arm}, seed {seed}"
        for arm in ("by_image", "by_image_shuffled", "by_patient", "by_patient_id", "by_patient_shuffled", "by_study")
        for seed in (0, 1)
    ]
    assert split_name(next(record for record in records if record.split == "by_study")) == (
        "by_study (leaky: studies of one patient may be in several splits)"
    )


def test_what_is_complete_is_left_alone_and_what_is_another_refused(
    measured: Leaks,
    training_set: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def no_training(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(leaks, "_measure", no_training)
    again = settings(training_set, Path(measured.path).parent, seeds=2)
    assert hemo.leaks(**again).path == measured.path
    assert "is complete" in capsys.readouterr().err
    with pytest.raises(OutputError, match=r"holds leaks measured otherwise \(seeds 2 there, 3 now\); give"):
        hemo.leaks(**{**again, "seeds": 3})


def test_an_interrupted_run_goes_on_where_it_was(
    training_set: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_ray: None
) -> None:
    """The last split's training is interrupted; the trials of the others are not trained again."""
    trained: list[tuple[str, str]] = []

    def interrupted(job: TuneConfig) -> list[TrialRecord]:
        if len(trained) == 3:
            trained.append(("interrupted", ""))
            raise KeyboardInterrupt
        records = trained_here(job)
        trained.append((Path(job.training_set).name, records[0].finished))
        return records

    monkeypatch.setattr(leaks, "tune_models", interrupted)
    arguments = settings(training_set, tmp_path, shuffled_labels=False)
    with pytest.raises(KeyboardInterrupt):
        hemo.leaks(**arguments)
    assert not Path(arguments["out"], "card.json").exists()
    hemo.leaks(**arguments)
    assert trained[:3] == trained[4:7]
    assert [name for name, _ in trained[3:]] == ["interrupted", "by_image", "by_study", "by_patient_id", "by_patient"]


def test_a_failed_trial_ends_with_its_reason(
    training_set: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_ray: None
) -> None:
    def failing(job: TuneConfig) -> list[TrialRecord]:
        (record,) = trained_here(job)
        return [record.model_copy(update={"status": "failed", "reason": "loss is nan in epoch 2"})]

    monkeypatch.setattr(leaks, "tune_models", failing)
    problem = "1 of 1 trials of by_image failed; the first: loss is nan in epoch 2; run it again"
    with pytest.raises(TrialError, match=problem):
        hemo.leaks(**settings(training_set, tmp_path))


def test_a_checkpoint_that_is_gone_is_one_line(
    training_set: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_ray: None
) -> None:
    def without_weights(job: TuneConfig) -> list[TrialRecord]:
        records = trained_here(job)
        for record in records:
            Path(job.out, record.digest, "checkpoint", "weights.safetensors").unlink()
        return records

    monkeypatch.setattr(leaks, "tune_models", without_weights)
    with pytest.raises(SourceError, match=r"weights\.safetensors") as raised:
        hemo.leaks(**settings(training_set, tmp_path))
    assert len(str(raised.value).splitlines()) == 1


def test_one_split_on_ray(
    ray_cluster: None, training_set: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trial by Tune and its unseen patients by a task of Ray: the same predictions as in this process."""
    make_arms = leaks.make_arms
    monkeypatch.setattr(leaks, "make_arms", lambda *arguments: make_arms(*arguments)[:1])
    trial = {**TRIAL, "training": {**TRIAL["training"], "epochs": 2}}
    found = hemo.leaks(**settings(training_set, tmp_path, trial=trial))
    (row,) = found.card.rows
    assert row.rule == "by_image"
    (digest,) = row.records
    here = tmp_path / "here"
    record = run_to_record(read_record(f"{found.path}/records", digest).config, f"{found.path}/sets/by_image", here)
    key = TrialKeys(str(here), record.training_set).key(record.config)
    predicted_here([(key, record)], None, f"{found.path}/sets/by_image")
    for name in ("predictions.parquet", "holdout.parquet"):
        on_ray, in_process = (pq.read_table(f"{place}/{digest}/{name}") for place in (f"{found.path}/records", here))
        assert on_ray["image_id"].to_pylist() == in_process["image_id"].to_pylist()
        logits = [np.array(table["logits"].to_pylist()) for table in (on_ray, in_process)]
        np.testing.assert_allclose(*logits, atol=1e-4)


REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "official": ({"split": "official"}, "patients of its official splits may have the same numbers and be others"),
    "balanced": ({"before_balance": "train"}, "its train is balanced and its test is not; curate another set"),
    "unknown": (
        {"grouped_by": {"image": 48}},
        "the patient of 48 of 80 images is not known; convert with a pat",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_images_that_cannot_be_split_anew_are_refused(
    make_training_set: Callable[..., str], tmp_path: Path, name: str
) -> None:
    changes, problem = REFUSALS[name]
    folder = make_training_set()
    card = read_card(folder)
    if "before_balance" in changes:
        changes = {"before_balance": card.splits["train"]}
    if grouped_by := changes.pop("grouped_by", None):
        changes = {
            "splits": {**card.splits, "train": card.splits["train"].model_copy(update={"grouped_by": grouped_by})}
        }
    Path(folder, "card.json").write_text(card.model_copy(update=changes).model_dump_json())
    with pytest.raises(ConfigError, match=f"training_set: feedfacefeedface cannot be split anew: {problem}"):
        leaks.measure_leaks(LeaksConfig(training_set=folder, out=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()


def test_a_set_without_its_audit_is_refused(make_training_set: Callable[..., str], tmp_path: Path) -> None:
    config = LeaksConfig(
        training_set=make_training_set(), out=str(tmp_path / "out"), trial={"model": {"backbone": "none"}}
    )
    with pytest.raises(SourceError, match=r"/set has no audit\.parquet; remove the training set and run `hemo curate`"):
        leaks.measure_leaks(config)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"holdout_fraction": 0.05},
            r"holdout has too few patients .* \d \(of at least 10\).* larger holdout_fr",
        ),
        (
            {"test_fraction": 0.05},
            r"test has too few patients .* \(by_patient_id\); take more patients, or a l",
        ),
    ],
)
def test_too_few_patients_for_an_interval_are_refused_before_any_training(
    training_set: str, tmp_path: Path, changes: dict[str, float], problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem):
        hemo.leaks(**settings(training_set, tmp_path, **changes))
    assert not (tmp_path / "out").exists()


def test_images_of_patients_with_one_each_have_nothing_to_leak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def first_image_each(table: Any, *arguments: Any) -> Any:
        first = [name.endswith("-0") for name in table["image_id"].to_pylist()]
        return read_pool(table.filter(pa.array(first)), *arguments)

    read_pool = leaks.read_pool
    monkeypatch.setattr(leaks, "read_pool", first_image_each)
    with pytest.raises(ConfigError, match="there is nothing to leak: each patient has one image"):
        hemo.leaks(**settings(write_fingerprints(tmp_path, twins=0), tmp_path))


def test_fractions_leave_something_to_train_on() -> None:
    with pytest.raises(ValueError, match=r"holdout_fraction 0.4, val_fraction 0.1 and test_fraction 0.5 leave nothing"):
        LeaksConfig(training_set="s", out="o", holdout_fraction=0.4, test_fraction=0.5)


def test_a_sequence_model_is_refused_before_anything_is_read() -> None:
    model = {"backbone": "BiGRU(8)", "series": {"embeddings": "e"}}
    with pytest.raises(ValueError, match=r"BiGRU\(8\) reads embeddings of whole studies, and a split by image tears"):
        LeaksConfig.model_validate({"training_set": "s", "out": "o", "trial": {"model": model}})
