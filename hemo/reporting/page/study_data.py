"""What the page of the trials shows, as a dict that JSON can hold: trials, settings, curves, evidence, texts."""

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from hemo.config.trial import TrialConfig
from hemo.config.tune import flattened, varying
from hemo.console import hours
from hemo.reporting import elsewhere_tables
from hemo.reporting.comparison import Comparison
from hemo.reporting.elsewhere import Elsewhere
from hemo.reporting.page.evidence import reliability_data, significant, triple
from hemo.reporting.page.pairs import pair_half_widths
from hemo.reporting.probabilities import reason_of
from hemo.reporting.table_format import MISSING, metric, number
from hemo.reporting.trial_row import SPLITS, Row, estimate
from hemo.reporting.trial_table import AS_STORED, IN_TITLE, setting_name, setting_text, subject
from hemo.sweeps.objectives import on_front
from hemo.sweeps.results import MIN_TRIALS, Importance, Search, importance, search_summary, searches_of
from hemo.trials.progress import learning_curves
from hemo.trials.record import TrialRecord, metrics_of, title_of

Cell = list[Any]
"""What a cell of the table is sorted by (a number or text; None last), and the text it shows."""

SCATTER_METRICS = ("accuracy", "auroc", "loss")
"""Metrics by split of each trial, for the plots."""


def study_data(
    comparisons: Sequence[Comparison], evidence: Mapping[str, Any], seed: int, elsewhere: Sequence[Elsewhere] = ()
) -> dict[str, Any]:
    """Return what the page shows of each comparison, and of evaluations on other images.

    Args:
        comparisons: In the order of the page.
        evidence: Digest of a trial -> `trial_evidence` of it.
        seed: Of the forests behind the importance of settings.
        elsewhere: Evaluations on other images.
    """
    return {
        "comparisons": [comparison_data(each, evidence, seed) for each in comparisons],
        "elsewhere": [_elsewhere_data(each) for each in elsewhere],
    }


def _elsewhere_data(each: Elsewhere) -> dict[str, Any]:
    return {
        "key": each.key,
        "diagrams": [
            {
                "name": found.name,
                "trained": reliability_data(found.trained),
                "calibrated": reliability_data(found.calibrated) if found.calibrated else None,
            }
            for found in elsewhere_tables.diagrams(each)
        ],
    }


def comparison_data(comparison: Comparison, evidence: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Return what the page shows of one comparison; arguments as for `study_data`."""
    shown, front = columns(comparison), pareto_front(comparison.rows)
    return {
        "key": comparison.key,
        "subject": subject(comparison),
        "best": comparison.best.record.digest if comparison.best else None,
        "chosen_by": comparison.chosen_by,
        "order": comparison.order.replace("_", " ").replace("auroc", "AUROC"),  # the title of a column
        "classes": list(comparison.first.classes),
        "rows_are": comparison.first.config.row_noun.many,
        "columns": [{"title": title, "kind": kind, "varies": varies} for title, kind, varies, _ in shown],
        "trials": [
            {
                **_trial(row),
                "cells": [cell(row) for *_, cell in shown],
                "pareto": row.record.digest in front,
                "evidence": evidence.get(row.record.digest),
            }
            for row in comparison.rows
        ],
        "pairs": pair_half_widths(comparison.rows),
        "searches": [search_data(each, seed) for each in searches_of(comparison.searches)],
    }


def _trial(row: Row) -> dict[str, Any]:
    record = row.record
    return {
        "digest": record.digest,
        "name": title_of(record),
        "status": record.status,
        "metrics": {
            split: {name: significant(values.get(name)) for name in SCATTER_METRICS if name in values}
            for split in SPLITS
            if (values := metrics_of(record, split))
        },
        "auroc": triple(row.test.auroc if row.test else None),
        "seconds": significant(record.seconds) if record.epochs else None,
        "latency_ms": significant(record.latency_ms),
        "megabytes": significant(record.megabytes),
        "parameters": record.parameters or None,
        "curves": curves_data(learning_curves(record.epochs)),
        "facts": facts(record),
    }


def columns(comparison: Comparison) -> list[tuple[str, str, bool, Callable[[Row], Cell]]]:
    """Return title, kind (`setting` or `result`), whether trials differ in it, and the cells of each column."""
    trained = comparison.trained
    differing = set(varying(trained)) if trained else set()
    keys = [key for key, _ in flattened(trained[0].deciding()) if key not in IN_TITLE] if trained else []
    values = {row.record.digest: row.record.settings for row in comparison.rows}
    settings = [(setting_name(key), "setting", key in differing, _setting_cell(key, values)) for key in keys]
    return [
        *(each for each in settings if each[2]),
        *_result_columns(comparison),
        *(each for each in settings if not each[2]),
    ]


def _setting_cell(key: str, values: Mapping[str, Mapping[str, Any]]) -> Callable[[Row], Cell]:
    def cell(row: Row) -> Cell:
        known = values[row.record.digest]
        if key not in known:  # of an external model
            return [None, MISSING]
        value, text = known[key], setting_text(key, known[key])
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and text != AS_STORED
        return [value if is_number else text, text]

    return cell


def _result_columns(comparison: Comparison) -> Iterator[tuple[str, str, bool, Callable[[Row], Cell]]]:
    """Yield the columns of results that any trial has."""
    for title, cell in RESULTS.items():
        texts = [cell(row)[1] for row in comparison.rows]
        if any(text != MISSING for text in texts):
            yield title, "result", len(set(texts)) > 1, cell


def _metric_cell(split: str, name: str) -> Callable[[Row], Cell]:
    def cell(row: Row) -> Cell:
        value = metrics_of(row.record, split).get(name)
        return [significant(value), metric(value, row.record.rows.get(split, 0))]

    return cell


def _interval_cell(name: str) -> Callable[[Row], Cell]:
    def cell(row: Row) -> Cell:
        interval = getattr(row.test, name) if row.test else None
        return [significant(interval.value) if interval else None, estimate(interval)]

    return cell


def _number_cell(name: str, digits: int) -> Callable[[Row], Cell]:
    def cell(row: Row) -> Cell:
        value = getattr(row.record, name) or None
        text = f"{value:,}" if isinstance(value, int) else number(value, digits)
        return [value if isinstance(value, int) else significant(value), text]

    return cell


RESULTS: dict[str, Callable[[Row], Cell]] = {
    "val loss": _metric_cell("val", "loss"),
    "val acc": _metric_cell("val", "accuracy"),
    "val AUROC": _metric_cell("val", "auroc"),
    "test AUROC (95 %)": _interval_cell("auroc"),
    "test balanced acc (95 %)": _interval_cell("balanced_accuracy"),
    "test acc (95 %)": _interval_cell("accuracy"),
    "test loss": _metric_cell("test", "loss"),
    "train loss": _metric_cell("train", "loss"),
    "train acc": _metric_cell("train", "accuracy"),
    "best epoch": lambda row: [
        row.record.best_epoch or None,
        f"{row.record.best_epoch} of {len(row.record.epochs)}" if row.record.best_epoch else MISSING,
    ],
    "training time": lambda row: (
        [significant(row.record.seconds), hours(row.record.seconds)] if row.record.epochs else [None, MISSING]
    ),
    "parameters": _number_cell("parameters", 0),
    "size (MB)": _number_cell("megabytes", 1),
    "latency (ms)": _number_cell("latency_ms", 1),
    "throughput (images/s)": _number_cell("inference_images_per_second", 0),
    "status": lambda row: [row.record.status, row.record.status],
}
"""Title of a column -> its cells."""


def curves_data(curves: Mapping[str, Sequence[float]]) -> dict[str, list[float | None]]:
    """Return learning curves as JSON can hold them."""
    return {name: [significant(value) for value in values] for name, values in curves.items()}


def pareto_front(rows: Sequence[Row]) -> set[str]:
    """Return the digests of the complete trials that no other one dominates in accuracy, latency and size.

    Accuracy is that of validation: a choice made by test would spoil test. Trials without one of the three are left
    out.

    Args:
        rows: Trials of one comparison.
    """
    points = {
        row.record.digest: (-accuracy, row.record.latency_ms, row.record.megabytes)
        for row in rows
        if row.record.status == "complete"
        and (accuracy := metrics_of(row.record, "val").get("accuracy")) is not None
        and row.record.latency_ms is not None
        and row.record.megabytes is not None
    }
    front = on_front(list(points.values()))
    return {digest for digest, kept in zip(points, front, strict=True) if kept}


def search_data(search: Search, seed: int) -> dict[str, Any]:
    """Return a search: its trials in the order in which they ended, their values, and the importance of settings."""
    computed = importance(search, seed)
    return {
        "title": search.title,
        "metric": search.metric_name,
        "less_is_better": search.less_is_better,
        "selected": search.selected.digest if search.selected else None,
        "digests": [trial.record.digest for trial in search.trials],
        "values": [significant(trial.value) for trial in search.trials],
        "pruned": [trial.record.status == "pruned" for trial in search.trials],
        "importance": importance_rows(computed) if computed else [],
        "note": f"{search_summary(search)}. {_importance_note(search, computed)}",
    }


def importance_rows(computed: Importance) -> list[list[Any]]:
    """Return name, importance, and the ends of its interval, of each setting, the largest first."""
    return [
        [setting_name(key), significant(value), *map(significant, computed.ends[key])]
        for key, value in computed.fractions.items()
    ]


def _importance_note(search: Search, computed: Importance | None) -> str:
    if computed is None:
        needs = f"at least {MIN_TRIALS} trials with different results, and two settings"
        return f"Importance of settings is not computed: it needs {needs}; the search has {len(search.trials)} trials."
    when = "after their last epoch"
    if computed.epoch is not None:
        when = f"after epoch {computed.epoch}, before which none was pruned"
    return f"Importance of settings is that of {computed.trials} trials, compared {when}."


def facts(record: TrialRecord) -> list[tuple[str, str]]:
    """Return what ran, as pairs of term and text; of an external model without seed and command."""
    versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
    known = {
        "status": f"{record.status}: {record.reason}" if record.reason else record.status,
        "record": record.digest,
        "training set": f"{record.training_set}, split {record.split}",
        "images": ", ".join(f"{split} {count:,}" for split, count in record.rows.items()),
        "input": record.image,
        "seed": "" if record.external else str(record.config.seed),
        "selected by": f"{record.selected_by} among {record.selected_among} trials" if record.selected_by else "",
        "calibration": f"{record.calibration.method}{reason_of(record.calibration)}",
        "made smaller": "; ".join(record.reductions),
        "hardware": record.hardware and f"{record.hardware}; workers {record.workers}",
        "versions": versions,
        "commit": record.commit,
        "finished": record.finished,
        "command": "" if record.external else command(record.config),
    }
    return [(term, text) for term, text in known.items() if text]


def command(config: TrialConfig) -> str:
    """Return the command that runs a trial again, with placeholders for the training set and the folder of records."""
    default = dict(flattened(TrialConfig().model_dump(mode="json")))
    changes = {key: value for key, value in flattened(config.model_dump(mode="json")) if value != default[key]}
    flags = [f"--trial.{key} {shlex.quote(_flag(value))}" for key, value in changes.items()]
    return " ".join(["hemo train --training_set TRAINING_SET --out RECORDS", *flags])


def _flag(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
