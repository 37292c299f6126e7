"""Predictions as arrays: what is right, and what always giving the commonest answer would get right."""

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import roc_auc_score

from hemo.trials.predictions import split_scores
from hemo.trials.record import PREDICTION_SCHEMA


def table(labels, logits):
    """Return predictions on test, and one row of validation that must not count."""
    rows = [
        {
            "split": split,
            "image_id": f"{split}{row}",
            "patient": f"p{row}",
            "pixel_format": "u12",
            "labels": label,
            "logits": logit,
        }
        for split, some in (("test", zip(labels, logits, strict=True)), ("val", [(labels[0], logits[0])]))
        for row, (label, logit) in enumerate(some)
    ]
    return pa.Table.from_pylist(rows, schema=PREDICTION_SCHEMA)


def test_binary_uses_the_records_threshold(make_record):
    """Probabilities .5, .731, .881 against a threshold of .6: no, yes, yes; the commonest answer gets 2 of 3.

    Losses are -log of .5, .731 and 1 - .881.
    """
    record = make_record({}, thresholds=(0.6,))
    scores = split_scores(table([[1], [1], [0]], [[0.0], [1.0], [2.0]]), "test", record)
    assert scores is not None
    assert scores.hits.tolist() == [[False], [True], [False]]
    assert scores.majority_accuracy == 2 / 3
    assert scores.patients.tolist() == [0, 1, 2]
    np.testing.assert_allclose(scores.image_log_loss(), [0.6931, 0.3133, 2.1269], atol=1e-4)


def test_multi_label_is_the_mean_over_classes(make_record):
    """Row 0 has both classes right, row 1 one of two; the commonest answers are right for 1/2 and for all."""
    record = make_record({"task": "multi_label"}, thresholds=(0.5, 0.5))
    scores = split_scores(table([[1, 0], [0, 0]], [[3.0, -3.0], [3.0, -3.0]]), "test", record)
    assert scores is not None
    assert scores.hits.tolist() == [[True, True], [False, True]]
    assert scores.majority_accuracy == 0.75
    loss = np.log1p(np.exp(-3.0))  # of three right predictions; the wrong one's is 3 more
    np.testing.assert_allclose(scores.image_log_loss([2.0, 1.0]), [loss, loss + 2.0])


def test_each_class_has_its_own_threshold(make_record):
    """Probabilities .73 and .27: above .8 and .2 is the second alone."""
    record = make_record({"task": "multi_label"}, thresholds=(0.8, 0.2))
    scores = split_scores(table([[1, 0], [0, 1]], [[1.0, -1.0], [1.0, -1.0]]), "test", record)
    assert scores is not None
    assert scores.hits.tolist() == [[False, False], [True, True]]


def test_multi_class_takes_the_largest_logit_and_ranks_log_odds(make_record):
    """Logits (1, 3) and (11, 11): row 1 is less sure of class 1, for all the size of its logits."""
    record = make_record({"task": "multi_class"})
    scores = split_scores(table([[0, 1], [0, 1]], [[1.0, 3.0], [11.0, 11.0]]), "test", record)
    assert scores is not None
    assert scores.hits.tolist() == [[True], [False]]
    np.testing.assert_allclose(scores.image_log_loss([2.0, 1.0]), [np.log1p(np.exp(-2)), np.log(2)], rtol=1e-6)
    np.testing.assert_allclose(scores.scores[:, 1], [2.0, 0.0], atol=1e-6)
    assert scores.majority_accuracy == 1.0


def test_certain_images_of_exclusive_classes_keep_their_order(make_record):
    """Probabilities 1 - e^-20, 1 - e^-19 and 1 - e^-21 are 1 in float32; of three classes e^-20 counts twice."""
    record = make_record({"task": "multi_class"})
    logits = [[20.0, 0.0], [19.0, 0.0], [21.0, 0.0]]
    scores = split_scores(table([[1, 0], [0, 1], [1, 0]], logits), "test", record)
    assert scores is not None
    np.testing.assert_allclose(scores.scores, [[20, -20], [19, -19], [21, -21]], rtol=1e-6)
    assert roc_auc_score(scores.labels[:, 0], scores.scores[:, 0]) == 1.0
    three = split_scores(table([[1, 0, 0]], [[20.0, 0.0, 0.0]]), "test", record)
    assert three is not None
    np.testing.assert_allclose(three.scores[0], [20 - np.log(2), -20, -20], rtol=1e-6)


def test_auroc_of_large_exclusive_logits_is_that_of_their_log_odds(make_record):
    generator = np.random.default_rng(0)
    labels = np.eye(3, dtype=int)[generator.integers(0, 3, 300)]
    logits = (20 * (generator.normal(size=(300, 3)) + 1.5 * labels)).astype(np.float32).astype(float)
    scores = split_scores(table(labels.tolist(), logits.tolist()), "test", make_record({"task": "multi_class"}))
    assert scores is not None
    order = np.argsort([f"test{row}" for row in range(300)])
    for column in range(3):
        odds = logits[:, column] - np.logaddexp.reduce(np.delete(logits, column, axis=1), axis=1)
        expected = roc_auc_score(labels[:, column], odds)
        assert roc_auc_score(labels[order, column], scores.scores[:, column]) == pytest.approx(expected, abs=1e-12)


def test_a_split_that_was_not_predicted_is_none(make_record):
    predictions = table([[1]], [[0.0]]).slice(1)
    assert split_scores(predictions, "test", make_record({})) is None


def test_rows_are_sorted_by_image_whatever_their_order(make_record):
    """Two trials that stored the same images in different orders can be compared image by image."""
    stored = table([[1], [0], [0]], [[0.0], [1.0], [2.0]])
    turned = stored.take([3, 2, 1, 0])
    one, other = (split_scores(each, "test", make_record({}, thresholds=(0.5,))) for each in (stored, turned))
    assert (one.images, one.scores.tolist(), one.patients.tolist()) == (
        other.images,
        other.scores.tolist(),
        other.patients.tolist(),
    )


def test_the_digest_of_images_covers_ids_patients_and_labels(make_record):
    """As many images of the same patients are not the same images."""
    record = make_record({}, thresholds=(0.5,))
    digests = {
        split_scores(table(labels, [[0.0], [1.0]]), "test", record).images for labels in ([[1], [0]], [[0], [1]])
    }
    swapped = table([[1], [0]], [[0.0], [1.0]])
    for name, values in (("image_id", ["test1", "test2", "val0"]), ("patient", ["p0", "p0", "p0"])):
        column = swapped.schema.get_field_index(name)
        other = swapped.set_column(column, swapped.schema.field(column), pa.array(values))
        digests.add(split_scores(other, "test", record).images)
    assert len(digests) == 4


def test_a_subset_numbers_its_patients_anew(make_record):
    scores = split_scores(table([[1], [1], [0]], [[0.0], [1.0], [2.0]]), "test", make_record({}, thresholds=(0.6,)))
    subset = scores.where(np.array([False, True, True]))
    assert (subset.patients.tolist(), subset.hits.tolist()) == ([0, 1], [[True], [False]])
