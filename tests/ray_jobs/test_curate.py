"""The entry point of `curate`."""

from pathlib import Path

import pytest

from hemo.config.curate import CurateConfig
from hemo.config.load import load_config
from ray_jobs import curate
from ray_jobs.entry_point import WRONG_INPUT

CONF = sorted(Path(__file__).parents[2].glob("conf/curate/*.yaml"))


@pytest.mark.parametrize("file", CONF, ids=lambda file: file.name)
def test_every_config_that_comes_with_hemo_loads_and_says_how_it_is_run(file):
    assert load_config(CurateConfig, ["--config", str(file)], job="curate").out
    assert f"hemo curate --config conf/curate/{file.name}" in file.read_text()


@pytest.mark.usefixtures("ray_cluster")
def test_a_folder_without_shards_is_one_line_and_code_2(tmp_path, capsys):
    with pytest.raises(SystemExit) as exit_info:
        curate.main(["--shards", str(tmp_path), "--labels", "source_class", "--out", str(tmp_path / "set")])
    assert exit_info.value.code == WRONG_INPUT
    assert capsys.readouterr().err == (
        f"hemo: {tmp_path} is no finished conversion (it has no card.json); `hemo convert` makes one\n"
    )
    assert not (tmp_path / "set").exists()
