"""`docs/how-to/tracking.md` agrees with the code."""

import re
import shlex
from pathlib import Path

import pytest

from hemo.cluster.tracking.trial_tracker import FINAL
from hemo.cluster.tracking.wandb import BEGIN_TIMEOUT_S, FINISH_TIMEOUT_S
from hemo.config.load import load_config
from hemo.config.tune import TrackingConfig
from hemo.errors import ConfigError
from tests.test_conf import CONFIGS

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/how-to/tracking.md").read_text()
COMMANDS = re.findall(r"^hemo (\w+)(.*)$", PAGE.replace("\\\n", " "), re.MULTILINE)


@pytest.mark.parametrize(("job", "words"), COMMANDS)
def test_its_commands_are_accepted(job: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert load_config(CONFIGS[job], shlex.split(words), job=job).tracking.backend != "none"


def test_it_shows_both_trackers() -> None:
    assert [re.findall(r"backend (\w+)", words) for _, words in COMMANDS] == [["tensorboard"], ["wandb"]]


def test_its_settings_and_numbers_are_those_of_the_code() -> None:
    assert set(re.findall(r"--tracking\.(\w+)", PAGE)) == set(TrackingConfig.model_fields)
    assert f"within\n{BEGIN_TIMEOUT_S:.0f} s" in PAGE
    assert f"{FINISH_TIMEOUT_S / 60:.0f} minutes after a trial's end" in PAGE
    assert f"`{FINAL}*`" in PAGE


def test_no_setting_takes_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    words = ["--config", "conf/search/phantom.yaml", "--tracking.api_key", "sesame"]
    with pytest.raises(ConfigError, match=r"api_key"):
        load_config(CONFIGS["tune"], words, job="tune")
