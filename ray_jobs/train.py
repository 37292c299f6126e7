"""Train one model on a training set.

Reads the output of `curate`. Writes a record, predictions of validation and test, and a checkpoint to a folder in
`out`. Safe to run again: a finished trial is skipped, a killed one goes on after its last whole epoch.

Example, one of the files in conf/train:
    hemo train --config conf/train/phantom.yaml
    hemo train --config conf/train/resnet50.yaml --training_set SET --out RECORDS --trial.training.learning_rate 3e-5
"""

from typing import TYPE_CHECKING

from hemo.config.tune import TrainConfig
from hemo.console import print_result
from ray_jobs.entry_point import entry_point

if TYPE_CHECKING:
    from hemo.training.results import StudyMetrics
    from hemo.trials.record import TrialRecord

METRICS = ("loss", "accuracy", "auroc", "recall", "specificity", "precision", "f1")


@entry_point(TrainConfig)
def main(config: TrainConfig) -> None:
    """Print the metrics, then the folder of the record."""
    import hemo

    trial = hemo.train.run(config)
    print_result(metrics_text(trial.record))
    print_result(trial.path)


def metrics_text(record: "TrialRecord") -> str:
    """Return metrics as a table, a split a row: before the first epoch, then the best epoch's; `-` where undefined.

    Below it stands which splits have too few patients for their metrics, and what was chosen by them, to mean anything.
    """
    from hemo.training.results import DEFAULT_THRESHOLD
    from hemo.trials.record import changes_of_workers

    thresholds = ", ".join(
        f"{name} undefined: all images of val are alike in it, {DEFAULT_THRESHOLD} is applied"
        if value is None
        else f"{name} {value:.3f}"
        for name, value in zip(record.classes, record.thresholds, strict=False)
    )
    lines = [f"best epoch {record.best_epoch} of {len(record.epochs)}" + (thresholds and f"; thresholds: {thresholds}")]
    if record.latency_ms is not None:
        lines.append(
            f"{record.parameters:,} parameters, {record.megabytes:.1f} MB; {record.latency_ms:.1f} ms for one image, "
            f"{record.inference_images_per_second:.0f} images/s in batches of {record.inference_batch_size}"
        )
    if len(changes := changes_of_workers(record)) > 1:
        lines.append("workers: " + ", ".join(f"{workers} from epoch {epoch}" for epoch, workers in changes))
    lines.append(f"{'split':>15}" + "".join(f"{name:>13}" for name in METRICS))
    before = {f"at start: {split}": metrics for split, metrics in record.baseline.items()}
    for split, metrics in {**before, **record.metrics}.items():
        values = [f"{metrics[name]:.4f}" if name in metrics else "-" for name in METRICS]
        lines.append(f"{split:>15}" + "".join(f"{value:>13}" for value in values))
    for split, ways in record.study_metrics.items():
        for way, found in ways.items():
            lines.append(f"{split} by study, {way:>8}: " + study_text(found))
    for finding in record.findings:
        chosen = "accuracy, threshold and best epoch of val mean nothing: " if finding.split == "val" else ""
        lines.append(chosen + finding.text)
    return "\n".join(lines)


def study_text(found: "StudyMetrics") -> str:
    """Return the metrics of studies as text, such as `12 studies, log_loss 0.2812, auroc 0.9714 (0.8100-0.9962)`."""
    ends = "" if found.auroc_interval is None else " ({:.4f}-{:.4f})".format(*found.auroc_interval)
    values = [f"{name} {value:.4f}{ends if name == 'auroc' else ''}" for name, value in found.metrics.items()]
    return ", ".join([f"{found.studies} studies", *values])


if __name__ == "__main__":
    main()
