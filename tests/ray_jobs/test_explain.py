"""The entry point of `explain`."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hemo.models.checkpoint import write_checkpoint
from hemo.models.classifier import build_model
from ray_jobs import explain
from tests.hemo.inference.test_predict import CARD


@pytest.fixture
def given(make_training_set: Callable[..., str], tmp_path: Path) -> list[str]:
    torch.manual_seed(0)
    model = build_model(CARD.model, channels=1, sides_px=(16, 16), classes=1)
    write_checkpoint(str(tmp_path / "checkpoint"), model, CARD)
    return ["--checkpoint", str(tmp_path), "--images", make_training_set()]


def test_the_hardest_cases_are_drawn(given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    command = [*given, "--out", str(out), "--highest_loss", "3"]
    explain.main(command)
    cases = json.loads((out / "cases.json").read_text())["cases"]
    assert [case["file"] for case in cases] == ["case-001.png", "case-002.png", "case-003.png"]
    assert cases[0]["loss"] >= cases[1]["loss"] >= cases[2]["loss"] > 0
    assert all((out / case["file"]).read_bytes().startswith(b"\x89PNG") for case in cases)
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 4
    assert shown[0].endswith(cases[0]["image_id"])
    assert shown[-1] == str(out)
    before = (out / "case-001.png").read_bytes()
    explain.main(command)
    assert (out / "case-001.png").read_bytes() == before


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_images_are_of_the_split_that_is_named(given: list[str], tmp_path: Path, split: str) -> None:
    explain.main([*given, "--out", str(tmp_path / "out"), "--highest_loss", "2", "--from_split", split])
    cases = json.loads((tmp_path / "out/cases.json").read_text())["cases"]
    assert [case["image_id"].split("-")[0] for case in cases] == [split, split]


def test_the_config_for_the_synthetic_corpus_gives_the_result_in_its_head(given: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    explain.main(["--config", "conf/explain/phantom.yaml", *given, "--out", str(out)])
    cases = [f"case-{number:03d}.png" for number in range(1, 5)]
    assert sorted(path.name for path in out.iterdir()) == [*cases, "cases.json", "log"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--target", "subdural"], "target: 'subdural' is no class of the checkpoint; it has any"),
        (["--image_ids", "[test-001]"], "holds other explanations"),
        (["--split", "val"], "--split is no flag of `hemo explain` (did you mean --from_split?)"),
    ],
)
def test_a_users_mistake_is_one_line(
    given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    out = str(tmp_path / "out")
    explain.main([*given, "--out", out, "--highest_loss", "1"])
    with pytest.raises(SystemExit) as ended:
        explain.main([*given, "--out", out, *words])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
