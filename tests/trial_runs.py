"""Trials run to their record in the test's own process."""

from pathlib import Path
from typing import Any

from hemo.config.trial import TrialConfig
from hemo.curation.card import read_card
from hemo.training.data.dataset import read_training_set
from hemo.training.distributed import Worker
from hemo.training.reporting import run_to_end
from hemo.trials.checks import check_trials
from hemo.trials.key import TrialKey, TrialKeys
from hemo.trials.record import TrialRecord
from hemo.trials.run import run_trial


def trial_key(config: TrialConfig, training_set: str, out: str | Path) -> TrialKey:
    """Return the key of a trial on a training set, recorded below `out`."""
    return TrialKeys(str(out), read_card(training_set).digest).key(config)


def run_to_record(config: TrialConfig, training_set: str, out: str | Path, **options: Any) -> TrialRecord:
    """Check a trial and run it to its record; `options` are those of `run_trial`, by default the set in memory."""
    key = trial_key(config, training_set, out)
    check_trials({"": config}, read_card(training_set))
    data = options.pop("data", None) or read_training_set(training_set)
    return run_to_end(run_trial(key, training_set, data=data, **{"worker": Worker(), **options}))
