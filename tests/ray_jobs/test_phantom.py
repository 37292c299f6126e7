from pathlib import Path

import pytest

from hemo.config.convert import PhantomConfig
from hemo.config.load import load_config
from ray_jobs.phantom import main


def test_the_last_line_on_stdout_is_the_corpus(ray_cluster, tmp_path, capsys):
    main(["--out", str(tmp_path / "corpus"), "--slices", "4", "--faults", "false"])
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == str(tmp_path / "corpus")
    assert len(list((tmp_path / "corpus" / "stage_2_train").glob("ID_*.dcm"))) == 4


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "--out: is missing"),
        (["--slices", "5"], "faults need --slices 20 or more; or give --faults false"),
        (["--slices", "0"], "--slices: must be greater than 0"),
        (["--positive_fraction", "1.5"], "--positive_fraction: must be less than or equal to 0.6"),
        (["--slice", "30"], "did you mean --slices?"),
    ],
)
def test_wrong_input_ends_with_code_2_and_one_line(flags, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*(["--out", str(tmp_path / "corpus")] if flags else []), *flags])
    assert ended.value.code == 2
    shown = capsys.readouterr().err.splitlines()
    assert len(shown) == 1
    assert message in shown[0]


@pytest.mark.parametrize(("name", "slices", "faults"), [("demo", 600, True), ("benchmark", 3072, False)])
def test_conf_files_are_valid_and_state_their_cost(name, slices, faults, tmp_path):
    file = f"conf/phantom/{name}.yaml"
    config = load_config(PhantomConfig, ["--config", file, "--out", str(tmp_path)], job="phantom")
    assert (config.slices, config.faults) == (slices, faults)
    head = "".join(line for line in Path(file).read_text().splitlines() if line.startswith("#"))
    assert all(word in head for word in ("command:", "cost:", "expected:", file))
