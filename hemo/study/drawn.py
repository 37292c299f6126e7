"""Every figure of a comparison, with its caption and a sentence that says how to read it."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from hemo.study.comparison import SHOWN, Comparison
from hemo.study.figures.calibration import reliability_diagrams
from hemo.study.figures.confusion import confusion_matrices
from hemo.study.figures.formats import format_bars
from hemo.study.figures.learning import curves, time_against_accuracy
from hemo.study.figures.ranking import roc_and_precision_recall
from hemo.study.figures.search import best_so_far, importance_bars, parallel_coordinates
from hemo.study.page import PageFigure
from hemo.study.search import HANDFUL, Search, importance, in_short, searches_of

WHOSE = f"Of the best trials that read test, one of each cell, at most {SHOWN}; of several classes, of the best trial."


def figures_of_comparison(comparison: Comparison, seed: int) -> list[PageFigure]:
    """Return the figures for which the records have something to draw.

    Args:
        comparison: What to draw.
        seed: Of the forest behind the importance of settings.
    """
    searches = searches_of(comparison)
    searched = [
        figure for number in range(len(searches)) for figure in _of_searches(comparison.key, searches, number, seed)
    ]
    drawn = [*searched, *_of_learning(comparison), *_of_test(comparison)]
    return [figure for figure in drawn if figure.svg or figure.name.startswith("importance")]


def _of_learning(comparison: Comparison) -> Iterator[PageFigure]:
    key = comparison.key
    yield PageFigure(
        f"time-{key}",
        "Learning time against accuracy",
        "A trial's train, validation and test accuracy stand above each other; a line leads to its name.",
        time_against_accuracy(comparison),
    )
    for metric in ("loss", "accuracy"):
        yield PageFigure(
            f"{metric}-{key}",
            f"{metric.capitalize()} by epoch",
            "Measured on train while learning, with dropout and augmentation on; where validation leaves train, "
            "the model learns its training images by heart.",
            curves(comparison, metric),
        )


def _of_test(comparison: Comparison) -> Iterator[PageFigure]:
    key = comparison.key
    yield PageFigure(
        f"ranking-{key}",
        "ROC and precision-recall on test",
        f"{WHOSE} Precision depends on the share of positives.",
        roc_and_precision_recall(comparison),
    )
    yield PageFigure(
        f"confusion-{key}",
        "Confusion on test",
        f"{WHOSE} Rows are the truth, columns what was called; a cell is shaded by its share of the row.",
        confusion_matrices(comparison),
    )
    yield PageFigure(
        f"calibration-{key}",
        "Calibration on test",
        f"{WHOSE} On the diagonal probabilities are honest, below it too high. Bars count the images in each bin, the "
        "number is that of the fullest; ECE: expected calibration error.",
        reliability_diagrams(comparison),
    )
    yield PageFigure(
        f"formats-{key}",
        "Pixel formats on test",
        "Of the best trial, with 95 % intervals by resampling patients.",
        format_bars(comparison),
    )


def _of_searches(key: str, searches: Sequence[Search], number: int, seed: int) -> Iterator[PageFigure]:
    """Yield the figures of one search; of several each says whose it is."""
    search = searches[number]
    if len(searches) == 1:
        yield from _of_search(search, key, seed)
        return
    for figure in _of_search(search, f"{key}-{number + 1}", seed):
        caption = f"{search.title}: {figure.caption[0].lower()}{figure.caption[1:]}"
        yield replace(figure, caption=caption, says=f"{in_short(search)}. {figure.says}")


def _of_search(search: Search, key: str, seed: int) -> Iterator[PageFigure]:
    yield PageFigure(
        f"search-{key}",
        "Best so far",
        "Values are those at each trial's lowest validation loss; stopped trials ran fewer epochs.",
        best_so_far(search),
    )
    yield PageFigure(
        f"parallel-{key}",
        "Settings and results",
        "One line a trial, through its settings to its result at the right; equal values are moved apart.",
        parallel_coordinates(search),
    )
    found = importance(search, seed)
    if found is None:
        count = len(search.trials)
        says = f"Not told: it takes {HANDFUL} trials with different results and two settings; here are {count} trials."
        yield PageFigure(f"importance-{key}", "Importance of settings", says, None)
        return
    when = "in the end" if found.epoch is None else f"after epoch {found.epoch}, which no trial was stopped before"
    yield PageFigure(
        f"importance-{key}",
        "Importance of settings",
        f"Rests on {found.trials} trials, compared {when}. A forest over so few says what to look at, not what is so.",
        importance_bars(found),
    )
