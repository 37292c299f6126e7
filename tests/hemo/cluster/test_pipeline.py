"""The line's order, what it refuses before it starts, and what it tells."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from hemo.cluster import pipeline
from hemo.cluster.pipeline import check_inputs, run_pipeline
from hemo.config.pipeline import PipelineConfig
from hemo.config.validation import merge, validated
from hemo.errors import ConfigError, HemoError, OutputError, SourceError

Calls = list[tuple[str, str]]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Stages that write down that they were called, with their output folder, and do nothing."""
    made: Calls = []

    def stand_in(stage: str) -> Any:
        return lambda config: made.append((stage, Path(config.out).name)) or f"{config.out}/{stage}.html"

    for stage in ("make_phantom", "convert_corpus", "curate_corpus", "tune_models", "write_report"):
        monkeypatch.setattr(pipeline, stage, stand_in(stage))
    monkeypatch.setattr(pipeline, "connected", lambda config: nullcontext())
    return made


def config(out: Path | str, **changes: Any) -> PipelineConfig:
    plain = {
        "out": str(out),
        "phantom": {"slices": 40},
        "convert": {"side_px": 64},
        "tune": {"grid": {"axes": {"model.backbone": ["resnet18", "mobilenetv3_small_050"]}}},
    }
    return validated(PipelineConfig, merge(plain, changes))


def test_stages_run_in_order_each_in_its_folder(
    calls: Calls, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_pipeline(config(tmp_path)) == f"{tmp_path}/report/write_report.html"
    assert calls == [
        ("make_phantom", "corpus"),
        ("convert_corpus", "converted"),
        ("curate_corpus", "training_set"),
        ("tune_models", "records"),
        ("write_report", "report"),
    ]
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines()[:2] == ["[1/5] phantom", "[1/5] phantom: done in 0.0 s"]
    assert shown.err.splitlines()[-1] == "[5/5] report: done in 0.0 s"


def test_without_a_phantom_the_line_starts_with_the_users_corpus(calls: Calls, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    source = {"source": str(tmp_path / "raw"), "corpus": "image_folder"}
    run_pipeline(config(tmp_path / "out", phantom=None, convert=source, curate={"labels": "source_class"}))
    assert [stage for stage, _ in calls] == ["convert_corpus", "curate_corpus", "tune_models", "write_report"]


def test_what_a_stage_raises_ends_the_line(calls: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(config: Any) -> str:
        raise HemoError("unit 3 failed")

    monkeypatch.setattr(pipeline, "convert_corpus", failing)
    with pytest.raises(HemoError, match="unit 3 failed"):
        run_pipeline(config(tmp_path))
    assert [stage for stage, _ in calls] == ["make_phantom"]


@pytest.mark.parametrize(
    ("changes", "error", "complaint"),
    [
        (
            {"tune": {"grid": {"axes": {"model.backbone": ["resnet18", "resnet5O"]}}}},
            ConfigError,
            "resnet5O.*did you mean",
        ),
        ({"tune": {"grid": {"axes": {"model.dropuot": [0.1]}}}}, ConfigError, "dropuot: no such key"),
        (
            {"tune": {"grid": None, "search": {"space": {"model.backbone": {"choices": ["vgg16", "nonet"]}}}}},
            ConfigError,
            "nonet",
        ),
        (
            {"tune": {"grid": {"axes": {"model.backbone": ["InceptionV3"]}}}},
            ConfigError,
            "InceptionV3 cannot take images of 64 x 64 px, it wants at least 75 px",
        ),
        (
            {"tune": {"grid": {"axes": {"model.side_px": [32, 65]}}}},
            ConfigError,
            "images of 64 x 64 px cannot be shrunk to 65 px, it wants at most 64",
        ),
        (
            {"tune": {"grid": {"axes": {"training.warmup_epochs": [1, 4]}}, "trial": {"training": {"epochs": 3}}}},
            ConfigError,
            "warmup_epochs: 4 of 3 epochs, the learning rate never reaches its peak",
        ),
        (
            {"tune": {"grid": None, "search": {"space": {"model.weights": {"choices": ["none", "/nowhere.pt"]}}}}},
            ConfigError,
            "model.weights: /nowhere.pt",
        ),
        ({"tune": {"trial": {"model": {"weights": "/nowhere.pt"}}}}, ConfigError, "model.weights: /nowhere.pt"),
        ({"convert": {"windows": ["brian"]}}, ConfigError, "brian"),
        ({"convert": {"pixels": "hu16"}}, ConfigError, "hu16 stores Hounsfield units.*use windows"),
        (
            {"phantom": None, "convert": {"source": "/nowhere", "corpus": "rsna"}},
            SourceError,
            "convert.source: /nowhere",
        ),
    ],
)
def test_what_cannot_work_is_refused_before_the_first_stage(
    calls: Calls, tmp_path: Path, changes: dict[str, Any], error: type[Exception], complaint: str
) -> None:
    with pytest.raises(error, match=complaint):
        run_pipeline(config(tmp_path, curate={"labels": "/labels.csv"}, **changes))
    assert calls == []


@pytest.mark.parametrize(
    ("tune", "complaint"),
    [
        ({"tracking": {"backend": "tensorboard"}}, r"^tracking\.backend: tensorboard writes to mounted disks only"),
        (
            {"grid": None, "search": {"space": {"seed": {"choices": [1, 2]}}}},
            r"^search\.storage: a journal needs a mounted disk and cannot lie in memory://out/records",
        ),
        (
            {"grid": None, "search": {"space": {"seed": {"choices": [1, 2]}}, "storage": "env:NO_SUCH_STUDY"}},
            r"^search\.storage: env:NO_SUCH_STUDY: no such variable",
        ),
    ],
)
def test_what_tune_cannot_write_to_a_bucket_is_refused_before_the_first_stage(
    calls: Calls, tune: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        run_pipeline(config("memory://out", tune=tune))
    assert calls == []


def test_missing_labels_are_refused(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    source = {"source": str(tmp_path / "raw"), "corpus": "rsna"}
    with pytest.raises(SourceError, match=r"curate.labels: .*/nowhere.csv does not exist; give a CSV or Parquet"):
        check_inputs(
            config(tmp_path / "out", phantom=None, convert=source, curate={"labels": str(tmp_path / "nowhere.csv")})
        )
    assert not (tmp_path / "out").exists()


def test_labels_from_the_table_of_files_need_such_a_table(tmp_path: Path) -> None:
    """And no key: under one the shards' card does not name the table."""
    table = tmp_path / "raw/files.csv"
    table.parent.mkdir()
    table.write_text("path\na.png\n")
    source = {"source": str(table), "corpus": "manifest", "public_ids": True}
    given = {"phantom": None, "convert": source, "curate": {"labels": "manifest"}}
    check_inputs(config(tmp_path / "out", **given))
    (tmp_path / "key").write_text("a secret of tests")
    (tmp_path / "key").chmod(0o600)
    keyed = source | {"public_ids": "by_corpus", "pseudonym_key": str(tmp_path / "key")}
    for convert in ({"source": str(tmp_path / "raw"), "corpus": "rsna"}, keyed):
        with pytest.raises(SourceError, match=r"curate\.labels: `manifest` needs convert\.corpus manifest without"):
            check_inputs(config(tmp_path / "out", **given | {"convert": convert}))


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(OutputError, match="out: cannot write in"):
        check_inputs(config(tmp_path / "out"))
