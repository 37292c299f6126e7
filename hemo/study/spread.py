"""What the seed alone changes: trials with the same settings otherwise, and how far their figures lie apart."""

from statistics import fmean, stdev

from hemo.study.cells import Cell
from hemo.study.comparison import Comparison

FIGURES = (("val", "loss", "validation loss"), ("test", "accuracy", "test accuracy"), ("test", "auroc", "test AUROC"))


def seed_spreads(comparison: Comparison) -> list[str]:
    """Return a sentence for each cell with several seeds, in the order of their mean validation losses.

    `ResNet50, lr 0.001: 3 seeds, mean (standard deviation; least to most): validation loss 0.2000 (0.0500; ...), ...`.
    """
    return [_sentence(cell) for cell in comparison.cells if len(cell.rows) > 1]


def _sentence(cell: Cell) -> str:
    spans = []
    for split, metric, words in FIGURES:
        values = cell.values(split, metric)
        if len(values) > 1:
            ends = f"{min(values):.4f} to {max(values):.4f}"
            spans.append(f"{words} {fmean(values):.4f} ({stdev(values):.4f}; {ends})")
    return f"{cell.name}: {len(cell.rows)} seeds, mean (standard deviation; least to most): {', '.join(spans)}"
