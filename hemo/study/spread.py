"""What the seed alone changes: trials with the same settings otherwise, and how far their figures lie apart."""

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean

from hemo.config.digest import digest_of
from hemo.study.comparison import Comparison, Row, figures_of
from hemo.study.overrides import in_words, varying

FIGURES = (("val", "loss", "validation loss"), ("test", "accuracy", "test accuracy"), ("test", "auroc", "test AUROC"))


def seed_spreads(comparison: Comparison) -> list[str]:
    """Return a sentence for each group of complete trials that differ by seed only, in the order of the table.

    `ResNet50, lr 0.001: 3 seeds, validation loss 0.2000 (0.1500 to 0.2500), test accuracy 0.9 (...)`.
    """
    complete = [row for row in comparison.rows if row.record.status == "complete"]
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in complete:
        groups[digest_of({**row.record.config.deciding(), "seed": 0})].append(row)
    settings = [key for key in varying([row.record.config for row in complete]) if key != "seed"] if complete else []
    keys = ["model.backbone", *(key for key in settings if key != "model.backbone")]
    return [_sentence(in_words(rows[0].record.config, keys), rows) for rows in groups.values() if len(rows) > 1]


def _sentence(name: str, rows: Sequence[Row]) -> str:
    spans = []
    for split, metric, words in FIGURES:
        found = [figures_of(row.record, split) for row in rows]
        values = [figures[metric] for figures in found if metric in figures]
        if len(values) > 1:
            spans.append(f"{words} {fmean(values):.4f} ({min(values):.4f} to {max(values):.4f})")
    return f"{name}: {len(rows)} seeds, mean (least to most): {', '.join(spans)}"
