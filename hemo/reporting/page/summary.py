"""The summary of a comparison in words: the question, the answer, and what must not be concluded."""

from collections.abc import Iterator

from hemo.config.curate import LEAKY
from hemo.config.trial import TrialConfig
from hemo.reporting.cells import cell_digest
from hemo.reporting.comparison import Comparison
from hemo.reporting.trial_row import ResultOnTest, join_with_counts
from hemo.reporting.trial_table import CHANCE, findings
from hemo.stats.intervals import Interval
from hemo.trials.record import title_of


def question(comparison: Comparison) -> str:
    """Return the question that the trials of a comparison answer."""
    record, trials = comparison.first, len(comparison.rows)
    settings = len({cell_digest(row.record) for row in comparison.rows})
    tried = "One setting was tried" if settings == 1 else f"{settings:,} settings were tried"
    tried += f" in {trials:,} trials" if settings != trials else ""
    noun = record.config.row_noun
    what = f"which of {len(record.classes)} classes does {noun.a} show"
    if record.config.task == "binary":
        what = f"which {noun.many} show {record.config.target}"
    return f"{tried}: {what}, and which model recognises that best?"


def answer(comparison: Comparison) -> tuple[str, str]:
    """Return two sentences: how well the best trial ranks images of test, and how often it is right."""
    best = comparison.best
    if best is None:
        return "No trial is complete.", "There is no answer yet."
    name = title_of(best.record)
    if best.test is None:
        return f"{name} was chosen on validation.", "It was not evaluated on test, so nothing is known of new patients."
    if best.test.auroc is None:
        return (
            f"{name} was chosen on validation.",
            f"All test {best.record.config.row_noun.many} have the same label, so test says nothing about it.",
        )
    return _ranks(name, best.test, comparison), _decides(best.test, comparison.first.config)


def _ranks(name: str, test: ResultOnTest, comparison: Comparison) -> str:
    assert test.auroc
    several = " (mean of the classes)" if len(comparison.first.classes) > 1 else ""
    noun = comparison.first.config.row_noun
    pairs = f"{name}, chosen on validation, gives {noun.a} with the finding a higher probability than one without in "
    return f"{pairs}{_of_100(test.auroc)} pairs of new {noun.many}{several}{_chance(test.auroc)}."


def _chance(area: Interval) -> str:
    """Return what an AUROC is compared with: guessing is right in 50 of 100 pairs."""
    if area.ends is None or area.ends[0] > CHANCE:
        return "; guessing reaches 50"
    return "; guessing reaches 50, so it may be no better than that"


def _decides(test: ResultOnTest, config: TrialConfig) -> str:
    noun = config.row_noun
    if test.recall and test.specificity:
        return (
            f"At its threshold it finds {_of_100(test.recall)} {noun.many} with the finding, and clears "
            f"{_of_100(test.specificity)} without it."
        )
    accuracy = test.accuracy or test.balanced_accuracy
    if accuracy is None:
        return "Nothing else was measured."
    counted = f"decisions, one {noun.a} and class" if config.task == "multi_label" else noun.many
    majority = f"always giving the commonest answer is right in {100 * test.majority_accuracy:.0f} of 100"
    return f"It is right in {_of_100(accuracy)} {counted}; {majority}."


def _of_100(interval: Interval) -> str:
    """Return `93 of 100 (88 to 97)`; with one decimal where the interval is narrower than 1 of 100 to each side."""
    if interval.ends is None:
        return f"{100 * interval.value:.0f} of 100 (no interval: {interval.reason})"
    low, high = interval.ends
    digits = 0 if high - low > 0.02 else 1
    value, *ends = (f"{100 * each:.{digits}f}" for each in (interval.value, low, high))
    return f"{value} of 100 ({ends[0]} to {ends[1]})"


def cautions(comparison: Comparison) -> list[str]:
    """Return what must not be concluded from a comparison, the gravest first."""
    return list(_cautions(comparison))


def _cautions(comparison: Comparison) -> Iterator[str]:
    yield from findings(comparison)
    if leak := LEAKY.get(comparison.first.split):
        yield f"{leak.capitalize()}: the metrics are too good, and no estimate of new patients."
    tested = sum(row.test is not None for row in comparison.rows)
    if tested > 2:
        yield f"{tested:,} trials were evaluated on test: the highest is too high by chance. Choose by validation."
    seeds = max((len(cell.rows) for cell in comparison.cells), default=0)
    if seeds == 1 and len(comparison.cells) > 1:
        yield "Each setting was trained once: another seed may change the order."
    if made := join_with_counts([record.reductions for record in comparison.ran]):
        yield f"Made smaller than the full study: {made}."
    noun = comparison.first.config.row_noun
    yield f"Test {noun.many} come from the same source as those of training: elsewhere the model may do worse."
