"""The cells of a grid, handed to Tune one by one, so that none begins when the time is over."""

import json
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

from hemo.cluster.budget import Budget
from hemo.config.trial import TrialConfig


class CellSearcher(Searcher):
    """Gives Tune each cell once, in the order of the grid."""

    def __init__(self, cells: Sequence[TrialConfig], budget: Budget) -> None:
        """Begin at the first.

        Args:
            cells: Trials to run.
            budget: When it is over, no trial is begun any more.
        """
        super().__init__()
        self._left, self._budget = deque(cells), budget
        self.begun = 0

    def suggest(self, trial_id: str) -> Any:
        """Return the next cell as a trial's config; Tune's own word for the end once all are begun, or time is over."""
        if not self._left or self._budget.is_over():
            return Searcher.FINISHED
        self.begun += 1
        return {"trial": self._left.popleft().model_dump(mode="json")}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Learn nothing: the records say how a cell ended."""

    def save(self, checkpoint_path: str) -> None:
        """Note what is left; nothing reads it, for a sweep goes on from its records."""
        names = [cell.name for cell in self._left]
        Path(checkpoint_path).write_text(json.dumps({"left": names}), encoding="utf-8")
