"""Cells handed out one by one."""

import json

from ray.tune.search import Searcher

from hemo.cluster.budget import Budget
from hemo.cluster.cells import CellSearcher
from hemo.config.trial import TrialConfig

CELLS = [TrialConfig(name=name) for name in "ab"]


def test_each_cell_once_in_order(tmp_path):
    searcher = CellSearcher(CELLS, Budget(60))
    assert searcher.suggest("1") == {"trial": CELLS[0].model_dump(mode="json")}
    searcher.on_trial_complete("1")
    searcher.save(str(tmp_path / "note"))
    assert json.loads((tmp_path / "note").read_text()) == {"left": ["b"]}
    assert searcher.suggest("2")["trial"]["name"] == "b"
    assert (searcher.suggest("3"), searcher.begun) == (Searcher.FINISHED, 2)


def test_no_cell_begins_when_the_time_is_over():
    searcher = CellSearcher(CELLS, Budget(0))
    assert (searcher.suggest("1"), searcher.begun) == (Searcher.FINISHED, 0)
