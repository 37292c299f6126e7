"""What a sweep says while it runs: a line for each trial that ends, and from time to time how far the others are."""

import math
import time
from datetime import UTC, datetime
from typing import Any

from ray import tune
from ray.tune.experiment import Trial

from hemo.config.trial import TrialConfig
from hemo.config.tune import Objective
from hemo.reporting.status_table import heading, trial_table
from hemo.sweeps.objectives import cost
from hemo.training.reporting import to_stderr
from hemo.trials.progress import PlannedTrial, SweepPlan, write_plan
from hemo.trials.record import is_finished, record_digest
from hemo.trials.status import SweepStatus, TrialStatus, planned_status

TABLE_EVERY_S = 30.0

SHOWN: tuple[Objective, ...] = ("val_loss", "val_accuracy", "val_auroc", "latency_ms")


class TrialLines(tune.Callback):
    """Says lines on standard error, and keeps the trials whose process was lost."""

    def __init__(self, plan: SweepPlan, metric: Objective, *, left: int, out: str, training_set_digest: str) -> None:
        """Begin with none of the trials that are left.

        Args:
            plan: Of the sweep.
            metric: What the best is told by.
            left: Trials to run.
            out: Folder of records.
            training_set_digest: What the digests of trials depend on.
        """
        self.lost: list[tuple[dict[str, Any], str]] = []
        self._plan, self._metric, self._left = plan, metric, left
        self._out, self._training_set = out, training_set_digest
        self._ended, self._best, self._least_cost = 0, "", math.inf
        self._seen: dict[str, TrialStatus] = {}  # by digest; of trials that ended
        self._begun: dict[str, str] = {}  # Tune's id -> digest
        self._shown_at = time.monotonic()

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Add a trial that a search asked for to its plan; a point that was drawn again is one trial less."""
        if trial.trial_id in self._begun:
            return  # tried again
        config = TrialConfig.model_validate(trial.config["trial"])
        digest = record_digest(config, self._training_set)
        if digest not in {planned.digest for planned in self._plan.trials}:
            asked = PlannedTrial(digest=digest, name=config.name, epochs=config.training.epochs)
            self._replan(trials=(*self._plan.trials, asked))
        elif digest in self._begun.values() or is_finished(self._out, digest, pruned_counts=True):
            self._replan(count=self._plan.count - 1)
        self._begun[trial.trial_id] = digest

    def _replan(self, **changes: Any) -> None:
        self._plan = self._plan.model_copy(update=changes)
        write_plan(self._out, self._plan)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Say the table again when it is time."""
        if time.monotonic() - self._shown_at >= TABLE_EVERY_S:
            self._shown_at = time.monotonic()
            self.show()

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Say how a trial ended; one without a status was stopped by the scheduler."""
        result = trial.last_result
        status, name = result.get("status", "pruned"), trial.config["trial"]["name"]
        if status == "complete" and self._metric in result:
            self._compare(result[self._metric], name)
        figures = [f"{figure} {result[figure]:.4f}" for figure in SHOWN if figure in result]
        self._say(trial, ", ".join([f"{status} after {result['epoch']} epochs", *figures]))

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Keep a lost trial."""
        reason = str(trial.get_error() or "its process was lost").strip().splitlines()[-1]
        self.lost.append((trial.config["trial"], reason))
        self._say(trial, f"failed: {reason}")

    def show(self) -> None:
        """Say how far the sweep is, and in a table the trials that run, as their files tell it."""
        now = datetime.now(UTC)
        trials = tuple(
            self._seen.get(trial.digest) or planned_status(self._out, trial, now) for trial in self._plan.trials
        )
        planned = zip(self._plan.trials, trials, strict=True)
        self._seen |= {trial.digest: status for trial, status in planned if status.status in ("complete", "pruned")}
        running = [status for status in trials if status.status in ("running", "silent")]
        to_stderr("\n".join([heading(SweepStatus(self._plan, trials)), *([trial_table(running)] if running else [])]))

    def _compare(self, figure: float, name: str) -> None:
        if cost(figure, self._metric) < self._least_cost:
            self._least_cost = cost(figure, self._metric)
            self._best = f"; best {self._metric} {figure:.4f}: {name}"

    def _say(self, trial: Trial, how: str) -> None:
        self._ended += 1
        to_stderr(f"{self._ended}/{self._left} trials: {trial.config['trial']['name']}: {how}{self._best}")
