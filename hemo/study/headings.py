"""What stands above a table: what was compared, on which rows, what was reduced, and what is to be beaten."""

from collections import Counter
from collections.abc import Iterator

from hemo.study.comparison import Comparison, title_of

LEAKY = "by_image (leaky: a patient's images stand in several splits)"


def subject(comparison: Comparison) -> str:
    """Return a comparison's title: task, target and training set."""
    config = comparison.first.config
    what = {"binary": f"Binary, target {config.target}", "multi_label": "Multi-label", "multi_class": "Multi-class"}[
        config.task
    ]
    return f"{what}: training set {comparison.first.training_set}"


def heading(comparison: Comparison) -> list[tuple[str, str]]:
    """Return the lines above a table as pairs of term and text."""
    return list(_lines(comparison))


def _lines(comparison: Comparison) -> Iterator[tuple[str, str]]:
    first = comparison.first
    counts = Counter(row.record.status for row in comparison.rows)
    yield "Trials", f"{len(comparison.rows)} ({', '.join(f'{count} {status}' for status, count in counts.items())})"
    yield "Split", LEAKY if first.split == "by_image" else first.split
    images = {split: rows for record in comparison.ran for split, rows in record.rows.items()}
    yield "Images", ", ".join(f"{split} {rows:,}" for split, rows in images.items()) or "unknown: no trial ran"
    yield "To beat on test", _baseline(comparison)
    if comparison.ran and comparison.ran[0].status == "complete":
        yield "Lowest validation loss", _best(comparison)
    yield "Reduced", _shared(comparison, [record.reductions for record in comparison.ran]) or "nothing"
    yield "Hardware", _shared(comparison, [(record.hardware,) for record in comparison.ran]) or "unknown: no trial ran"
    finished = sorted(row.record.finished for row in comparison.rows if row.record.finished)
    if finished:
        yield "Finished", f"{finished[-1][:10]}"


def _baseline(comparison: Comparison) -> str:
    majority = comparison.majority_accuracy
    if majority is None:
        return "unknown: no trial read the test split"
    return f"accuracy {majority:.4f}, always giving the commonest answer"


def _best(comparison: Comparison) -> str:
    """Return a sentence on the trial that validation chooses, and whether it beats the baseline on test."""
    row, majority = comparison.rows[0], comparison.majority_accuracy
    name = title_of(row.record)
    if row.accuracy is None or majority is None:
        return f"{name}; its test split was not read"
    verdict = "above" if row.accuracy.low > majority else "not clearly above"
    interval = f"{row.accuracy.value:.4f}, 95 % interval {row.accuracy.low:.3f} to {row.accuracy.high:.3f}"
    return f"{name}: test accuracy {interval}, {verdict} the accuracy to beat"


def _shared(comparison: Comparison, sentences: list[tuple[str, ...]]) -> str:
    """Return the sentences of all trials, each with its count where it does not hold for all."""
    counts = Counter(sentence for trial in sentences for sentence in dict.fromkeys(trial) if sentence)
    ran = len(comparison.ran)
    return "; ".join(
        sentence if count == ran else f"{sentence} ({count} of {ran} trials)" for sentence, count in counts.items()
    )
