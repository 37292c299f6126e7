"""Tables of a checkpoint evaluated on other images, the lines above them, and rows for a CSV file."""

from collections.abc import Iterator, Sequence

from hemo.reporting.elsewhere import AGGREGATES, Elsewhere, Part
from hemo.reporting.probabilities import (
    CALIBRATION_HEADS,
    CALIBRATION_NOTES,
    MOST_PROBABLE,
    ClassProbabilities,
    calibration_cells,
    describe_prior,
    reason_of,
)
from hemo.reporting.table_format import Table, metric, probability_text
from hemo.reporting.trial_row import estimate, interval_ends
from hemo.stats.intervals import Interval
from hemo.trials.evaluation import EvaluationRecord


def title(each: Elsewhere) -> str:
    """Return which checkpoint was evaluated on what."""
    return f"{each.record.checkpoint.name} on {each.record.data.name}"


def heading(each: Elsewhere) -> list[tuple[str, str]]:
    """Return the lines above the tables of an evaluation as pairs of term and text."""
    return list(_heading(each.record))


def _heading(record: EvaluationRecord) -> Iterator[tuple[str, str]]:
    checkpoint, data = record.checkpoint, record.data
    trial = f"record {checkpoint.record}, " if checkpoint.record else ""
    yield "Checkpoint", f"{checkpoint.name}: {trial}trained on set {checkpoint.training_set}"
    splits = f", {' and '.join(data.splits)}" if data.splits else ""
    yield "Data", f"{data.name} ({data.source} {data.digest}{splits})"
    positives = ", ".join(f"{name} {count:,}" for name, count in zip(checkpoint.classes, data.positives, strict=True))
    yield "Images", f"{data.images:,} of {data.patients:,} patients; positive: {positives}"
    left_out = [f"{count:,} {reason}" for reason, count in data.left_out.items()]
    rejects = ", ".join(f"{reason} {count:,}" for reason, count in data.rejects.items())
    yield "Left out", "; ".join([*left_out, *([f"rejects: {rejects}"] if rejects else [])]) or "nothing"
    if checkpoint.thresholds:
        yield "Thresholds", f"{_thresholds(checkpoint.classes, checkpoint.thresholds)} ({checkpoint.operating_point})"
    if record.recalibration:
        yield "Recalibration", _recalibration(record)
    if record.finished:
        yield "Finished", record.finished[:10]


def _thresholds(classes: Sequence[str], thresholds: Sequence[float]) -> str:
    return ", ".join(f"{name} {probability_text(value)}" for name, value in zip(classes, thresholds, strict=True))


def _recalibration(record: EvaluationRecord) -> str:
    found = record.recalibration
    assert found
    basis = f"on {found.images:,} images of {found.patients:,} patients ({found.fraction:.0%}, seed {found.seed})"
    calibration, classes = found.calibration, record.checkpoint.classes
    if calibration.method == "none":
        done = f"none: {calibration.reason}"
    else:
        pairs = zip(classes, calibration.slopes, calibration.intercepts, strict=True)
        lines = ", ".join(f"{name} slope {slope:.2f}, intercept {intercept:+.2f}" for name, slope, intercept in pairs)
        prior = f", {describe_prior(calibration.sampled)}" if calibration.sampled else ""
        done = f"{calibration.method}, {lines}{prior}{reason_of(calibration)}"
    anew = f"; thresholds anew: {_thresholds(classes, found.thresholds)}" if found.thresholds else ""
    return f"{basis}: {done}{anew}"


def findings(each: Elsewhere) -> list[str]:
    """Return why an evaluation says less than it seems to."""
    record = each.record
    own = record.data.digest == record.checkpoint.training_set
    seen = [split for split in record.data.splits if split in ("train", "val")]
    texts = []
    if own and seen:
        texts.append(f"{title(each)}: the model was trained or chosen on {' and '.join(seen)} of these images")
    reasons = {area.reason for part in each.parts if (area := part.evaluation.auroc) and area.reason}
    return [*texts, *(f"{title(each)}: no intervals: {reason}" for reason in sorted(reasons))]


def metrics_table(each: Elsewhere) -> Table:
    """Return the metrics of each part; of one class also predictive values."""
    one = len(each.record.checkpoint.classes) == 1
    rows = tuple((part.name, *_metric_cells(part, one=one)) for part in each.parts)
    rates = ("sensitivity (95 %)", "specificity (95 %)", "PPV (95 %)", "NPV (95 %)") if one else ("acc (95 %)",)
    head = ("evaluated", "images", "patients", "AUROC (95 %)", "AP", "balanced acc (95 %)", *rates, "log loss")
    notes = ["Intervals have patients as the unit. As is: calibration and thresholds of the checkpoint."]
    if each.record.recalibration:
        notes.append(
            "The others: patients who were not recalibrated on, so that the last two rows differ by calibration and "
            "thresholds only. A slope and an intercept change no AUROC of one class."
        )
    if one:
        prevalence = each.record.prevalence
        shown = "as observed" if prevalence is None else f"{prevalence:.3g}"
        notes.append(f"PPV and NPV: predictive values at the prevalence {shown}.")
    return Table(title(each), head, rows, notes=tuple(notes))


def _metric_cells(part: Part, *, one: bool) -> tuple[str, ...]:
    found, rates = part.evaluation, part.rates[0] if part.rates else None
    precision = found.ranking.average_precision if found.ranking else None
    shown: list[Interval | None] = [found.accuracy]
    if one:
        shown = [found.recall, found.specificity, *((rates.ppv, rates.npv) if rates else (None, None))]
    return (
        f"{found.image_count:,}",
        f"{found.patient_count:,}",
        estimate(found.auroc),
        metric(precision, found.image_count),
        estimate(found.balanced_accuracy),
        *(estimate(interval) for interval in shown),
        metric(found.log_loss, found.image_count),
    )


def tables(each: Elsewhere) -> list[Table]:
    """Return the tables below the metrics, those that have rows."""
    found = (_probability_table(each), _class_table(each), _group_table(each), _study_table(each))
    return [table for table in found if table.rows]


def _probability_table(each: Elsewhere) -> Table:
    names = _probability_names(each)
    several = len(names) > 1
    rows = tuple(
        (f"{part.name}: {name}" if several else part.name, *calibration_cells(reliability))
        for part in each.parts
        for name, reliability in zip(names, part.probabilities, strict=True)
    )
    caption = f"Probabilities of {title(each)}"
    return Table(caption, ("evaluated", *CALIBRATION_HEADS), rows, notes=CALIBRATION_NOTES)


def _probability_names(each: Elsewhere) -> tuple[str, ...]:
    return (MOST_PROBABLE,) if each.parts[0].scores.exclusive else each.record.checkpoint.classes


def _class_table(each: Elsewhere) -> Table:
    head = ("class", "positives", "AUROC (95 %)", "AP", "sensitivity (95 %)", "specificity (95 %)")
    images = each.record.data.images
    rows = tuple(
        (
            *(found.name, f"{found.positives:,}", estimate(found.auroc), metric(found.average_precision, images)),
            *(estimate(found.recall), estimate(found.specificity)),
        )
        for found in each.classes
    )
    return Table(f"Classes of {title(each)}, as is", head, rows)


def _group_table(each: Elsewhere) -> Table:
    one = len(each.record.checkpoint.classes) == 1
    rows = []
    for found in each.groups:
        counts = (f"{found.images:,}", f"{found.patients:,}", found.prevalence.text)
        shown = (found.recall, found.specificity) if one else (found.balanced_accuracy,)
        cells = (*counts, estimate(found.auroc), *(estimate(interval) for interval in shown))
        gap = (estimate(found.difference, signed=True),) if one else ()
        rows.append((found.subgroup, found.group, *cells, *gap))
    rates = ("sensitivity (95 %)", "specificity (95 %)") if one else ("balanced acc (95 %)",)
    gaps = ("mean - prevalence (95 %)",) if one else ()
    frequent = each.groups[0].prevalence.head if each.groups else "prevalence"
    head = ("subgroup", "group", "images", "patients", frequent, "AUROC (95 %)", *rates, *gaps)
    notes = (
        "As is. Differences between groups are not tested; where prevalence differs, a model may predict from the "
        "group.",
    )
    return Table(f"Subgroups of {title(each)}", head, tuple(rows), notes=notes)


def _study_table(each: Elsewhere) -> Table:
    several = len(each.record.checkpoint.classes) > 1
    rows = tuple(
        (
            f"{found.name}: {AGGREGATES[found.aggregate]}" if several else AGGREGATES[found.aggregate],
            *(f"{found.studies:,}", f"{found.positives:,}", estimate(found.auroc)),
            *(estimate(found.recall), estimate(found.specificity)),
        )
        for found in each.studies
    )
    head = (
        "probability of a study",
        "studies",
        "positives",
        "AUROC (95 %)",
        "sensitivity (95 %)",
        "specificity (95 %)",
    )
    notes = (
        "A study is positive if one of its slices is; localizers and screen captures are none. Sensitivity and "
        "specificity at the threshold of images, which is not meant for noisy-or: that rises with the number of "
        "slices.",
    )
    return Table(f"Studies of {title(each)}, as is", head, rows, notes=notes)


def diagrams(each: Elsewhere) -> list[ClassProbabilities]:
    """Return what reliability diagrams show: of each class as is, and recalibrated where that was done."""
    before, after = each.parts[-2:] if len(each.parts) > 1 else (each.parts[0], None)
    found = []
    for column, name in enumerate(_probability_names(each)):
        recalibrated = after.probabilities[column] if after else None
        as_is = before.probabilities[column]
        shown = as_is.metrics.prevalence
        found.append(ClassProbabilities(title(each), name, "", as_is, recalibrated, shown, (), ()))
    return found


def csv_rows(each: Elsewhere) -> Iterator[dict[str, str | float | int | None]]:
    """Yield a row for each part, in full precision, None where a metric is not defined."""
    record = each.record
    for part in each.parts:
        found, rates = part.evaluation, part.rates[0] if len(part.rates) == 1 else None
        intervals = {
            "auroc": found.auroc,
            "balanced_accuracy": found.balanced_accuracy,
            "accuracy": found.accuracy,
            "sensitivity": found.recall,
            "specificity": found.specificity,
            "ppv": rates.ppv if rates else None,
            "npv": rates.npv if rates else None,
        }
        yield {
            **{"digest": record.digest, "checkpoint": record.checkpoint.digest, "record": record.checkpoint.record},
            **{"trial": record.checkpoint.name, "data": record.data.name, "part": part.name},
            **{"images": found.image_count, "patients": found.patient_count, "log_loss": found.log_loss},
            "average_precision": found.ranking.average_precision if found.ranking else None,
            **{key: value for name, interval in intervals.items() for key, value in _columns(name, interval).items()},
        }


def _columns(name: str, interval: Interval | None) -> dict[str, float | None]:
    return {name: interval.value if interval else None, **interval_ends(name, interval)}


def summary(each: Elsewhere) -> str:
    """Return an evaluation in one sentence: as is, and with a recalibration what the other patients have then."""
    data, first, last = each.record.data, each.parts[0], each.parts[-1]
    text = f"{data.name}: {data.images:,} images of {data.patients:,} patients, {_rates(first)}"
    if last is first:
        return text
    images, patients = last.evaluation.image_count, last.evaluation.patient_count
    return f"{text}; recalibrated, {images:,} images of the other {patients:,} patients: {_rates(last)}"


def _rates(part: Part) -> str:
    found = part.evaluation
    rates = f", sensitivity {estimate(found.recall)}, specificity {estimate(found.specificity)}" if found.recall else ""
    return f"AUROC {estimate(found.auroc)}{rates}"
