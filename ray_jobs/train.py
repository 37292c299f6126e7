"""Train one model on a training set.

Reads the output of `curate`. Writes a record, predictions of validation and test, and a checkpoint to a folder in
`out`. Safe to run again: a finished trial is skipped, a killed one goes on after its last whole epoch.

Example, one of the files in conf/train:
    hemo train --config conf/train/phantom.yaml
    hemo train --config conf/train/resnet50.yaml --training_set SET --out RECORDS --trial.training.learning_rate 3e-5
"""

from hemo.config.tune import TrainConfig
from hemo.console import print_result
from ray_jobs.entry_point import entry_point


@entry_point(TrainConfig)
def main(config: TrainConfig) -> None:
    """Print the metrics, then the folder of the record."""
    import hemo
    from hemo.reporting.status_table import metrics_text

    trial = hemo.train.run(config)
    print_result(metrics_text(trial.record))
    print_result(trial.path)


if __name__ == "__main__":
    main()
