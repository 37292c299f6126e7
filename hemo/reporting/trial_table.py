"""The grid of trials: the heading above it, a row for each trial with settings and metrics, and the notes below."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from statistics import fmean, stdev
from typing import Any

from hemo.config.trial import STUDIES, TrialConfig
from hemo.config.tune import flattened, varying
from hemo.console import hours
from hemo.curation.card import grouping_text, synthetic_text
from hemo.reporting.cell_tables import describe_difference
from hemo.reporting.cells import ORDERS, Cell
from hemo.reporting.comparison import Comparison
from hemo.reporting.selection import describe_choice
from hemo.reporting.table_format import MISSING, Table, decimals, loss_and_accuracy, metric, number
from hemo.reporting.trial_row import SPLITS, Row, counts_text, estimate, image_of, join_with_counts, split_name
from hemo.stats.choices import BALANCED_ACCURACY
from hemo.stats.intervals import Interval
from hemo.sweeps.results import SearchedTrials, search_lines
from hemo.trials.record import title_of

NAME = "trial"
SPLIT_NAMES = {"train": "Train", "val": "Validation", "test": "Test"}

Text = Callable[[Row], str]

CHANCE = 0.5
"""AUROC of scores that do not depend on the label."""
MAX_CLASSES = 8
"""Classes up to which a heading has the positives of each."""
SIDE, AS_STORED = "model.side_px", "as stored"
HEADS = {
    SIDE: "side (px)",
    "model.dense_width": "dense",
    "training.batch_size": "batch",
    "training.epochs": "max epochs",
}
"""Dotted setting -> head of its column; others have the last part of their name."""
IN_TITLE = ("task", "target")
"""Settings that are in a comparison's title."""
DEFAULTS = dict(flattened(TrialConfig().deciding()))
NEUTRAL = (
    "model.head",
    "model.side_px",
    "model.series.embeddings",
    "model.series.labels",
    "model.series.study",
    "model.series.study_weight",
    "training.accumulation",
    "training.calibration",
    "training.balance",
    "training.balance_ratio",
    "training.freeze_epochs",
    "training.layer_decay",
    "training.operating_point",
    "training.sync_batch_norm",
    "augment.strength",
)
"""Settings whose default changes nothing, though it is not 0."""

COLUMNS: dict[str, Text] = {
    "train loss / acc": lambda row: loss_and_accuracy(row.record, "train"),
    "val loss / acc": lambda row: loss_and_accuracy(row.record, "val"),
    "test loss / acc": lambda row: loss_and_accuracy(row.record, "test"),
    "test AUROC (95 %)": lambda row: estimate(row.test.auroc if row.test else None),
    "test balanced acc (95 %)": lambda row: estimate(row.test.balanced_accuracy if row.test else None),
    "test acc (95 %)": lambda row: estimate(row.test.accuracy if row.test else None),
    "best epoch": lambda row: (
        f"{row.record.best_epoch} of {len(row.record.epochs)}" if row.record.best_epoch else MISSING
    ),
    "training time": lambda row: hours(row.record.seconds) if row.record.epochs else MISSING,
    "parameters": lambda row: f"{row.record.parameters:,}" if row.record.parameters else MISSING,
    "size (MB)": lambda row: number(row.record.megabytes, 1),
    "latency (ms)": lambda row: number(row.record.latency_ms, 1),
    "throughput (images/s)": lambda row: number(row.record.inference_images_per_second, 0),
    "status": lambda row: row.record.status,
}
"""Head of a column -> the text of its cells."""
RANKED = "test AUROC (95 %)"
"""Column of the metric by which cells are told apart; the next one has their groups."""
OPTIONAL = ("test balanced acc (95 %)", "size (MB)", "latency (ms)", "throughput (images/s)")
"""Columns that are left out where no record has a value."""

SEED_METRICS = (
    ("val", "loss", "validation loss"),
    ("test", "accuracy", "test accuracy"),
    ("test", "auroc", "test AUROC"),
)
"""Split, metric and name of what is summarised over seeds."""


def subject(comparison: Comparison) -> str:
    """Return a comparison's title: task, target, loss where all have one that is not the default, and training set.

    `of studies` where trials predict studies alone, and no images.
    """
    config = comparison.first.config
    tasks = {"binary": f"Binary, target {config.target}", "multi_label": "Multi-label", "multi_class": "Multi-class"}
    losses = {row.record.config.training.loss for row in comparison.rows}
    loss = "" if len(losses) > 1 or config.training.loss == "default" else f", loss {config.training.loss}"
    of_studies = ", of studies" if config.row_noun == STUDIES else ""
    return f"{tasks[config.task]}{of_studies}{loss}: training set {comparison.first.training_set}"


def heading(comparison: Comparison) -> list[tuple[str, str]]:
    """Return the lines above a table as pairs of term and text."""
    return list(_heading(comparison))


def findings(comparison: Comparison) -> list[str]:
    """Return whether images are synthetic, which splits have too few patients, and how patients were found."""
    synthetic = [synthetic_text(record.synthetic_images) for record in comparison.ran]
    texts = [finding.text for record in comparison.ran for finding in record.findings]
    grouping = [grouping_text(record.grouped_by) for record in comparison.ran]
    return list(dict.fromkeys(text for text in [*synthetic, *texts, *grouping] if text))


def _heading(comparison: Comparison) -> Iterator[tuple[str, str]]:
    statuses = Counter(row.record.status for row in comparison.rows)
    counts = ", ".join(f"{count} {status}" for status, count in statuses.items())
    yield "Trials", f"{len(comparison.rows)} ({counts})"
    yield "Split", split_name(comparison.first)
    yield "Images", _images(comparison)
    for split in SPLITS:
        if counts := _split_counts(comparison, split):
            yield SPLIT_NAMES[split], counts
    if comparison.best is not None:
        untrained, images = comparison.best.record.baseline.get("val", {}), comparison.best.record.rows.get("val", 0)
        if "loss" in untrained:
            loss = metric(untrained["loss"], images)
            yield "Before training", f"validation loss {loss} ({title_of(comparison.best.record)})"
        yield "Highlighted row", _highlighted(comparison.best, comparison)
        yield "Highlighted row on test", _on_test(comparison.best, comparison)
    yield from (("Corrected for the choice", describe_choice(each, comparison.samples)) for each in comparison.choices)
    if comparison.tested and comparison.tested.pairs:
        yield "Two best cells", describe_difference(comparison.tested, comparison.order)
    yield from search_lines(comparison.searches)
    yield "Reductions", join_with_counts([record.reductions for record in comparison.ran]) or "none"
    hardware = join_with_counts([(record.hardware,) for record in comparison.ran])
    yield "Hardware", hardware or "unknown: no trial ran"
    finished = max((row.record.finished for row in comparison.rows), default="")
    if finished:
        yield "Finished", finished[:10]
    yield "Common settings", common_settings(comparison)


def _images(comparison: Comparison) -> str:
    if not comparison.ran:
        return "unknown: no trial ran"
    return join_with_counts([(image_of(record),) for record in comparison.ran if record.image]) or "size not recorded"


def _split_counts(comparison: Comparison, split: str) -> str:
    """Return `131 images of 10 patients, 58 positive`; of several classes their positives, up to `MAX_CLASSES`."""
    record = next((each for each in comparison.ran if split in each.rows), None)
    if record is None:
        return ""
    text, positives = counts_text(record, split), record.positives.get(split, ())
    if len(positives) < 2:
        return ", ".join([text, *(f"{count:,} positive" for count in positives)])
    if len(positives) > MAX_CLASSES:
        return f"{text}, {min(positives):,} to {max(positives):,} of a class"
    named = zip(record.classes, positives, strict=True)
    return ", ".join([text, *(f"{name} {count:,}" for name, count in named)])


def _highlighted(best: Row, comparison: Comparison) -> str:
    """Return which trial is highlighted, what it was chosen by, and on how much."""
    basis = f", on {_split_counts(comparison, 'val')}" if "val" in best.record.rows else ""
    return f"{title_of(best.record)}: {chosen_among(best, comparison)}{basis}. Test had no part in the choice"


def chosen_among(row: Row, comparison: Comparison) -> str:
    """Return by what and among how many trials a complete one was chosen, by a search or as the best of all."""
    record = row.record
    complete = sum(each.record.status == "complete" for each in comparison.candidates)
    first = f"the {ORDERS[comparison.order]} of {complete} complete trials" if complete > 1 else ""
    if first and comparison.selected_rows:
        first += ", those that searches passed over aside"
    if row is not comparison.best:
        complete = sum(each.record.status == "complete" for each in comparison.rows)
        first = f"one of {complete} complete trials, not the one with the best validation"
    if not record.selected_by:
        return first or "the only complete trial"
    selected = f"selected by {record.selected_by} among {record.selected_among} trials of a search"
    return f"{selected}, and {first}" if first else selected


def _on_test(best: Row, comparison: Comparison) -> str:
    """Return the highlighted trial's metrics on test, and whether it tells the classes apart."""
    test = best.test
    if test is None:
        return "not evaluated"
    if test.auroc is None:
        return f"neither AUROC nor accuracy is defined: all {comparison.first.config.row_noun.many} have the same label"
    several = comparison.first.config.task == "multi_label"
    decisions = f"of decisions, one {comparison.first.config.row_noun.a} and class, " if several else ""
    accuracy = f"accuracy {decisions}{estimate(test.accuracy)}"
    frequent = "always predicting the most frequent " + ("answer" if several else "class")
    majority = f"{frequent} reaches {metric(test.majority_accuracy, test.image_count)}"
    relation = _above_chance(test.auroc)
    balanced = f"balanced accuracy {estimate(test.balanced_accuracy)}; " if test.balanced_accuracy else ""
    tested = sum(row.test is not None for row in comparison.rows)
    caution = f". Intervals are not adjusted for the {tested} trials compared" if tested > 2 else ""
    return f"AUROC {estimate(test.auroc)}, {relation}; {balanced}{accuracy}, {majority}{caution}"


def _above_chance(area: Interval) -> str:
    """Return whether an AUROC is above 0.5, that of the majority class."""
    if area.ends is None:
        return f"no interval: {area.reason}"
    always = "0.5, the AUROC of always predicting the majority class"
    return f"above {always}" if area.ends[0] > CHANCE else f"not clearly above {always}"


def common_settings(comparison: Comparison) -> str:
    """Return the settings that all trials share, as one line; what is off by default is listed only where it is on."""
    trained = comparison.trained
    return settings_line(trained[0], (*IN_TITLE, *_varying(comparison))) if trained else "none known"


def settings_line(config: TrialConfig, elsewhere: Sequence[str]) -> str:
    """Return the settings of a trial but for those that stand elsewhere; what is off by default only where it is on."""
    values = {key: value for key, value in flattened(config.deciding()) if key not in elsewhere}
    return ", ".join(
        f"{setting_name(key)} {setting_text(key, value)}" for key, value in values.items() if not _is_off(key, value)
    )


def _is_off(key: str, value: Any) -> bool:
    """Return whether a setting is one that is off by default, such as an augmentation, and still is."""
    off = key in NEUTRAL or (isinstance(value, float | bool) and not value)
    return off and value == DEFAULTS[key]


def _varying(comparison: Comparison) -> list[str]:
    return [key for key in varying(comparison.trained) if key not in IN_TITLE] if comparison.trained else []


def setting_name(key: str) -> str:
    """Return the name of a dotted setting in tables and figures."""
    return HEADS.get(key, key.rsplit(".", 1)[-1].replace("_", " "))


def setting_text(key: str, value: Any) -> str:
    """Return a setting's value as text."""
    if key == SIDE and value == 0:
        return AS_STORED
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def grid_table(comparison: Comparison) -> Table:
    """Return the grid of a comparison; only settings that differ have a column."""
    keys = _varying(comparison)
    columns = dict(_columns(comparison))
    rows = []
    for row in comparison.rows:
        settings = row.record.settings
        own = (setting_text(key, settings.get(key, MISSING)) for key in keys)
        cells = (*own, *(text(row) for text in columns.values()))
        rows.append((title_of(row.record), *cells))
    marks = tuple("best" if row is comparison.best else row.record.status for row in comparison.rows)
    head = (NAME, *(setting_name(key) for key in keys), *columns)
    return Table("Trials", head, tuple(rows), marks, tuple(notes(comparison)), comparison.chosen_by)


def _columns(comparison: Comparison) -> Iterator[tuple[str, Text]]:
    """Yield head and text of the columns that are not settings."""
    letters = comparison.letters
    for name, text in COLUMNS.items():
        if name not in OPTIONAL or any(text(row) != MISSING for row in comparison.rows):
            yield name, text
        if name == RANKED and letters:
            yield "group", lambda row: letters.get(row.record.digest, MISSING)


def notes(comparison: Comparison) -> list[str]:
    """Return the notes below a grid: order, use of test, intervals, spread over seeds, failures, thresholds, speed."""
    return [
        *_sorted_by(comparison),
        *_use_of_test(comparison),
        *_without_interval(comparison),
        *_worth_of_intervals(comparison),
        *_groups(comparison),
        *(_seed_spread(cell) for cell in comparison.cells if len(cell.rows) > 1),
        *_failures(comparison),
        *_external(comparison),
        *_thresholds(comparison),
        *_speed(comparison),
    ]


def _sorted_by(comparison: Comparison) -> Iterator[str]:
    """Yield what rows are sorted by."""
    if comparison.order == "val_loss":
        yield "Rows are sorted by validation loss, lowest first."
    else:
        yield (
            "Rows are sorted by validation AUROC, highest first: trials have several losses, or class weights, whose "
            "values cannot be compared."
        )


def _use_of_test(comparison: Comparison) -> Iterator[str]:
    """Yield for how many trials test was evaluated where it was not for all, and how a search used it."""
    complete = [row.record for row in comparison.rows if row.record.status == "complete"]
    tested = sum("test" in record.metrics for record in complete)
    if tested < len(complete):
        yield f"Test was evaluated for {tested} of {len(complete)} complete trials; the others have `-`."
    chosen = [search for search in comparison.searches if search.selected]
    others = sum(row.test is not None for row in comparison.unsearched)
    selected = sum(bool(record.selected_by) for record in complete)
    if len(chosen) > 1:
        more = f", and for {_trials(others)} of no search" if others else ""
        yield (
            f"{len(chosen)} searches selected on validation; test was evaluated for the trial that each selected{more}."
        )
    elif chosen and others:
        yield _use_beside_others(chosen[0], others)
    elif selected > 1:
        yield (
            f"The search was continued and selected {selected} times, on validation; test was evaluated once for each "
            "selected trial."
        )
    elif selected:
        yield "The search selected on validation; test was evaluated once, for the selected trial."


def _use_beside_others(search: SearchedTrials, others: int) -> str:
    """Return for which trials of the only search test was evaluated, and that it was for trials of no search."""
    selected = [title_of(record) for record in search.records if record.selected_by and record.status == "complete"]
    chosen = f"{selected[0]}, which it selected" if len(selected) == 1 else f"each of the {len(selected)} it selected"
    return (
        f"Of the {len(search.records)} trials of the search, test was evaluated once for {chosen} on validation; test "
        f"was evaluated for {_trials(others)} of no search too."
    )


def _trials(count: int) -> str:
    return f"{count:,} {'trial' if count == 1 else 'trials'}"


def _without_interval(comparison: Comparison) -> list[str]:
    """Return why metrics on test have no interval, each reason once."""
    tests = [row.test for row in comparison.rows if row.test]
    named: dict[str, list[Interval | None]] = {
        "AUROC": [test.auroc for test in tests],
        "balanced accuracy": [test.balanced_accuracy for test in tests],
        "accuracy": [test.accuracy for test in tests],
    }
    metrics: dict[str, list[str]] = {}
    for name, intervals in named.items():
        for reason in dict.fromkeys(each.reason for each in intervals if each and each.reason):
            metrics.setdefault(reason, []).append(name)
    return [f"No interval of {', '.join(names)} on test: {reason}." for reason, names in metrics.items()]


def _worth_of_intervals(comparison: Comparison) -> list[str]:
    """Return what intervals cover, where there are any.

    Source:
        benchmarks/results/2026-11-27-statistics.md.
    """
    if not any(row.test and row.test.accuracy and row.test.accuracy.ends for row in comparison.rows):
        return []
    return [
        "Intervals of a trial have patients as the unit and do not cover the choice of a seed. In simulations 93 to 98 "
        "% of them hold the true value, of recall 99 % where 10 to 30 patients have few positives."
    ]


def _groups(comparison: Comparison) -> list[str]:
    if not comparison.letters:
        return []
    return ["group: trials that share a letter cannot be told apart by AUROC on test; see cells on test, below."]


def _seed_spread(cell: Cell) -> str:
    """Return mean, standard deviation and range over the seeds of a cell.

    `ResNet50, lr 0.001: 3 seeds, mean (standard deviation; range): validation loss 0.200 (0.050; ...), ...`.
    """
    spreads = []
    for split, metric_name, name in SEED_METRICS:
        values = cell.values(split, metric_name)
        if len(values) > 1:
            numbers = (fmean(values), stdev(values), min(values), max(values))
            mean, deviation, low, high = (number(each, decimals(stdev(values))) for each in numbers)
            spreads.append(f"{name} {mean} ({deviation}; {low} to {high})")
    return f"{cell.name}: {len(cell.rows)} seeds, mean (standard deviation; range): {', '.join(spreads)}"


def _external(comparison: Comparison) -> list[str]:
    names = [title_of(row.record) for row in comparison.rows if row.record.external]
    return [f"Not trained by hemo, which has predictions only: {', '.join(names)}."] if names else []


def _failures(comparison: Comparison) -> list[str]:
    return [
        f"{title_of(row.record)} {row.record.status}: {row.record.reason or 'no reason recorded'}"
        for row in comparison.rows
        if row.record.status != "complete"
    ]


def _thresholds(comparison: Comparison) -> list[str]:
    if comparison.first.config.task == "multi_class":
        return []
    return [
        f"Accuracies are at the threshold with {_rules(comparison)} on validation, one for each class (0.5 if "
        "validation lacks one of its labels); those by epoch are at 0.5. They depend on the few patients that the "
        "threshold came from: compare trials by AUROC. Losses are of logits as trained, all else of calibrated "
        "probabilities."
    ]


def _rules(comparison: Comparison) -> str:
    """Return by what the thresholds of these trials were chosen."""
    rules = dict.fromkeys(row.record.config.training.operating_point for row in comparison.rows)
    named = ("the best balanced accuracy" if rule == BALANCED_ACCURACY else rule for rule in rules)
    return " or ".join(named)


def _speed(comparison: Comparison) -> list[str]:
    """Return how latency and throughput were measured, where they were."""
    records = [row.record for row in comparison.rows if row.record.latency_ms is not None]
    if not records:
        return []
    sizes = sorted({record.inference_batch_size for record in records if record.inference_batch_size})
    batch = " to ".join(map(str, dict.fromkeys((sizes[0], sizes[-1])))) if sizes else "several"
    return [
        f"Latency: median time for one image. Throughput: in batches of {batch} images. Both with torch on the trial's "
        "hardware, while other trials may have run there."
    ]
