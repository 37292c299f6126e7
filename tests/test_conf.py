"""Every file in conf states its command in its head, and that command is accepted."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from hemo.config.convert import ConvertConfig, PhantomConfig, PlanConfig
from hemo.config.curate import CurateConfig
from hemo.config.document import DocumentConfig
from hemo.config.inference import EmbedConfig, EvaluateConfig, ExplainConfig, ExportConfig, PredictConfig
from hemo.config.leaks import LeaksConfig
from hemo.config.load import load_config
from hemo.config.pipeline import PipelineConfig
from hemo.config.report import BackbonesConfig, DoctorConfig, ReportConfig, StatusConfig, WatchConfig
from hemo.config.tune import TrainConfig, TuneConfig
from hemo.config.types import Config
from hemo.corpus.labels import RSNA_CLASSES
from hemo.curation.card import read_card
from hemo.sweeps.grid import grid_trials
from hemo.trials.checks import check_trials

ROOT = Path(__file__).parents[1]
FILES = sorted(str(file.relative_to(ROOT)) for file in (ROOT / "conf").rglob("*.yaml"))
CONFIGS: dict[str, type[Config]] = {
    "backbones": BackbonesConfig,
    "doctor": DoctorConfig,
    "convert": ConvertConfig,
    "curate": CurateConfig,
    "document": DocumentConfig,
    "embed": EmbedConfig,
    "evaluate": EvaluateConfig,
    "explain": ExplainConfig,
    "export": ExportConfig,
    "leaks": LeaksConfig,
    "phantom": PhantomConfig,
    "pipeline": PipelineConfig,
    "plan": PlanConfig,
    "predict": PredictConfig,
    "report": ReportConfig,
    "status": StatusConfig,
    "train": TrainConfig,
    "tune": TuneConfig,
    "watch": WatchConfig,
}


@pytest.mark.parametrize("file", FILES)
def test_the_command_in_its_head_is_accepted(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    head = re.match(r"(#.*\n)+", (ROOT / file).read_text())
    assert head, f"{file} must begin with a comment: command, cost, expected result"
    command = re.search(r"\bhemo (\w+) (--config .*)$", head[0], re.MULTILINE)
    assert command, f"{file} must state its command: `hemo JOB --config {file} ...`"
    words = shlex.split(command[2])
    assert words[:2] == ["--config", file]
    load_config(CONFIGS[command[1]], words, job=command[1])


@pytest.mark.parametrize(
    ("file", "loss"), [("train/rsna", "rsna"), ("train/phantom", "default"), ("recipe/strong_head_ct", "rsna")]
)
def test_a_recipe_suits_a_set_like_its_own(make_training_set: Callable[..., str], file: str, loss: str) -> None:
    """But for the starting weights, which would have to be fetched."""
    flags = ["--config", str(ROOT / f"conf/{file}.yaml"), "--training_set", "set", "--out", "records"]
    config = load_config(TrainConfig, flags, job="train")
    card = read_card(make_training_set(classes=RSNA_CLASSES, channels=("brain", "subdural", "soft")))
    model = config.trial.model.model_copy(update={"weights": "none"})
    sized = card.model_copy(update={"height_px": 64, "width_px": 64})
    check_trials({"": config.trial.model_copy(update={"model": model})}, sized)
    assert config.trial.training.loss == loss


def test_the_recipes_for_x_rays_suit_one_set_and_tune_compares_them(make_training_set: Callable[..., str]) -> None:
    """Both are of the same class and backbone, so that a table holds both; they differ by what a recipe is."""
    card = read_card(make_training_set(classes=("NORMAL", "PNEUMONIA"), channels=("r", "g", "b")))
    sized = card.model_copy(update={"height_px": 64, "width_px": 64})
    trials = []
    for recipe in ("published", "strong"):
        flags = ["--config", str(ROOT / f"conf/recipe/{recipe}.yaml"), "--training_set", "set", "--out", "records"]
        config = load_config(TuneConfig, [*flags, "--grid.axes", "{seed: [0, 1, 2]}"], job="tune")
        assert config.grid is not None
        trials += grid_trials(config.trial, config.grid)
    without = [
        trial.model_copy(update={"model": trial.model.model_copy(update={"weights": "none"})}) for trial in trials
    ]
    check_trials({f"{trial.name}, seed {trial.seed}": trial for trial in without}, sized)
    assert [trial.seed for trial in trials] == [0, 1, 2, 0, 1, 2]
    assert {(trial.model.backbone, trial.target) for trial in trials} == {("tf_efficientnet_lite0", "PNEUMONIA")}
    assert [trial.training.ema_decay > 0 for trial in trials] == [False] * 3 + [True] * 3
