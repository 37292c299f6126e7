"""The entry point of `leaks`."""

from types import SimpleNamespace

import pytest

from hemo.errors import ConfigError
from hemo.library import jobs
from ray_jobs import leaks


def test_it_prints_what_leaks_are_worth_and_then_the_folder(monkeypatch, capsys):
    card = SimpleNamespace(conclusions=("Split by image, ...", "Split by patient, ..."))
    measured = {3: SimpleNamespace(path="/out", card=card)}
    monkeypatch.setattr(jobs.leaks, "run", lambda config: measured[config.seeds])
    leaks.main(["--training_set", "/set", "--out", "/out", "--seeds", "3"])
    assert capsys.readouterr().out.splitlines() == ["Split by image, ...", "Split by patient, ...", "/out"]


def test_a_set_that_cannot_be_split_is_the_users_fault(monkeypatch, capsys):
    def refuse(_):
        raise ConfigError("training_set: cannot be split anew")

    monkeypatch.setattr(jobs.leaks, "run", refuse)
    with pytest.raises(SystemExit) as ended:
        leaks.main(["--training_set", "/set", "--out", "/out"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == "hemo: training_set: cannot be split anew\n"


def test_help_states_the_cost(capsys):
    with pytest.raises(SystemExit):
        leaks.main(["--help"])
    assert "Cost: up to four trainings, and two with shuffled labels, for each seed" in capsys.readouterr().out
