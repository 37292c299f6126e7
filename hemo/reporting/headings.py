"""What stands above a table: what was compared, on which rows, what was reduced, and what is to be beaten."""

from collections import Counter
from collections.abc import Iterator, Sequence

from hemo.reporting.best_cell_test import verdict
from hemo.reporting.comparison import Comparison
from hemo.reporting.trial_row import Row, image_of
from hemo.sweeps.results import search_lines
from hemo.trials.record import TrialRecord, title_of

LEAKY = "by_image (leaky: a patient's images stand in several splits)"


def split_name(record: TrialRecord) -> str:
    """Return how a set was split, with a warning where that is leaky."""
    return LEAKY if record.split == "by_image" else record.split


def told(sentences: Sequence[Sequence[str]]) -> str:
    """Return the sentences of all trials as one text, each with its count where it does not hold for all.

    Args:
        sentences: Of each trial.
    """
    counts = Counter(sentence for trial in sentences for sentence in dict.fromkeys(trial) if sentence)
    return "; ".join(
        sentence if count == len(sentences) else f"{sentence} ({count} of {len(sentences)} trials)"
        for sentence, count in counts.items()
    )


def subject(comparison: Comparison) -> str:
    """Return a comparison's title: task, target, loss where it is not the default, and training set."""
    config = comparison.first.config
    what = {"binary": f"Binary, target {config.target}", "multi_label": "Multi-label", "multi_class": "Multi-class"}[
        config.task
    ]
    loss = "" if config.training.loss == "default" else f", loss {config.training.loss}"
    return f"{what}{loss}: training set {comparison.first.training_set}"


def heading(comparison: Comparison) -> list[tuple[str, str]]:
    """Return the lines above a table as pairs of term and text."""
    return list(_lines(comparison))


def _lines(comparison: Comparison) -> Iterator[tuple[str, str]]:
    first = comparison.first
    counts = Counter(row.record.status for row in comparison.rows)
    yield "Trials", f"{len(comparison.rows)} ({', '.join(f'{count} {status}' for status, count in counts.items())})"
    yield "Split", split_name(first)
    images = {split: rows for record in comparison.ran for split, rows in record.rows.items()}
    shape = told([(image_of(record),) for record in comparison.ran if record.image])
    sizes = [f"{split} {rows:,}" for split, rows in images.items()] + ([f"each {shape}"] if shape else [])
    yield "Images", ", ".join(sizes) or "unknown: no trial ran"
    yield "Majority class on test", _majority(comparison)
    if comparison.best is not None:
        untrained = comparison.best.record.baseline.get("val", {})
        if "loss" in untrained:
            yield "Before training", f"validation loss {untrained['loss']:.4f}, of {title_of(comparison.best.record)}"
        yield "Chosen" if comparison.selected else "Lowest validation loss", _best(comparison, comparison.best)
    if comparison.differences:
        yield "Two best cells", verdict(comparison.differences)
    yield from search_lines(comparison.searches)
    yield "Reduced", told([record.reductions for record in comparison.ran]) or "nothing"
    yield "Hardware", told([(record.hardware,) for record in comparison.ran]) or "unknown: no trial ran"
    finished = sorted(row.record.finished for row in comparison.rows if row.record.finished)
    if finished:
        yield "Finished", f"{finished[-1][:10]}"


def _majority(comparison: Comparison) -> str:
    majority = comparison.majority_accuracy
    if majority is None:
        return "unknown: no trial read the test split"
    return f"accuracy {majority:.4f}, always giving the commonest answer"


def _best(comparison: Comparison, best: Row) -> str:
    """Return a sentence on the trial to look at, and whether it beats the majority class on test."""
    majority, record = comparison.majority_accuracy, best.record
    name = title_of(record)
    if record.selected_by:
        name += f", on {record.selected_by} among {record.selected_among} trials"
    if best.accuracy is None or majority is None:
        return f"{name}; its test split was not read"
    verdict = "above" if best.accuracy.low > majority else "not clearly above"
    interval = f"{best.accuracy.value:.4f}, 95 % interval {best.accuracy.low:.3f} to {best.accuracy.high:.3f}"
    return f"{name}: test accuracy {interval}, {verdict} the majority class{_uncorrected(comparison)}"


def _uncorrected(comparison: Comparison) -> str:
    """Say that intervals are each trial's own, where several invite a comparison."""
    tested = sum(row.accuracy is not None for row in comparison.rows)
    return f" (intervals are not corrected for the {tested} trials compared)" if tested > 2 else ""
