"""Cells group trials that differ only by seed; the best is compared with the others on the same test images."""

from dataclasses import replace

import numpy as np
import pytest

from hemo.errors import SourceError
from hemo.reporting.cells import Cell, cells_of, compare_best_cell, describe_difference
from hemo.reporting.trial_row import Row, read_row
from hemo.stats.auroc import auroc


@pytest.mark.parametrize(
    ("names", "cell"),
    [(("VGG16, seed 1", "VGG16, seed 2"), "VGG16"), (("one", "two"), "VGG16"), (("same", "same"), "same")],
)
def test_a_cell_is_named_by_what_its_trials_have_in_common(make_record, names, cell):
    records = [
        make_record({"name": name, "seed": seed, "model.backbone": "VGG16"}) for seed, name in enumerate(names, 1)
    ]
    (found,) = cells_of([Row(record) for record in records])
    assert (found.name, len(found.rows)) == (cell, 2)


def test_the_lowest_mean_loss_comes_first_and_only_complete_trials_count(make_record):
    """Losses .1 and .5 have the mean .3, above .2."""
    rows = [
        Row(make_record({"name": name, "seed": seed, "model.dense_width": width}, metrics={"val": {"loss": loss}}))
        for name, seed, width, loss in (("a", 1, 8, 0.1), ("a", 2, 8, 0.5), ("b", 1, 32, 0.2))
    ]
    rows.append(Row(make_record({"name": "c", "seed": 9}, status="failed")))
    assert [(cell.name, cell.values("val", "loss")) for cell in cells_of(rows)] == [("b", [0.2]), ("a", [0.1, 0.5])]


@pytest.fixture
def cell(make_record, tmp_path):
    """Return a function that makes a cell with a trial for each quality, tested on forty images of twenty patients."""

    def make(name, *qualities, **fields):
        rows = []
        for seed, quality in enumerate(qualities):
            changes = {"name": name, "seed": seed, "model.dense_width": 1 + sum(map(ord, name))}
            record = make_record(changes, quality=quality, **{"many": True, **fields})
            rows.append(read_row(record, str(tmp_path / "records"), samples=200, seed=0))
        return Cell(name, tuple(rows))

    return make


def test_the_difference_in_auroc_is_tested_with_patients_as_clusters(cell):
    """Quality 0 is noise; value, interval and p are those of `hemo.stats.auroc`, and two cells need no adjustment."""
    good, poor = cell("good", 0.9), cell("poor", 0.0)
    (found,) = compare_best_cell([good, poor])
    gap = good.rows[0].test.ranking.auroc.minus(poor.rows[0].test.ranking.auroc)
    assert found.auroc.value == good.rows[0].test.auroc.value - poor.rows[0].test.auroc.value
    assert (found.auroc, found.p, found.p_holm) == (gap.difference_interval(), gap.p_value(), gap.p_value())
    assert found.p < 0.001
    assert found.verdict == "statistically significant (Holm-adjusted p < 0.05)"
    assert found.average_precision.ends[0] > 0 > found.log_loss.ends[1]
    assert (found.images, found.patients, found.test) == (
        40,
        20,
        "DeLong's test with patients as clusters (Obuchowski 1997)",
    )
    text = describe_difference(found)
    assert text.startswith(
        "good and poor have the lowest validation losses of the cells evaluated on test; the AUROC of good is higher by"
    )
    assert "on the same 40 test images of 20 patients (95 % interval " in text
    assert text.endswith(
        "The difference is statistically significant (Holm-adjusted p < 0.05); one seed only: another may change the "
        "order."
    )


def test_thresholds_do_not_make_a_difference(cell):
    """The issue's snippet: identical scores, thresholds from two validation sets; accuracies 40 and 20 of 40."""
    one, other = cell("one", 2.0), cell("other", 2.0, thresholds=(1.0,))
    assert (one.rows[0].test.accuracy.value, other.rows[0].test.accuracy.value) == (1.0, 0.5)
    (found,) = compare_best_cell([one, other])
    assert (found.auroc.value, found.p, found.verdict) == (0.0, 1.0, "not significant")
    assert "both have the same AUROC" in describe_difference(found)


def test_three_cells_are_adjusted(cell):
    """Holm: of two p-values the smaller is doubled."""
    found = compare_best_cell([cell("good", 0.9), cell("poor", 0.0), cell("like", 0.8)])
    assert [each.other.name for each in found] == ["poor", "like"]
    assert found[0].p_holm == 2 * found[0].p
    assert found[1].p_holm == found[1].p
    assert found[1].verdict == "not significant"
    assert "p (Holm, 2 comparisons) " in describe_difference(found[0])


@pytest.mark.parametrize(("p_holm", "significant"), [(0.0499999, True), (0.05, False)])
def test_significance_is_below_one_twentieth_exactly(cell, p_holm, significant):
    """`1 - 0.95` is 0.05000000000000004, by which p = 0.05 was significant."""
    (found,) = compare_best_cell([cell("a", 0.9), cell("b", 0.8)])
    assert replace(found, p_holm=p_holm).verdict.startswith("statistically") is significant


def test_seeds_are_averaged(cell):
    """The mean of a cell's AUROCs; the same two seeds on both sides differ by nothing."""
    both, one = cell("both", 0.9, 0.0), cell("one", 0.5)
    (found,) = compare_best_cell([both, one])
    areas = [row.test.auroc.value for row in both.rows]
    assert found.auroc.value == pytest.approx(np.mean(areas) - one.rows[0].test.auroc.value)
    assert describe_difference(found).endswith("one seed only: another may change the order.")
    (same,) = compare_best_cell([both, cell("same", 0.9, 0.0)])
    assert (same.auroc.value, same.p) == (0, 1)
    assert describe_difference(same).endswith("is not significant; mean of 2 seeds each.")


def test_a_second_cell_that_is_better_is_named(cell):
    (found,) = compare_best_cell([cell("poor", 0.1), cell("good", 0.9)])
    assert found.auroc.value < 0
    assert "the AUROC of good is higher by 0." in describe_difference(found)


def test_few_patients_are_not_tested_and_the_reason_is_given(cell):
    (found,) = compare_best_cell([cell("a", 0.9, many=False), cell("b", 0.1, many=False)])
    assert (found.p, found.p_holm, found.auroc.ends, found.log_loss.ends) == (None, None, None, None)
    assert found.verdict == "not tested: 8 patients, at least 10 are needed"
    assert describe_difference(found).endswith("; not tested: 8 patients, at least 10 are needed.")


def test_several_classes_are_tested_by_resampled_patients(cell):
    """A mean of two classes: the variance is that of the resamples."""
    generator = np.random.default_rng(0)
    labels, patients = generator.integers(0, 2, (40, 2)).astype(np.uint8), np.repeat(np.arange(20), 2)

    def of_two_classes(made, noise):
        scores = labels + noise * generator.normal(size=(40, 2))
        test = made.rows[0].test
        ranking = replace(
            test.ranking,
            auroc=auroc(scores, labels, patients),
            resampled_auroc=generator.normal(0.7, 0.01 if noise == 1 else 0.03, 200),
        )
        return Cell(made.name, (replace(made.rows[0], test=replace(test, ranking=ranking)),))

    first, second = of_two_classes(cell("a", 0.9), 1), of_two_classes(cell("b", 0.8), 2)
    (found,) = compare_best_cell([first, second])
    spread = first.rows[0].test.ranking.resampled_auroc - second.rows[0].test.ranking.resampled_auroc
    gap = first.rows[0].test.ranking.auroc.minus(second.rows[0].test.ranking.auroc)
    assert found.test == "bootstrap of patients"
    assert found.p == gap.p_value(spread.var(ddof=1))
    assert found.auroc.ends == gap.difference_interval(spread.var(ddof=1)).ends


def test_two_perfect_cells_have_intervals_that_do_not_collapse(cell):
    """Both rank all images right: the difference is 0, but not known to be."""
    (found,) = compare_best_cell([cell("a", 2.0), cell("b", 1.9)])
    assert (found.auroc.value, found.average_precision.value, found.p) == (0, 0, 1)
    assert found.auroc.ends[0] < -0.05
    assert found.average_precision.ends == pytest.approx(found.auroc.ends)


def test_nothing_is_compared_where_one_cell_was_evaluated_on_test(cell, make_record):
    unread = Cell("b", (Row(make_record({"seed": 9}, test=False)),))
    assert compare_best_cell([cell("a", 0.9), unread]) == ()


def test_other_images_are_refused(cell):
    with pytest.raises(SourceError, match="tested on different images"):
        compare_best_cell([cell("a", 0.9), cell("b", 0.9, many=False)])
