"""Job: train one model on a training set.

    ray job submit --working-dir . -- python -m ray_jobs.train --config conf/train/resnet50.yaml

Reads `training_set`; writes a record, predictions and a checkpoint below `out`. Safe to run again: a finished trial is
left alone, a killed one goes on after its last whole epoch.
"""

from collections.abc import Sequence

from hemo.cluster.ray_train import train_model
from hemo.config.load import load_config
from hemo.config.train import TrainConfig
from hemo.storage import join
from hemo.trials.record import TrialRecord
from ray_jobs.door import door

METRICS = ("loss", "accuracy", "auroc", "recall", "specificity", "precision", "f1")


@door
def main(argv: Sequence[str] | None = None) -> None:
    """Parse, load, run, print. Everything else is in hemo."""
    config = load_config(TrainConfig, argv, job="train", summary="Train one model on a training set.")
    record = train_model(config)
    print(metrics_text(record))
    print(join(config.out, record.digest))


def metrics_text(record: TrialRecord) -> str:
    """Return figures as a table, a split a row: before the first epoch, then the best one's; `-` where undefined."""
    told = ", ".join(f"{name} {value:.3f}" for name, value in zip(record.classes, record.thresholds, strict=False))
    lines = [f"best epoch {record.best_epoch} of {len(record.epochs)}{told and f'; thresholds: {told}'}"]
    if record.latency_ms is not None:
        lines.append(
            f"{record.parameters:,} parameters, {record.megabytes:.1f} MB; {record.latency_ms:.1f} ms an image, "
            f"{record.inference_images_per_second:.0f} images/s {record.inference_batch_size} at once"
        )
    lines.append(f"{'split':>15}" + "".join(f"{name:>13}" for name in METRICS))
    before = {f"at start: {split}": metrics for split, metrics in record.baseline.items()}
    for split, metrics in {**before, **record.metrics}.items():
        shown = [f"{metrics[name]:.4f}" if name in metrics else "-" for name in METRICS]
        lines.append(f"{split:>15}" + "".join(f"{cell:>13}" for cell in shown))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
