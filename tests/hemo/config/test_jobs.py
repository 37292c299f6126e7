"""What the jobs' configs refuse, and how the pipeline wires its stages."""

from typing import Any

import pytest
from pydantic import ValidationError

from hemo.config.convert import ConvertConfig
from hemo.config.curate import CurateConfig
from hemo.config.pipeline import PipelineConfig
from hemo.config.trial import ModelConfig, TrialConfig
from hemo.config.tune import Choices, GridConfig, Range, SearchConfig, TuneConfig
from hemo.config.validation import validated
from hemo.errors import ConfigError

CORPUS: dict[str, Any] = {"source": "/in", "corpus": "rsna", "out": "/out"}
SWEEP: dict[str, Any] = {"training_set": "/set", "out": "/records"}
GRID: dict[str, Any] = {"axes": {"model.backbone": ["a", "b"]}}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"corpus": "dicom"}, "a dicom corpus may name patients: give --pseudonym_key FILE"),
        ({"public_ids": True, "pseudonym_key": "/key"}, "give one of the two"),
        ({"public_ids": False}, "--public_ids false needs --pseudonym_key FILE"),
        ({"public_classes": ["NORMAL"]}, "--public_classes needs --pseudonym_key FILE; without a key all classes are"),
        ({"pseudonym_key": "/key", "public_classes": [""]}, "at least 1 character"),
        ({"patient_pattern": "person("}, "is no regular expression"),
        ({"patient_pattern": "person"}, "needs a group in parentheses"),
        ({"windows": []}, "at least 1 item"),
    ],
)
def test_convert_refuses(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ConvertConfig.model_validate({**CORPUS, **given})


@pytest.mark.parametrize("settled", [{"public_ids": True}, {"pseudonym_key": "/key"}])
def test_a_dicom_corpus_is_taken_once_names_are_settled(settled: dict[str, Any]) -> None:
    assert ConvertConfig.model_validate({**CORPUS, "corpus": "dicom", **settled}).corpus == "dicom"


def test_fractions_must_leave_training_rows() -> None:
    with pytest.raises(ValidationError, match=r"val_fraction 0.5 and test_fraction 0.5 leave nothing to train on"):
        CurateConfig(shards="/s", labels="source_class", out="/o", val_fraction=0.5, test_fraction=0.5)


def test_the_name_of_a_trial_decides_nothing() -> None:
    assert TrialConfig(name="a").deciding() == TrialConfig(name="b").deciding()
    assert TrialConfig(seed=1).deciding() != TrialConfig(seed=2).deciding()
    assert TrialConfig(model=ModelConfig(dropout=0.1)).deciding()["model"]["dropout"] == 0.1


@pytest.mark.parametrize("both", [{}, {"grid": GRID, "search": {"space": {"a": {"choices": [1]}}}}])
def test_tune_needs_a_grid_or_a_search(both: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="give either `grid` or `search`"):
        TuneConfig.model_validate({**SWEEP, **both})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"objectives": ["val_loss"]}, "objectives val_loss must be two or more different ones; for one, metric"),
        ({"objectives": ["val_loss", "val_loss"]}, "two or more different ones"),
        ({"objectives": ["val_auroc", "latency_ms"]}, "metric val_loss, which chooses among the Pareto front, is none"),
        (
            {"objectives": ["val_loss", "latency_ms"]},
            "scheduler asha compares trials by one metric, and there are 2 objec",
        ),
        ({"objectives": ["val_loss", "speed"]}, "latency_ms"),
    ],
)
def test_objectives_that_cannot_be_searched_are_refused(given: dict[str, Any], message: str) -> None:
    search = {"space": {"seed": {"choices": [0, 1]}}, **given}
    with pytest.raises(ValidationError, match=message):
        TuneConfig.model_validate({**SWEEP, "search": search})


def test_a_search_optimises_its_objectives_or_its_metric() -> None:
    space = {"seed": {"choices": [0, 1]}}
    both = {"objectives": ["val_auroc", "latency_ms"], "metric": "val_auroc", "scheduler": "none"}
    assert SearchConfig.model_validate({"space": space, **both}).optimised == ("val_auroc", "latency_ms")
    assert SearchConfig.model_validate({"space": space, "metric": "val_accuracy"}).optimised == ("val_accuracy",)


def test_an_empty_grid_is_refused() -> None:
    with pytest.raises(ValidationError, match="grid needs `cells` or `axes`"):
        GridConfig()


def test_an_axis_without_values_is_refused() -> None:
    grid = {"axes": {"model.backbone": ["VGG16"], "training.learning_rate": []}}
    with pytest.raises(ConfigError, match=r"^--grid\.axes\.training\.learning_rate: must have an entry$"):
        validated(TuneConfig, {**SWEEP, "grid": grid})


def test_a_search_space_holds_choices_and_ranges() -> None:
    space = {"a": {"choices": ["x", 2]}, "b": {"low": 1e-5, "high": 1e-3, "log": True}}
    search = TuneConfig.model_validate({**SWEEP, "search": {"space": space}}).search
    assert search
    assert search.space == {"a": Choices(choices=("x", 2)), "b": Range(low=1e-5, high=1e-3, log=True)}


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"low": 1, "hig": 2}, r"hig: no such key \(did you mean high\?\); known here: choices, low, high, log"),
        ({"choices": []}, r"^--search.space.model.dropout.choices: must have an entry$"),
        ({"low": 3, "high": 2}, r"^--search.space.model.dropout: low 3 must be below high 2"),
        ({"low": 0, "high": 2, "log": True}, "above 0 where log is true"),
        (0.5, r"^--search.space.model.dropout: must be `key: value` lines or {key: value}, not 0.5$"),
    ],
)
def test_an_error_in_a_search_space_is_about_one_alternative_only(values: Any, line: str) -> None:
    with pytest.raises(ConfigError, match=line) as caught:
        validated(TuneConfig, {**SWEEP, "search": {"space": {"model.dropout": values}}})
    assert "WindowConfig" not in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 2


def test_the_pipeline_derives_the_folders_of_its_stages_from_out() -> None:
    config = PipelineConfig.model_validate({"out": "/o", "phantom": {"slices": 40}, "tune": {"grid": GRID}})
    assert config.phantom
    assert (config.phantom.out, config.convert.source, config.convert.corpus) == ("/o/corpus", "/o/corpus", "rsna")
    assert (config.curate.shards, config.curate.labels) == ("/o/converted", "/o/corpus/stage_2_train.csv")
    assert (config.tune.training_set, config.report.records) == ("/o/training_set", "/o/records")
    assert config.report.out == "/o/report"


def test_labels_are_looked_up_under_the_pseudonyms_of_the_shards() -> None:
    stages = {"convert": {**CORPUS, "pseudonym_key": "/key"}, "curate": {"labels": "/l.csv"}, "tune": {"grid": GRID}}
    assert PipelineConfig.model_validate({"out": "/o", **stages}).curate.pseudonym_key == "/key"


def test_a_folder_given_for_a_stage_is_kept() -> None:
    stages = {"convert": CORPUS, "curate": {"labels": "/labels.csv"}, "tune": {"grid": GRID}, "report": None}
    config = PipelineConfig.model_validate({"out": "/o", **stages})
    assert config.phantom is None
    assert (config.convert.source, config.convert.out) == ("/in", "/out")
    assert (config.curate.labels, config.curate.shards) == ("/labels.csv", "/o/converted")


def test_a_pipeline_without_out_is_one_error() -> None:
    with pytest.raises(ConfigError) as caught:
        validated(PipelineConfig, {"phantom": {}, "tune": {"grid": GRID}})
    assert str(caught.value) == "--out: is missing and has no default"
