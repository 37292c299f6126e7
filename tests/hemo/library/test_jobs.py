"""One function a job: arguments, errors, documentation, and what they return."""

import inspect
import pickle
from pathlib import Path

import pandas as pd
import pytest

import hemo
from hemo.errors import ConfigError, SourceError
from hemo.library.jobs import Job
from hemo.library.outputs import Documents, Explanations, Export, Leaks, Predictions, Report
from tests.test_conf import CONFIGS

JOBS = sorted(CONFIGS)


@pytest.mark.parametrize("name", JOBS)
def test_a_function_takes_the_flags_of_its_job(name: str) -> None:
    function = getattr(hemo, name)
    assert isinstance(function, Job)
    assert function.config_type is CONFIGS[name]
    assert list(inspect.signature(function).parameters) == list(CONFIGS[name].model_fields)
    documented = function.__doc__.split("Args:")[1]
    assert all(f"    {field}: " in documented for field in CONFIGS[name].model_fields)


@pytest.mark.parametrize("name", JOBS)
def test_a_job_is_pickled_as_its_name(name: str) -> None:
    function = getattr(hemo, name)
    assert pickle.loads(pickle.dumps(function)) is function


def test_a_wrong_argument_is_named_before_anything_runs() -> None:
    with pytest.raises(ConfigError) as raised:
        hemo.convert(source="/x", corpus="rsna", sidepx=3)
    assert str(raised.value).splitlines() == [
        "hemo.convert: out: is missing and has no default",
        *[line for line in str(raised.value).splitlines() if "sidepx: no such key (did you mean side_px?)" in line],
    ]


def test_an_argument_without_keyword_is_refused() -> None:
    with pytest.raises(ConfigError) as raised:
        hemo.connect("ray://head:10001")
    assert str(raised.value) == "hemo.connect takes keyword arguments only, such as address=...; got 'ray://head:10001'"


def test_paths_and_objects_stand_for_their_folders(make_record, make_training_set, tmp_path: Path) -> None:
    record = make_record({"name": "only"})
    trials = hemo.Trials(tmp_path / "records")
    assert hemo.status(records=trials).to_pandas()["digest"].tolist() == [record.digest]
    assert hemo.status(records=tmp_path / "records").to_pandas()["digest"].tolist() == [record.digest]
    with pytest.raises(SourceError, match=f"{tmp_path}/records is no finished training set"):
        hemo.train(training_set=trials, out=tmp_path / "out")
    training_set = hemo.TrainingSet(make_training_set())
    assert hemo.TrainingSet(training_set).card == training_set.card
    with pytest.raises(ConfigError, match="predictions: have no column 'split'"):
        hemo.record_predictions(pd.DataFrame({"a": []}), training_set=training_set, out=trials, name="mine")


@pytest.mark.parametrize(
    "kind", [hemo.Shards, hemo.TrainingSet, hemo.Embeddings, hemo.Trial, hemo.Trials, Explanations, Leaks]
)
def test_an_object_that_a_job_reads_stands_for_its_folder(kind: type, tmp_path: Path) -> None:
    made = object.__new__(kind)
    made.path = str(tmp_path / "folder")
    assert Path(made) == tmp_path / "folder"


def test_a_file_with_changes(tmp_path: Path) -> None:
    (tmp_path / "report.yaml").write_text(f"records: {tmp_path}/nothing\nout: {tmp_path}/out\n")
    with pytest.raises(SourceError, match="nothing holds no trial records"):
        hemo.report.from_config(tmp_path / "report.yaml")
    with pytest.raises(SourceError, match="other holds no trial records"):
        hemo.report.from_config(tmp_path / "report.yaml", records=f"{tmp_path}/other")


def test_records_to_report_and_status(make_record, tmp_path: Path) -> None:
    make_record({"name": "only"})
    report = hemo.report(records=str(tmp_path / "records"), out=str(tmp_path / "report"), bootstrap_samples=20)
    assert report.grid["name"].tolist() == ["only"]
    assert "| only" in report.text
    assert "srcdoc" in report._repr_html_()
    status = hemo.status(records=str(tmp_path / "records"))
    assert status.to_pandas()["status"].tolist() == ["complete"]
    assert "1 complete" in str(status)


def test_records_to_documents(make_record, tmp_path: Path) -> None:
    make_record({"name": "only"})
    documents = hemo.document(records=str(tmp_path / "records"), out=str(tmp_path / "documents"))
    assert documents.model_card.startswith("---\nlibrary_name: hemo")
    assert documents._repr_markdown_().startswith("\n# only")
    assert documents.study_sheet.startswith("# Study sheet: only")


def test_backbones_as_a_table() -> None:
    facts = list(hemo.backbones(containing="test_resnet"))
    assert [fact.name for fact in facts] == ["test_resnet"]


def test_from_corpus_to_predictions(ray_cluster: None, tmp_path: Path) -> None:
    """Each function takes what the one before returned."""
    corpus = hemo.phantom(out=str(tmp_path / "corpus"), slices=40, seed=1)
    shards = hemo.convert(source=corpus, corpus="rsna", out=str(tmp_path / "shards"), side_px=16, unit_files=16)
    assert len(shards) + len(shards.rejects) == 40
    training_set = hemo.curate(
        shards=shards.path, labels=f"{corpus}/stage_2_train.csv", out=str(tmp_path / "set"), split="by_image", seed=2
    )
    trial = hemo.train(
        training_set=training_set.path,
        out=str(tmp_path / "records"),
        trial={"model": {"backbone": "CNN(4)"}, "training": {"epochs": 1}},
    )
    assert trial.record.status == "complete"
    predictions = hemo.predict(source=shards.path, checkpoint=trial.path, out=str(tmp_path / "predictions"))
    assert sorted(predictions.images["image_id"]) == sorted(shards.index["image_id"])
    assert "probability_any" in predictions._repr_html_()
    explained = hemo.explain(checkpoint=trial.path, images=training_set.path, out=str(tmp_path / "e"), highest_loss=1)
    assert len(explained.cases) == 1
    assert "data:image/png" in explained._repr_html_()


@pytest.mark.parametrize(
    ("kind", "job"),
    [
        (Predictions, "predict"),
        (Explanations, "explain"),
        (Report, "report"),
        (Documents, "document"),
        (Export, "export"),
    ],
)
def test_a_folder_of_something_else_is_one_line(kind: type, job: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=f"is no output of `hemo {job}`"):
        kind(str(tmp_path))
