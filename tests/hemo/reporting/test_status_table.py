"""Metrics of one trial as text."""

from typing import Any

import numpy as np

from hemo.config.trial import TrialConfig
from hemo.curation.card import label_counts, split_finding
from hemo.reporting.status_table import metrics_text
from hemo.trials.record import TrialRecord


def record_of(**fields: Any) -> TrialRecord:
    """Return the record of a trial of one class."""
    named = {"digest": "d", "training_set": "t", "split": "by_patient"}
    return TrialRecord.model_validate(
        {**named, "status": "complete", "config": TrialConfig(), "classes": ("any",), **fields}
    )


def test_the_table_has_a_split_a_row_and_gaps_for_what_is_not_defined() -> None:
    record = record_of(
        best_epoch=0,
        parameters=11_177_025,
        megabytes=44.74,
        latency_ms=12.34,
        inference_images_per_second=150.4,
        inference_batch_size=8,
        thresholds=(0.00042,),
        baseline={"train": {"loss": 0.75, "accuracy": 0.5}},
        metrics={"val": {"loss": 0.5, "accuracy": 0.75}},
    )
    assert metrics_text(record).splitlines() == [
        "best epoch 0 of 0; thresholds: any 0.000420",
        "11,177,025 parameters, 44.7 MB; 12.3 ms for one image, 150 images/s in batches of 8",
        "          split         loss     accuracy        auroc       recall  specificity    precision           f1",
        "at start: train       0.7500       0.5000            -            -            -            -            -",
        "            val       0.5000       0.7500            -            -            -            -            -",
    ]


def test_how_many_workers_ran_is_shown_where_it_changed(make_record) -> None:
    """Two from the first epoch, one from the third, two from the fifth on; always two: no line."""
    record = make_record({})
    counts = (2, 2, 1, 1, 2, 2, 2, 2, 2, 2)
    epochs = [epoch.model_copy(update={"workers": n}) for epoch, n in zip(record.epochs, counts, strict=True)]
    changed = record.model_copy(update={"epochs": tuple(epochs)})
    assert "workers: 2 from epoch 1, 1 from epoch 3, 2 from epoch 5" in metrics_text(changed).splitlines()
    assert "workers" not in metrics_text(changed.model_copy(update={"epochs": tuple(epochs[:2])}))


def test_a_threshold_that_validation_cannot_choose_is_no_number() -> None:
    """Validation has 12 images of 3 patients, none of them positive."""
    finding = split_finding("val", 3, label_counts(("any",), np.zeros((12, 1), np.uint8), np.arange(12) // 4))
    record = record_of(
        thresholds=(None,),
        metrics={"val": {"loss": 0.5, "specificity": 1.0}},
        findings=(finding,),
    )
    lines = metrics_text(record).splitlines()
    assert lines[0] == "best epoch 0 of 0; thresholds: any undefined: all images of val are alike in it, 0.5 is applied"
    assert lines[2].split() == ["val", "0.5000", "-", "-", "-", "1.0000", "-", "-"]
    assert lines[3] == (
        "accuracy, threshold and best epoch of val mean nothing: val has too few patients to choose an epoch, "
        "a threshold or a model by: 3 (of at least 10), with any 0 (of at least 5), without any 3 (of at least 5)"
    )
