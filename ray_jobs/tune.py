r"""Train a grid or a search of trials on a training set.

Reads the output of `curate`. Writes a record for each trial, failed and pruned ones too, to a folder in `out`. Safe to
run again: trials with a finished record are skipped. Prints a summary; the last line is the folder of records.

Example, one of the files in conf/grid and conf/search:
    hemo tune --config conf/grid/phantom_grid.yaml
    ray job submit --working-dir . -- python -m ray_jobs.tune --config conf/grid/chest_xray_resnet50.yaml \
        --training_set s3://bucket/sets/chest_xray --out s3://bucket/records/chest_xray
"""

from hemo.config.tune import TuneConfig
from hemo.console import print_result
from ray_jobs.entry_point import entry_point


@entry_point(TuneConfig)
def main(config: TuneConfig) -> None:
    """Print a summary of the trials, then the folder of records."""
    import hemo

    trials = hemo.tune.run(config)
    print_result(trials.summary())
    print_result(trials.path)


if __name__ == "__main__":
    main()
