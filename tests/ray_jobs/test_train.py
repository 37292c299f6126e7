"""The entry point of `train`."""

from pathlib import Path

import pytest

from hemo.config.load import load_config
from hemo.config.tune import TrainConfig
from ray_jobs import train

CONF = Path(__file__).parents[2] / "conf" / "train"


@pytest.mark.parametrize("file", sorted(path.name for path in CONF.glob("*.yaml")))
def test_conf_files_are_valid_and_say_how_to_run_them(file: str) -> None:
    config = load_config(TrainConfig, ["--config", str(CONF / file)], job="train")
    assert config.trial.name
    assert f"#   hemo train --config conf/train/{file}" in (CONF / file).read_text()


def test_an_unknown_flag_is_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        train.main(["--training_set", str(tmp_path), "--out", str(tmp_path / "out"), "--no_such_flag", "1"])
    assert ended.value.code == 2
    assert "--no_such_flag" in capsys.readouterr().err


@pytest.mark.usefixtures("ray_cluster")
def test_a_folder_that_is_no_training_set_is_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        train.main(["--training_set", str(tmp_path), "--out", str(tmp_path / "out")])
    assert ended.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"hemo: {tmp_path} is no finished training set (it has no card.json); `hemo curate` makes one"]
