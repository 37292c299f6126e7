"""Trials of sequence models, from config to record."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest
import torch

from hemo.cluster.ray_train import print_findings
from hemo.config.trial import STUDIES, TrainingConfig, TrialConfig
from hemo.curation.card import read_card
from hemo.errors import ConfigError
from hemo.models.checkpoint import load_checkpoint, load_sequence_checkpoint
from hemo.models.sequence import SequenceClassifier
from hemo.shards.embeddings import read_embeddings, read_sequence_inputs
from hemo.training.data.dataset import read_training_set, select_splits
from hemo.training.data.read_studies import read_studies
from hemo.training.distributed import Worker
from hemo.trials.checks import check_studies, check_trials
from hemo.trials.make_record import unlabelled_notes
from hemo.trials.record import STUDY_PREDICTIONS, TrialRecord, read_predictions
from hemo.trials.run import evaluate_on_test, run_trial, trial_data
from tests.series_sets import SLICES, SeriesSet, true_label
from tests.trial_runs import run_to_record, trial_key

Maker = Callable[..., SeriesSet]

FIT_OF_TWO = Path(__file__).parents[1] / "training" / "fit_of_two.py"


def test_a_sequence_model_sees_what_slices_alone_do_not_show(make_series_set: Maker, tmp_path: Path) -> None:
    made = make_series_set(studies={"train": 60, "val": 12, "test": 12})
    record = run_to_record(made.trial(epochs=12), made.training_set, tmp_path)
    assert (record.status, record.rows) == ("complete", {"train": 360, "val": 72, "test": 72})
    assert record.positives == {"train": (60,), "val": (12,), "test": (12,)}
    assert record.image == "1 x 16 x 16"
    assert record.latency_ms is None
    # by its own brightness a slice has AUROC 0.9: of 60 negative slices 12 are as bright as the 12 positive ones
    assert record.metrics["test"]["auroc"] > 0.97
    of_test = record.study_metrics["test"]
    assert set(of_test) == {"sequence", "max", "noisy_or"}
    assert (of_test["sequence"].studies, set(record.study_metrics)) == (12, {"val", "test"})
    assert of_test["sequence"].metrics["auroc"] > 0.95
    slices = read_predictions(str(tmp_path), record.digest)
    assert len(slices) == 144
    studies = read_predictions(str(tmp_path), record.digest, STUDY_PREDICTIONS)
    assert studies["image_id"].to_pylist()[12:15] == ["study-test-0", "study-test-1", "study-test-10"]
    by_slice = slices.filter(pc.equal(slices["split"], "test"))
    logits = np.array(by_slice["logits"].to_pylist())[:, 0].reshape(12, SLICES)
    positive = np.array(studies["labels"].to_pylist())[12:, 0] == 1
    expected = np.mean(logits.max(axis=1)[positive][:, None] > logits.max(axis=1)[~positive])
    assert of_test["max"].metrics["auroc"] == pytest.approx(expected)


def require_recorded_logits(model: SequenceClassifier, made: SeriesSet, record: TrialRecord, records: Path) -> None:
    """Check that a loaded model gives the logits that its trial recorded of the slices of test."""
    test = read_studies(made.training_set, record.config.model.series).test
    (packed,) = test.images.batches([np.flatnonzero(~test.images.is_study)])
    stored = read_predictions(str(records), record.digest)
    expected = np.array(stored.filter(pc.equal(stored["split"], "test"))["logits"].to_pylist())
    with torch.no_grad():
        np.testing.assert_allclose(model(torch.from_numpy(packed)).numpy(), expected, atol=1e-5)


def test_a_checkpoint_gives_the_recorded_logits_again(make_series_set: Maker, tmp_path: Path) -> None:
    made = make_series_set()
    record = run_to_record(made.trial(epochs=1), made.training_set, tmp_path)
    checkpoint = f"{tmp_path}/{record.digest}/checkpoint"
    model, card, embedded_by = load_sequence_checkpoint(checkpoint)
    assert (card.classes, embedded_by.dimension, embedded_by.inputs["source"]) == (("any",), 4, "0123")
    require_recorded_logits(model, made, record, tmp_path)
    with pytest.raises(ConfigError, match=r"sequence model BiGRU\(8\).*takes embeddings"):
        load_checkpoint(checkpoint)


@pytest.mark.parametrize("backbone", ["BiGRU(8)", "Transformer(8)"])
def test_a_killed_trial_goes_on_as_if_undisturbed(make_series_set: Maker, tmp_path: Path, backbone: str) -> None:
    made = make_series_set()
    config = made.trial(backbone)
    whole = run_to_record(config, made.training_set, tmp_path / "whole")
    key = trial_key(config, made.training_set, tmp_path / "cut")
    epochs = run_trial(key, made.training_set, worker=Worker(), data=read_training_set(made.training_set))
    next(epochs)
    epochs.close()
    resumed = run_to_record(config, made.training_set, tmp_path / "cut")
    assert [epoch.val for epoch in resumed.epochs] == [epoch.val for epoch in whole.epochs]
    assert (resumed.metrics, resumed.study_metrics) == (whole.metrics, whole.study_metrics)


def test_labels_of_studies_alone_make_studies_the_examples(make_series_set: Maker, tmp_path: Path) -> None:
    studies = {"train": 60, "val": 12, "test": 12}
    made = make_series_set(studies=studies, label=lambda number, _: int(number // SLICES % 2 == 0))
    record = run_to_record(made.trial(labels="study", epochs=16), made.training_set, tmp_path)
    assert (record.rows, record.positives["train"], record.study_metrics) == (studies, (30,), {})
    assert record.metrics["test"]["auroc"] > 0.9
    predictions = read_predictions(str(tmp_path), record.digest)
    assert predictions["image_id"].to_pylist()[0] == "study-val-0"


def test_studies_without_a_label_are_counted_as_studies(make_series_set: Maker) -> None:
    """Of the second study of each split one slice has no label, and no other one is positive."""
    made = make_series_set(label=lambda number, _: None if number == SLICES else int(number // SLICES % 2 == 0))
    config = made.trial(labels="study")
    data = read_studies(made.training_set, config.model.series)
    assert unlabelled_notes(select_splits(data, config), data.card, STUDIES) == [
        f"1 study of {split} left out: blank label of any (1 image)" for split in ("train", "val", "test")
    ]


def test_the_digest_covers_what_made_the_embeddings_and_not_where_they_are(
    make_series_set: Maker, tmp_path: Path
) -> None:
    made = make_series_set()
    digest = trial_key(made.trial(), made.training_set, tmp_path).digest
    Path(made.embeddings).rename(tmp_path / "moved")
    moved = replace(made, embeddings=str(tmp_path / "moved"))
    assert trial_key(moved.trial(), made.training_set, tmp_path).digest == digest
    card = tmp_path / "moved" / "card.json"
    card.write_text(card.read_text().replace("0123", "0124"))
    assert trial_key(moved.trial(), made.training_set, tmp_path).digest != digest


def test_test_is_read_for_the_selected_trial_of_a_search(make_series_set: Maker, tmp_path: Path) -> None:
    made = make_series_set()
    config = made.trial()
    whole = run_to_record(config, made.training_set, tmp_path / "whole")
    held_back = replace(read_training_set(made.training_set, streaming=True), test=None)
    key = trial_key(config, made.training_set, tmp_path / "search")
    searched = run_to_record(config, made.training_set, tmp_path / "search", data=held_back)
    assert (set(searched.metrics), set(searched.study_metrics)) == ({"train", "val"}, {"val"})
    tested = evaluate_on_test(key, searched, trial_data(config, made.training_set, None), Worker())
    assert tested.metrics["test"] == pytest.approx(whole.metrics["test"], rel=1e-6)
    for way, found in tested.study_metrics["test"].items():
        assert found.metrics == pytest.approx(whole.study_metrics["test"][way].metrics, rel=1e-6)
    name = STUDY_PREDICTIONS
    assert read_predictions(key.records, key.digest, name).num_rows == 24


def test_classes_weigh_alike_in_the_loss_of_test_whoever_reads_it(make_series_set: Maker, tmp_path: Path) -> None:
    """A sixth of the slices and half of the studies have the class: both are learned from."""
    made = make_series_set()
    config = made.trial(epochs=1)
    config = config.model_copy(update={"training": config.training.model_copy(update={"loss": "class_weighted"})})
    whole = run_to_record(config, made.training_set, tmp_path / "whole")
    held_back = replace(read_training_set(made.training_set, streaming=True), test=None)
    key = trial_key(config, made.training_set, tmp_path / "search")
    searched = run_to_record(config, made.training_set, tmp_path / "search", data=held_back)
    tested = evaluate_on_test(key, searched, trial_data(config, made.training_set, None), Worker())
    assert tested.metrics["test"]["loss"] == pytest.approx(whole.metrics["test"]["loss"], rel=1e-6)


def test_a_split_without_a_study_whose_label_is_complete_has_no_metrics_of_studies(
    make_series_set: Maker, tmp_path: Path
) -> None:
    """The two studies of val, and of test, have one slice without a label, the others without blood."""

    def label(number: int, _: str) -> int | None:
        if number >= 2 * SLICES:
            return true_label(number)
        return None if number % SLICES == 0 else 0

    made = make_series_set(studies={"train": 12, "val": 2, "test": 2}, label=label)
    config = made.trial(epochs=1)
    record = run_to_record(config, made.training_set, tmp_path / "whole")
    assert (record.status, record.rows["test"], record.study_metrics) == ("complete", 10, {})
    assert read_predictions(str(tmp_path / "whole"), record.digest, STUDY_PREDICTIONS).num_rows == 0
    held_back = replace(read_training_set(made.training_set, streaming=True), test=None)
    key = trial_key(config, made.training_set, tmp_path / "search")
    searched = run_to_record(config, made.training_set, tmp_path / "search", data=held_back)
    tested = evaluate_on_test(key, searched, trial_data(config, made.training_set, None), Worker())
    assert (tested.study_metrics, set(tested.metrics)) == ({}, {"train", "val", "test"})


def test_an_encoder_of_another_training_set_limits_what_a_record_says(
    make_series_set: Maker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make_series_set()
    config, card = made.trial(epochs=1), Path(made.embeddings, "card.json")
    reductions = []
    for trained_on in ("", "feedfacefeedface", "0123456789abcdef"):
        card.write_text(json.dumps({**json.loads(card.read_text()), "trained_on": trained_on}))
        record = run_to_record(config, made.training_set, tmp_path / f"records{trained_on}")
        reductions.append(record.reductions[1:])
        print_findings([config, config], read_card(made.training_set))
    note = (
        "embeddings are by a model trained on another training set, 0123456789abcdef: it may have seen patients "
        "of val and test"
    )
    assert reductions == [(), (), (note,)]
    assert capsys.readouterr().err.splitlines().count(note) == 1


def test_too_many_workers_and_options_are_refused(make_series_set: Maker) -> None:
    with pytest.raises(ConfigError, match="4 studies a step, of 9 to train on, leave one of 4 workers"):
        check_studies(9, worker=Worker(count=4), training=TrainingConfig(batch_size=4))
    check_studies(8, worker=Worker(count=4), training=TrainingConfig(batch_size=4))
    made = make_series_set()
    wide = made.trial("Transformer(3)")
    with pytest.raises(ConfigError, match="layers of one even width"):
        check_trials({"": wide}, read_card(made.training_set))


def test_two_workers_learn_as_one_does(make_series_set: Maker, tmp_path: Path) -> None:
    """Without dropout, whose draws depend on the worker."""
    made = make_series_set(label=lambda number, _: None if number < SLICES else true_label(number))
    config = made.trial()
    config = config.model_copy(update={"model": config.model.model_copy(update={"dropout": 0.0})})
    alone = run_to_record(config, made.training_set, tmp_path / "records")
    command = [sys.executable, str(FIT_OF_TWO), str(tmp_path), config.model_dump_json()]
    processes = [subprocess.Popen([*command, str(rank)], stdout=subprocess.PIPE, text=True) for rank in range(2)]
    printed = [json.loads(process.communicate(timeout=300)[0].splitlines()[-1]) for process in processes]
    assert printed[0] == printed[1] == pytest.approx([epoch.val["loss"] for epoch in alone.epochs], abs=1e-4)
    assert abs(printed[0][2] - printed[0][0]) > 1e-3


def test_images_are_as_before(make_training_set: Callable[..., str]) -> None:
    splits = select_splits(read_training_set(make_training_set()), TrialConfig())
    assert (splits.studies, len(splits.train.of_studies(True)), len(splits.train.of_studies(False))) == ({}, 0, 48)


def test_a_sequence_model_reads_the_probabilities_of_slices(make_series_set: Maker, tmp_path: Path) -> None:
    """What is bright is seen in the probabilities alone: the vectors are noise."""
    made = make_series_set(studies={"train": 60, "val": 12, "test": 12}, with_probabilities=True)
    record = run_to_record(made.trial(epochs=12), made.training_set, tmp_path)
    assert record.metrics["test"]["auroc"] > 0.95
    model, _, embedded_by = load_sequence_checkpoint(f"{tmp_path}/{record.digest}/checkpoint")
    assert embedded_by.classes == ("any",)
    assert model.backbone.project.in_features == 3 * (4 + 1) + 3
    ids, vectors = read_embeddings(made.embeddings)
    assert (vectors.shape[1], "probabilities" in ids.column_names) == (4, False)
    with_head = read_sequence_inputs(made.embeddings)[1]
    assert sorted(set(with_head[:, 4].tolist())) == pytest.approx([0.1, 0.9])
    np.testing.assert_array_equal(with_head[:, :4], vectors)
    require_recorded_logits(model, made, record, tmp_path)
