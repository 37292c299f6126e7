"""Job: run a grid or a search of trials on a training set.

    ray job submit --working-dir . -- python -m ray_jobs.tune --config conf/grid/chest_xray_resnet50.yaml

Reads `training_set`, writes one record a trial under `out`, failed and pruned ones too. Safe to run again: trials with
a finished record are left alone. The last line printed is the folder of records.
"""

from collections.abc import Sequence

from hemo.cluster.tuning.sweep import tune_models
from hemo.config.load import load_config
from hemo.config.tune import TuneConfig
from hemo.reporting.trial_table import summary
from ray_jobs.door import door


@door
def main(argv: Sequence[str] | None = None) -> None:
    """Parse, load, run, print. Everything else is in hemo."""
    config = load_config(TuneConfig, argv, job="tune", summary="Run a grid or a search of trials on a training set.")
    records = tune_models(config)
    print(summary(records))
    print(config.out)


if __name__ == "__main__":
    main()
