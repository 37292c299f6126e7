"""Every job that writes a folder refuses one in which another run is writing, before it needs Ray."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from hemo.cluster import pipeline
from hemo.cluster.convert.job import convert_corpus
from hemo.cluster.convert.plan import plan_conversion
from hemo.cluster.curate import curate_corpus
from hemo.cluster.embed import embed_images
from hemo.cluster.export import export_checkpoint
from hemo.cluster.leaks import measure_leaks
from hemo.cluster.phantom import make_phantom
from hemo.cluster.predict import predict_corpus
from hemo.cluster.ray_train import train_model
from hemo.cluster.tuning.sweep import tune_models
from hemo.config.convert import ConvertConfig, PhantomConfig, PlanConfig
from hemo.config.curate import CurateConfig
from hemo.config.document import DocumentConfig
from hemo.config.inference import EmbedConfig, ExplainConfig, ExportConfig, PredictConfig
from hemo.config.leaks import LeaksConfig
from hemo.config.pipeline import PipelineConfig
from hemo.config.report import ReportConfig
from hemo.config.tune import TrainConfig, TuneConfig
from hemo.curation.card import read_card
from hemo.errors import OutputError
from hemo.imaging.settings import image_settings
from hemo.inference.explain import explain_cases
from hemo.models.checkpoint import write_checkpoint
from hemo.models.classifier import build_model
from hemo.output_lock import LOCK_FILE, output_lock
from hemo.pseudonym import read_pseudonyms
from hemo.reporting.build import write_report
from hemo.reporting.documents.build import write_documents
from hemo.trials.key import TrialKeys
from ray_jobs import report
from tests.dicom_files import head_file
from tests.hemo.inference.test_predict import CARD
from tests.made_shards import write_conversion
from tests.test_conf import CONFIGS


@pytest.fixture
def inputs(tmp_path: Path, make_training_set: Callable[..., str], make_record: Callable[..., Any]) -> dict[str, str]:
    """A raw corpus, a conversion with labels, a training set, checkpoints of their images, and a record."""
    make_record({})
    (tmp_path / "corpus").mkdir()
    for number in range(2):
        (tmp_path / "corpus" / f"ID_{number}.dcm").write_bytes(head_file())
    rows = [{"patient": f"P{number}", "series": "S", "position_mm": float(number)} for number in range(12)]
    write_conversion(tmp_path / "shards", rows, unit_rows=6)
    labels = "".join(f"ID_{number:03d},{number % 2}\n" for number in range(12))
    (tmp_path / "labels.csv").write_text(f"Image,any\n{labels}")
    torch.manual_seed(0)
    model = build_model(CARD.model, channels=1, sides_px=(16, 16), classes=1)
    write_checkpoint(str(tmp_path / "checkpoint"), model, CARD)
    convert = ConvertConfig(source="/corpus", corpus="rsna", out="/out", side_px=16, windows=("brain",))
    image = image_settings(convert, "dicom", read_pseudonyms("")).model_dump(mode="json")
    write_checkpoint(str(tmp_path / "brain"), model, CARD.model_copy(update={"image": image}))
    return {
        "corpus": str(tmp_path / "corpus"),
        "shards": str(tmp_path / "shards"),
        "labels": str(tmp_path / "labels.csv"),
        "training_set": make_training_set(),
        "checkpoint": str(tmp_path / "checkpoint"),
        "brain": str(tmp_path / "brain"),
        "records": str(tmp_path / "records"),
    }


JOBS: dict[str, Callable[[dict[str, str], str], Any]] = {
    "phantom": lambda _, out: make_phantom(PhantomConfig(out=out, slices=2, faults=False)),
    "convert": lambda i, out: convert_corpus(ConvertConfig(source=i["corpus"], corpus="rsna", out=out)),
    "plan": lambda i, out: plan_conversion(PlanConfig(source=i["corpus"], corpus="rsna", out=out)),
    "curate": lambda i, out: curate_corpus(CurateConfig(shards=i["shards"], labels=i["labels"], out=out)),
    "document": lambda i, out: write_documents(DocumentConfig(records=i["records"], out=out)),
    "embed": lambda i, out: embed_images(EmbedConfig(source=i["training_set"], checkpoint=i["checkpoint"], out=out)),
    "explain": lambda i, out: explain_cases(
        ExplainConfig(checkpoint=i["checkpoint"], images=i["training_set"], out=out)
    ),
    "export": lambda i, out: export_checkpoint(ExportConfig(checkpoint=i["checkpoint"], out=out)),
    "predict": lambda i, out: predict_corpus(
        PredictConfig(source=i["corpus"], corpus="rsna", checkpoint=i["brain"], out=out)
    ),
    "leaks": lambda i, out: measure_leaks(LeaksConfig(training_set=i["training_set"], out=out, trial=TINY)),
    "report": lambda i, out: write_report(ReportConfig(records=i["records"], out=out)),
    "tune": lambda i, out: tune_models(
        TuneConfig(training_set=i["training_set"], out=out, trial=TINY, grid={"axes": {"seed": [0]}})
    ),
}
"""Job -> call that writes to `out`; `train` locks the trial's folder in it, `evaluate` that of the evaluation (see its
tests), `pipeline` that of each stage."""

TINY = {"model": {"backbone": "test_resnet"}, "training": {"batch_size": 8}}


@pytest.mark.parametrize("job", JOBS)
def test_a_second_run_in_a_folder_is_refused(job: str, inputs: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    with output_lock(str(out)):
        with pytest.raises(OutputError, match=r"another run is writing in .*/out \(process \d+ on .*since .*\); wait"):
            JOBS[job](inputs, str(out))
        assert [path.name for path in out.iterdir()] == [LOCK_FILE]


def test_train_refuses_a_trial_that_another_run_trains_and_no_other(inputs: dict[str, str], tmp_path: Path) -> None:
    """Alone or in a sweep: `tune` locks each trial it runs, see the tests of its searchers."""
    config = TrainConfig(training_set=inputs["training_set"], out=str(tmp_path / "out"), trial=TINY)
    key = TrialKeys(config.out, read_card(config.training_set).digest).key(config.trial)
    with output_lock(key.folder), pytest.raises(OutputError, match=rf"another run is writing in .*/out/{key.digest} "):
        train_model(config)
    assert not Path(key.folder).exists()


def test_a_stage_of_a_pipeline_is_refused_as_its_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "connected", lambda _: nullcontext())
    tune = {"trial": TINY, "grid": {"axes": {"seed": [0]}}}
    config = PipelineConfig.model_validate({"out": str(tmp_path), "phantom": {"slices": 20}, "tune": tune})
    with (
        output_lock(str(tmp_path / "corpus")),
        pytest.raises(OutputError, match=r"another run is writing .*/corpus "),
    ):
        pipeline.run_pipeline(config)


def test_every_job_that_writes_is_here() -> None:
    writing = {job for job, config in CONFIGS.items() if "out" in config.model_fields}
    assert writing == {*JOBS, "train", "pipeline", "evaluate"}


def test_the_exit_code_is_that_of_a_wrong_input(
    make_record: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = str(tmp_path / "records")
    make_record({})
    with output_lock(str(tmp_path / "out")), pytest.raises(SystemExit) as ended:
        report.main(["--records", records, "--out", str(tmp_path / "out")])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("hemo: out: another run is writing in")
