"""What records know of model, training and performance: each a text for a document, empty where nothing is recorded."""

from statistics import fmean, stdev

import numpy as np
from numpy.typing import NDArray

from hemo.config.trial import IMAGES, TrialConfig
from hemo.config.tune import flattened
from hemo.console import hours
from hemo.reporting import elsewhere_tables
from hemo.reporting.cell_tables import describe_difference
from hemo.reporting.documents.data_facts import Fact, encoder
from hemo.reporting.documents.study import Study
from hemo.reporting.metric_tables import HEADS
from hemo.reporting.probabilities import describe_calibration, reason_of
from hemo.reporting.selection import describe_choice
from hemo.reporting.table_format import Table, metric, probability_text
from hemo.reporting.trial_row import estimate, image_of, metrics_by_class, metrics_by_group
from hemo.reporting.trial_table import chosen_among, settings_line
from hemo.stats import CALIBRATION_BINS
from hemo.training.results import METRICS
from hemo.trials.predictions import Scores
from hemo.trials.record import metrics_of, title_of

CONFIDENT = 0.9
"""Probability of a wrong answer above which a mistake counts as a confident one."""

TASKS = {
    "binary": "has the target or not",
    "multi_label": "may have several classes",
    "multi_class": "has one class",
}
"""Task -> what is predicted of an image or a study."""

STUDY_LOGITS = {
    "attention": "the mean of the logits of its slices, weighted by attention, with a scale and a shift a class",
    "noisy_or": "noisy-or of its slices, 1 - product of (1 - p)",
}
"""`model.series.study` -> how slices become a study."""


def technology(study: Study) -> str:
    """Return the kind of model."""
    record, config = study.record, study.record.config
    task = f"{config.row_noun.a} {TASKS[config.task]} ({', '.join(record.classes)})"
    return f"deep learning: {config.model.backbone}, {task}"


def model(study: Study) -> str:
    """Return architecture and size."""
    record, config = study.record, study.record.config.model
    if config.is_sequence:
        return f"{_sequence_layers(study)}; {record.parameters:,} parameters, those of the encoder not counted"
    hidden = f", {config.hidden_layers} dense layers of {config.dense_width} (ReLU)" if config.hidden_layers else ""
    pooling = {"gap": "global average pooling", "flatten": "all positions"}[config.pooling]
    size = f"{record.parameters:,} parameters"
    speed = f", {record.latency_ms:.1f} ms an image on {record.hardware}" if record.latency_ms is not None else ""
    layers = f"{pooling}{hidden}, dropout {config.dropout:g}, a logit for each of {', '.join(record.classes)}"
    return f"backbone {config.backbone}, {layers}; {size}{speed}"


def _sequence_layers(study: Study) -> str:
    """Return the layers of a sequence model, from a slice to its study."""
    config, classes = study.record.config.model, ", ".join(study.record.classes)
    network, _, widths = config.backbone.rstrip(")").partition("(")
    first, listed = widths.partition(",")[0], widths.replace(",", ", ")
    layers = {
        "BiGRU": f"bidirectional GRU layers of {listed} units in each direction",
        "Transformer": f"transformer encoder layers of {listed} units, with an encoding of the position in mm",
    }[network]
    slices = f"each slice projected to {first} units, {layers}, dropout {config.dropout:g}"
    logits = f"a logit for each of {classes} of each slice from its projection and the last layer"
    of_study = STUDY_LOGITS[config.series.study]
    return f"{config.backbone} over the slices of a series: {slices}, {logits}; of a study {of_study}"


def predictors(study: Study) -> str:
    """Return what the model gets."""
    if study.record.config.model.is_sequence:
        return f"{_sequence_input(study)}; no clinical data"
    return (
        f"the pixels of one image, {image_of(study.record)}; no clinical data" if study.record.image else "pixels only"
    )


def _sequence_input(study: Study) -> str:
    """Return what a sequence model gets of a study."""
    found = study.embedded_by
    vectors = f"embeddings of the slices of a study, series by series in order of position, by {encoder(study)}"
    numbers = f", {found.dimension:,} numbers a slice, the mean over positions" if found else ""
    beside = f"; its probabilities of {', '.join(found.classes)}" if found and found.classes else ""
    places = "differences of a slice to those below and above, its height in the series and its distances to them"
    return f"{vectors}{numbers}{beside}; {places}"


def blinding(study: Study) -> str:
    """Return what the model knows beside the image."""
    given = "embeddings of slices and their positions" if study.record.config.model.is_sequence else "pixels"
    return f"the model is given {given} only: neither clinical data nor labels"


def output(study: Study) -> str:
    """Return what the model gives."""
    record, config = study.record, study.record.config
    function = "softmax" if config.task == "multi_class" else "sigmoid"
    given = f"a probability ({function}) of {', '.join(record.classes)} for each {config.row_noun.one}"
    of_study = (
        "; a probability for each study, not calibrated and without a threshold" if _learns_slices(config) else ""
    )
    return f"{given}, and a class at a threshold{of_study}"


def _learns_slices(config: TrialConfig) -> bool:
    return config.model.is_sequence and config.row_noun == IMAGES


def thresholds(study: Study) -> str:
    """Return thresholds and how they were chosen."""
    record = study.record
    if record.config.task == "multi_class":
        return "none: the most probable class is predicted"
    pairs = zip(record.classes, record.thresholds, strict=False)
    texts = ((name, "0.5 (not chosen)" if value is None else probability_text(value)) for name, value in pairs)
    listed = ", ".join(f"{name} {text}" for name, text in texts)
    rule = record.config.training.operating_point
    return f"{listed}; chosen on validation by the rule {rule}, before test was read" if listed else ""


def indeterminate(study: Study) -> str:
    """Return how indeterminate results of the model are handled."""
    if study.record.config.model.is_sequence:
        return (
            "the model has none: each slice with an embedding and a position gets a probability, as does its study; "
            "localizers, screen captures and slices without a position are rejects"
        )
    return "the model has none: each image that can be read gets a probability; images that cannot are rejects"


def software(study: Study) -> str:
    """Return versions of libraries."""
    record = study.record
    listed = ", ".join(f"{name} {version}" for name, version in record.versions.items())
    commit = f"; commit {record.commit}" if record.commit else ""
    return f"{listed}{commit}" if listed else ""


def initialisation(study: Study) -> str:
    """Return initial weights and seed."""
    config = study.record.config
    if config.model.is_sequence:
        return f"random weights, seed {config.seed}; {encoder(study)} is not trained"
    weights = {"none": "random weights", "imagenet": "ImageNet weights of timm, new head"}
    return f"{weights.get(config.model.weights, 'weights of a file, new head')}; seed {config.seed}"


def training(study: Study) -> str:
    """Return the settings of training and augmentation."""
    record = study.record
    elsewhere = [key for key, _ in flattened(record.config.deciding()) if not key.startswith(("training.", "augment."))]
    ran = f"ran {len(record.epochs)} epochs in {hours(record.seconds)} on {record.hardware or 'unknown hardware'}"
    return f"{settings_line(record.config, elsewhere)}{_sequence_loss(record.config)}; {ran}"


def _sequence_loss(config: TrialConfig) -> str:
    """Return what a sequence model learned from; empty for a model of images."""
    if not config.model.is_sequence:
        return ""
    weight = f"; study_weight {config.model.series.study_weight:g}" if _learns_slices(config) else ""
    return f"; batches of whole studies, loss of {'slices and studies' if weight else 'studies'}{weight}"


def imbalance(study: Study) -> str:
    """Return what was done about rare classes."""
    config, card = study.record.config.training, study.card
    steps = [step.detail for step in card.steps if step.name == "balance"] if card else []
    steps += [f"{config.balance} in each epoch"] if config.balance != "none" else []
    steps += [f"loss {config.loss}"] if config.loss in ("class_weighted", "focal", "dice") else []
    return "; ".join(steps) or "labels were neither balanced nor weighted"


def selection(study: Study) -> str:
    """Return how epoch and trial were chosen."""
    record, comparison = study.record, study.comparison
    epoch = f"weights of epoch {record.best_epoch} of {len(record.epochs)}, the lowest validation loss"
    choice = next((each for each in comparison.choices if each.record is record), None)
    corrected = f"; {describe_choice(choice, comparison.samples)}" if choice else ""
    return f"{epoch}; {chosen_among(study.row, comparison)}{corrected}"


def ensembling(study: Study) -> str:
    """Return whether several models are combined."""
    return "none: one model"


def metrics(study: Study) -> str:
    """Return which metrics there are."""
    known = metrics_of(study.record, "test") or metrics_of(study.record, "val")
    return ", ".join(HEADS.get(name, name) for name in METRICS if name in known)


def uncertainty(study: Study) -> str:
    """Return how intervals and tests are made."""
    tested = study.comparison.tested
    from_seeds = ""
    if tested and tested.cells[0].seeds_error is not None:
        from_seeds = ", to whose variance that over seeds is added (Obuchowski and Rockette 1995)"
    return (
        "95 % intervals with patients as the unit: AUROC by the clustered variance on the logit scale, accuracy, "
        "recall and specificity by Wilson's interval at the effective sample size; models compared by DeLong's test "
        f"with patients as clusters{from_seeds}, Holm-adjusted"
    )


def seeds(study: Study) -> str:
    """Return the spread over seeds."""
    rows = study.seeds
    values = [row.test.auroc.value for row in rows if row.test and row.test.auroc]
    if len(values) < 2 and len(rows) > 1:
        return f"{len(rows)} seeds, test evaluated for {len(values)} of them: the spread on test is not known"
    if len(values) < 2:
        return f"one seed ({study.record.config.seed}): the spread over seeds is not known"
    spread = f"test AUROC {fmean(values):.3f}, standard deviation {stdev(values):.3f}"
    return f"{len(values)} seeds: {spread}, {min(values):.3f} to {max(values):.3f}"


def subgroups(study: Study) -> str:
    """Return performance by pixel format in words."""
    if study.scores is None:
        return ""
    groups = metrics_by_group(study.scores, study.scores.pixel_formats, study.record.classes)
    if not groups:
        return "one pixel format only; no other subgroups are recorded"
    return "AUROC by pixel format: " + "; ".join(f"{each.name} {estimate(each.auroc)}" for each in groups)


def internal_test(study: Study) -> str:
    """Return what the test split is."""
    record, noun = study.record, study.record.config.row_noun.many
    if "test" not in record.metrics:
        return f"validation only ({record.rows.get('val', 0):,} {noun}): test was not read"
    return f"{record.rows['test']:,} {noun} of the test split, held out by `{record.split}`, of the same corpus"


def external_test(study: Study) -> str:
    """Return what other data the model was evaluated on."""
    return "; ".join(map(elsewhere_tables.summary, study.elsewhere))


def discrimination(study: Study) -> str:
    """Return AUROC on test."""
    test = study.row.test
    return f"test AUROC {estimate(test.auroc)} (95 % interval)" if test and test.auroc else ""


def diagnostic_accuracy(study: Study) -> str:
    """Return recall, specificity and accuracies on test."""
    test = study.row.test
    if test is None:
        return ""
    named = {
        "sensitivity": test.recall,
        "specificity": test.specificity,
        "balanced accuracy": test.balanced_accuracy,
        "accuracy": test.accuracy,
    }
    known = ", ".join(f"{name} {estimate(interval)}" for name, interval in named.items() if interval)
    always = metric(test.majority_accuracy, test.image_count)
    baseline = f"always predicting the commonest class: accuracy {always}"
    return f"on test at the threshold, with 95 % intervals: {known}; {baseline}"


def confusion(study: Study) -> str:
    """Return counts of the confusion matrices on test."""
    record = study.record
    matrices = record.confusion.get("test", ())
    if record.config.task == "multi_class":
        return f"rows by label, columns by prediction: {matrices[0]}" if matrices else ""
    pairs = zip(record.classes, matrices, strict=True) if matrices else ()
    texts = [f"{name}: TP {tp:,}, FN {fn:,}, FP {fp:,}, TN {tn:,}" for name, ((tn, fp), (fn, tp)) in pairs]
    return "test, " + "; ".join(texts) if texts else ""


def calibration(study: Study) -> str:
    """Return how probabilities were calibrated, and how well they agree with frequencies."""
    record = study.record
    done = [f"{name}: {describe_calibration(record, column)}" for column, name in enumerate(record.classes)]
    error, images = metrics_of(record, "test").get("calibration_error"), record.rows.get("test", 0)
    name = f"expected calibration error on test ({CALIBRATION_BINS} bins of equal width)"
    errors = f"; {name} {metric(error, images)}" if error is not None else ""
    return f"calibration, fitted on validation: {'; '.join(done)}{reason_of(record.calibration)}{errors}"


def updating(study: Study) -> str:
    """Return whether the model was changed after its evaluation."""
    anew = [each for each in study.elsewhere if each.record.recalibration]
    if not anew:
        return "none: the evaluated weights are those of training"
    texts = [f"{each.record.data.name}: {dict(elsewhere_tables.heading(each))['Recalibration']}" for each in anew]
    done = "weights unchanged; probabilities recalibrated and thresholds chosen anew on some patients of"
    return f"{done} {'; '.join(texts)}"


def comparison(study: Study) -> str:
    """Return the comparison of the two best cells, if there are two."""
    tested = study.comparison.tested
    return describe_difference(tested, study.comparison.order) if tested and tested.pairs else ""


def mistakes(study: Study) -> str:
    """Return how many test images or studies are predicted wrongly, and how many of them with confidence."""
    if study.scores is None:
        return ""
    wrong, confidence = wrong_predictions(study.scores)
    sure = int((confidence[wrong] > CONFIDENT).sum())
    noun = study.record.config.row_noun.many
    of = noun if wrong.shape[1] == 1 or study.scores.exclusive else f"labels of {noun}"
    confident = f"{sure:,} with a probability above {CONFIDENT}"
    return f"{int(wrong.sum()):,} of {wrong.size:,} {of} of test are predicted wrongly, {confident}"


def wrong_predictions(scores: Scores) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return which predictions are wrong, and the probability that the model gave to its answer.

    Returns:
        Two arrays of shape (rows, classes); of exclusive classes (rows, 1).
    """
    if scores.exclusive:
        return ~scores.hits, scores.probabilities.max(axis=1, keepdims=True)
    sure = np.where(scores.predicted, scores.probabilities, 1 - scores.probabilities)
    return scores.predicted != scores.labels, sure


def access(study: Study) -> str:
    """Return how others can use the model."""
    files = f"`checkpoint/` of record {study.record.digest} (weights.safetensors, checkpoint.json)"
    if study.record.config.model.is_sequence:
        return (
            f"{files} is what `hemo predict` needs to apply the model to embeddings by `hemo embed`, which needs the "
            "encoder's own checkpoint or weights"
        )
    return f"{files} is all that `hemo predict` needs to apply the model to raw files; `hemo export` writes it as ONNX"


def stored_outputs(study: Study) -> str:
    """Return which outputs are kept."""
    config = study.record.config
    of_studies = ", `studies.parquet` (the same of each study)" if _learns_slices(config) else ""
    return (
        f"record {study.record.digest}: `record.json` (all settings, epochs, versions), `predictions.parquet` "
        f"(label and logits of each validation and test {config.row_noun.one}){of_studies}"
    )


def performance_table(study: Study) -> Table:
    """Return metrics of each split, and intervals of those of test that have one."""
    record, test = study.record, study.row.test
    intervals = (
        {"auroc": test.auroc, "accuracy": test.accuracy, "recall": test.recall, "specificity": test.specificity}
        if test
        else {}
    )
    rows = []
    for name in METRICS:
        values = [metrics_of(record, split).get(name) for split in ("train", "val", "test")]
        if all(value is None for value in values):
            continue
        interval = intervals.get(name)
        texts = [
            metric(value, record.rows.get(split, 0))
            for split, value in zip(("train", "val", "test"), values, strict=True)
        ]
        rows.append((HEADS.get(name, name), *texts, estimate(interval) if interval and interval.ends else ""))
    return Table(f"Performance of {title_of(record)}", ("metric", "train", "val", "test", "test (95 %)"), tuple(rows))


def format_table(study: Study) -> Table | None:
    """Return performance on test by pixel format; None with one format."""
    if study.scores is None:
        return None
    groups = metrics_by_group(study.scores, study.scores.pixel_formats, study.record.classes)
    rows = tuple(
        (each.name, f"{each.images:,}", each.prevalence.text, estimate(each.auroc), estimate(each.accuracy))
        for each in groups
    )
    if not groups:
        return None
    head = ("pixel format", "images", groups[0].prevalence.head, "AUROC (95 %)", "accuracy (95 %)")
    return Table("Test by pixel format", head, rows)


def class_table(study: Study) -> Table | None:
    """Return performance on test by class; None with one class."""
    if study.scores is None:
        return None
    rows = tuple(
        (each.name, f"{each.positives:,}", estimate(each.auroc), estimate(each.recall), estimate(each.specificity))
        for each in metrics_by_class(study.scores, study.record.classes)
    )
    head = ("class", "positives", "AUROC (95 %)", "sensitivity (95 %)", "specificity (95 %)")
    return Table("Test by class", head, rows) if rows else None


MODEL_FACTS: dict[str, Fact] = {
    fact.__name__: fact
    for fact in (
        *(
            technology,
            model,
            predictors,
            blinding,
            output,
            thresholds,
            indeterminate,
            software,
            initialisation,
            training,
        ),
        *(imbalance, selection, ensembling, metrics, uncertainty, seeds, subgroups, internal_test, external_test),
        *(discrimination, diagnostic_accuracy, confusion, calibration, updating, comparison, mistakes, access),
        stored_outputs,
    )
}
