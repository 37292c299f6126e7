"""Sweeps and trials as text for a terminal: their status, a summary of trials that ended, metrics of one."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from hemo.console import hours
from hemo.reporting.table_format import MISSING, Table, loss_and_accuracy, markdown_table, number, probability_text
from hemo.training.results import DEFAULT_THRESHOLD, StudyMetrics
from hemo.trials.record import TrialRecord, changes_of_workers, title_of
from hemo.trials.status import ENDED, SweepStatus, TrialStatus

HEAD = ("trial", "status", "epoch", "val loss", "best", "training", "left")
CURVES_HEAD = (*HEAD, "val loss by epoch")
BARS = "▁▂▃▄▅▆▇█"
MOST_BARS = 12
SHOWN_METRICS = ("loss", "accuracy", "auroc", "recall", "specificity", "precision", "f1")
"""Columns below which `train` shows the metrics of a trial."""

SILENT = "silent: no progress written for a long time; killed (the same command resumes it), or storage is slow"


def status_text(sweeps: Sequence[SweepStatus]) -> str:
    """Return all sweeps as text for a terminal."""
    return "\n\n".join("\n".join(_lines(sweep)) for sweep in sweeps)


def _lines(sweep: SweepStatus) -> Iterator[str]:
    yield heading(sweep)
    if sweep.trials:
        yield trial_table(sweep.trials, curves=True)
    complete = [trial for trial in sweep.trials if trial.status == "complete" and trial.best_val_loss is not None]
    if complete:
        best = min(complete, key=lambda trial: trial.best_val_loss or 0.0)
        yield f"lowest validation loss of complete trials: {best.best_val_loss:.4f}, {best.name}"
    faulty = [trial for trial in sweep.trials if trial.status in ("failed", "unreadable")]
    yield from (f"{trial.name} {trial.status}: {trial.reason}" for trial in faulty)
    if "silent" in sweep.counts:
        yield SILENT


def heading(sweep: SweepStatus) -> str:
    """Return `grid of 5 trials, 2 concurrent: 2 complete, 2 running, 1 waiting; about 0:12:00 left`."""
    plan, left = sweep.plan, sweep.left_seconds
    what = f"{plan.kind} of {plan.count} trials, {plan.concurrent} concurrent" if plan else "trials outside sweeps"
    return f"{what}: {counts_text(sweep.counts)}" + ("" if left is None else f"; about {hours(left)} left")


def counts_text(counts: Mapping[str, int]) -> str:
    """Return `2 complete, 1 running`."""
    order = (*ENDED, "unreadable", "running", "silent", "waiting")
    return ", ".join(f"{counts[status]} {status}" for status in order if counts.get(status))


def trial_table(trials: Sequence[TrialStatus], *, curves: bool = False) -> str:
    """Return a table with a row for each trial; with `curves`, the validation loss by epoch as a sparkline."""
    if not curves:
        return markdown_table(Table("", HEAD, tuple(map(_row, trials))))
    return markdown_table(Table("", CURVES_HEAD, tuple(map(row_with_curve, trials))))


def row_with_curve(trial: TrialStatus) -> tuple[str, ...]:
    """Return the cells of a trial below `CURVES_HEAD`."""
    return *_row(trial), sparkline(trial.curves.get("val loss", ()))


def sparkline(values: Sequence[float]) -> str:
    """Return values as bars between the lowest and the highest one, such as `█▄▁`.

    Of more than `MOST_BARS` values each bar is the mean of as many neighbours; NaN is left out.

    Args:
        values: In order, shape (epochs,).
    """
    known = np.asarray(values, np.float64)
    known = known[np.isfinite(known)]
    if not len(known):
        return MISSING
    means = np.array([part.mean() for part in np.array_split(known, min(MOST_BARS, len(known)))])
    heights = (means - means.min()) / (np.ptp(means) or 1.0)
    return "".join(BARS[round(height * (len(BARS) - 1))] for height in heights.tolist())


def _row(trial: TrialStatus) -> tuple[str, ...]:
    losses = [number(loss) for loss in (trial.val_loss, trial.best_val_loss)]
    times = [MISSING if time is None else hours(time) for time in (trial.seconds or None, trial.left_seconds)]
    return trial.name, trial.status, f"{trial.epoch} of {trial.epochs}", *losses, *times


def summary(records: Sequence[TrialRecord]) -> str:
    """Return a short table of trials that ended, without intervals."""
    head = ("trial", "val loss / acc", "test loss / acc", "status")
    rows = tuple(
        (title_of(record), loss_and_accuracy(record, "val"), loss_and_accuracy(record, "test"), record.status)
        for record in records
    )
    return markdown_table(Table("", head, rows))


def metrics_text(record: TrialRecord) -> str:
    """Return metrics as a table, a split a row: before the first epoch, then the best epoch's; `-` where undefined.

    Below it stands which splits have too few patients for their metrics, and what was chosen by them, to mean anything.
    """
    thresholds = ", ".join(
        f"{name} undefined: all {record.config.row_noun.many} of val are alike in it, {DEFAULT_THRESHOLD} is applied"
        if value is None
        else f"{name} {probability_text(value)}"
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
    lines.append(f"{'split':>15}" + "".join(f"{name:>13}" for name in SHOWN_METRICS))
    before = {f"at start: {split}": metrics for split, metrics in record.baseline.items()}
    for split, metrics in {**before, **record.metrics}.items():
        values = [f"{metrics[name]:.4f}" if name in metrics else "-" for name in SHOWN_METRICS]
        lines.append(f"{split:>15}" + "".join(f"{value:>13}" for value in values))
    for split, ways in record.study_metrics.items():
        for way, found in ways.items():
            lines.append(f"{split} by study, {way:>8}: " + study_text(found))
    for finding in record.findings:
        chosen = "accuracy, threshold and best epoch of val mean nothing: " if finding.split == "val" else ""
        lines.append(chosen + finding.text)
    return "\n".join(lines)


def study_text(found: StudyMetrics) -> str:
    """Return the metrics of studies as text, such as `12 studies, log_loss 0.2812, auroc 0.9714 (0.8100-0.9962)`."""
    ends = "" if found.auroc_interval is None else " ({:.4f}-{:.4f})".format(*found.auroc_interval)
    values = [f"{name} {value:.4f}{ends if name == 'auroc' else ''}" for name, value in found.metrics.items()]
    return ", ".join([f"{found.studies} studies", *values])
