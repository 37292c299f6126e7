"""Cells group trials that differ only by seed; all pairs are compared on the same test images."""

from dataclasses import replace

import numpy as np
import pytest

from hemo.errors import SourceError
from hemo.reporting.cells import Cell, cells_of, compare_on_test, order_of
from hemo.reporting.trial_row import Row, read_row
from hemo.stats.auroc import auroc
from hemo.stats.planning import Design


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


@pytest.mark.parametrize(
    ("settings", "order"),
    [
        (({"training.balance": "undersample"}, {}), "val_auroc"),
        (
            (
                {"training.balance": "oversample", "training.balance_ratio": 2},
                {"training.balance": "oversample", "training.balance_ratio": 3},
            ),
            "val_auroc",
        ),
        (({"training.balance_ratio": 2}, {"training.balance_ratio": 3}), "val_loss"),
    ],
)
def test_losses_of_other_class_weights_are_not_compared(make_record, settings, order):
    """Class weights are of the images of an epoch; a ratio without balance changes none."""
    pairs = [[make_record({"training.loss": loss, **each}) for each in settings] for loss in ("class_weighted", "rsna")]
    assert [order_of(pair) for pair in pairs] == [order, "val_loss"]


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


def compare(*cells):
    return compare_on_test(cells, 0)


def test_one_seed_each_is_compared_over_patients_alone(cell):
    """Quality 0 is noise; value and variance are those of `hemo.stats`, and two cells need no adjustment."""
    good, poor = cell("good", 0.9), cell("poor", 0.0)
    found = compare(good, poor)
    (difference,) = found.neighbours
    areas = [made.rows[0].test.ranking.auroc for made in (good, poor)]
    assert difference.auroc.value == areas[0].value - areas[1].value
    change = areas[0].left_out - areas[1].left_out
    perfect = areas[0].perfect_variance + areas[1].perfect_variance
    assert found.auroc.variances == pytest.approx([19 / 20 * (change**2).sum() + perfect])
    assert difference.p == difference.p_holm < 0.001
    assert difference.not_better == difference.p / 2
    assert difference.verdict == "statistically significant (Holm-adjusted p < 0.05)"
    assert difference.average_precision.ends[0] > 0 > difference.log_loss.ends[1]
    assert (found.images, found.patients, found.pairs) == (40, 20, 1)
    assert [each.seeds_error for each in found.cells] == [None, None]
    assert found.cells[0].auroc == good.rows[0].test.auroc
    assert [each.letters for each in found.cells] == ["a", "b"]


def test_seeds_that_disagree_take_a_verdict_back(cell):
    """Means of three seeds; with the same patients, but with a spread of seeds as wide as the difference."""
    steady = compare(cell("a", 0.9), cell("b", 0.2))
    spread = compare(cell("a", 2.0, 0.6, 0.1), cell("b", 0.2, 0.0, 0.3))
    assert steady.neighbours[0].p < 0.05 < spread.neighbours[0].p
    areas = np.array([row.test.auroc.value for row in spread.cells[0].cell.rows])
    assert spread.cells[0].auroc.value == pytest.approx(areas.mean())
    assert spread.auroc.seed_degrees > 0
    assert all(each.seeds_error > 0.1 for each in spread.cells)
    assert [each.letters for each in spread.cells] == ["a", "a"]


def test_the_variance_over_seeds_is_borrowed_by_a_cell_with_one(cell):
    found = compare(cell("a", 0.9, 0.3), cell("b", 0.5))
    several, one = found.cells
    assert (several.borrowed, one.borrowed) == (False, True)
    assert one.seeds_error == pytest.approx(several.seeds_error * 2**0.5)


def test_thresholds_do_not_make_a_difference(cell):
    """The issue's snippet: identical scores, thresholds from two validation sets; accuracies 40 and 20 of 40."""
    one, other = cell("one", 2.0), cell("other", 2.0, thresholds=(1.0,))
    assert (one.rows[0].test.accuracy.value, other.rows[0].test.accuracy.value) == (1.0, 0.5)
    (found,) = compare(one, other).neighbours
    assert (found.auroc.value, found.p, found.verdict) == (0.0, 1.0, "not significant")


def test_all_pairs_are_adjusted_and_views_of_one_comparison(cell):
    """Holm: of three p-values the smallest is tripled; neighbours and the best against the others share a pair."""
    found = compare(cell("good", 0.9), cell("poor", 0.0), cell("like", 0.8))
    assert [(each.first.cell.name, each.second.cell.name) for each in found.from_best] == [
        ("good", "poor"),
        ("good", "like"),
    ]
    assert [(each.first.cell.name, each.second.cell.name) for each in found.neighbours] == [
        ("good", "poor"),
        ("poor", "like"),
    ]
    assert found.neighbours[0].p == found.from_best[0].p
    smallest = min(found.differences(range(3)), key=lambda each: each.p)
    assert smallest.p_holm == pytest.approx(3 * smallest.p)
    assert found.from_best[1].verdict == "not significant"
    assert [each.letters for each in found.cells] == ["a", "b", "a"]


def test_only_the_pairs_that_are_shown_are_planned(cell, monkeypatch):
    """Of four cells, six pairs, three are neighbours; they have the numbers of all pairs planned together."""
    found = compare(
        *(cell(name, quality, quality - 0.2) for name, quality in zip("abcd", (0.9, 0.7, 0.6, 0.3), strict=True))
    )
    planned, times_both = [], Design.times_both
    monkeypatch.setattr(
        Design, "times_both", lambda self, *args: planned.append(len(args[0])) or times_both(self, *args)
    )
    neighbours = found.neighbours
    assert planned == [3]
    every = found.differences(range(6))
    assert planned == [3, 6]
    for difference, pair in zip(neighbours, (0, 3, 5), strict=True):
        together = every[pair]
        for name in ("p", "p_holm", "not_better", "detectable", "further_seeds", "times_patients", "times_both"):
            assert getattr(difference, name) == pytest.approx(getattr(together, name), rel=1e-12)


@pytest.mark.parametrize(("p_holm", "significant"), [(0.0499999, True), (0.05, False)])
def test_significance_is_below_one_twentieth_exactly(cell, p_holm, significant):
    """`1 - 0.95` is 0.05000000000000004, by which p = 0.05 was significant."""
    (found,) = compare(cell("a", 0.9), cell("b", 0.8)).neighbours
    assert replace(found, p_holm=p_holm).verdict.startswith("statistically") is significant


def test_few_patients_are_not_tested_and_the_reason_is_given(cell):
    found = compare(cell("a", 0.9, many=False), cell("b", 0.1, many=False))
    (difference,) = found.neighbours
    assert (difference.p, difference.p_holm, difference.not_better, difference.further_seeds) == (None,) * 4
    assert (difference.auroc.ends, difference.log_loss.ends) == (None, None)
    assert difference.auroc.value == found.cells[0].auroc.value - found.cells[1].auroc.value
    assert difference.verdict == "not tested: 8 patients, at least 10 are needed"
    assert [each.letters for each in found.cells] == ["", ""]


def test_several_classes_are_compared_by_the_variance_of_their_mean(cell):
    """A mean of two classes; the bootstrap of patients is the check."""
    generator = np.random.default_rng(0)
    labels, patients = generator.integers(0, 2, (40, 2)).astype(np.uint8), np.repeat(np.arange(20), 2)

    def of_two_classes(made, noise):
        scores = labels + noise * generator.normal(size=(40, 2))
        test = made.rows[0].test
        resampled = generator.normal(0.7, 0.01 if noise == 1 else 0.03, 200)
        ranking = replace(test.ranking, auroc=auroc(scores, labels, patients), resampled_auroc=resampled)
        return Cell(made.name, (replace(made.rows[0], test=replace(test, ranking=ranking)),))

    first, second = of_two_classes(cell("a", 0.9), 1), of_two_classes(cell("b", 0.8), 2)
    found = compare(first, second)
    rankings = [made.rows[0].test.ranking for made in (first, second)]
    change = rankings[0].auroc.left_out - rankings[1].auroc.left_out
    assert found.auroc.variances == pytest.approx([19 / 20 * (change**2).sum()])
    spread = rankings[0].resampled_auroc - rankings[1].resampled_auroc
    assert found.bootstrap.variances == pytest.approx([spread.var(ddof=1)])
    assert found.bootstrap.values == pytest.approx(found.auroc.values)


def test_two_perfect_cells_have_intervals_that_do_not_collapse(cell):
    """Both rank all images right: the difference is 0, but not known to be."""
    (found,) = compare(cell("a", 2.0), cell("b", 1.9)).neighbours
    assert (found.auroc.value, found.average_precision.value, found.p) == (0, 0, 1)
    assert found.auroc.ends[0] < -0.05
    assert found.average_precision.ends == pytest.approx(found.auroc.ends)


def test_one_cell_is_shown_only_if_it_has_several_seeds(cell, make_record):
    unread = Cell("b", (Row(make_record({"seed": 9}, test=False)),))
    assert compare(cell("a", 0.9), unread) is None
    found = compare(cell("a", 0.9, 0.5), unread)
    assert (len(found.cells), found.pairs, found.neighbours, found.from_best) == (1, 0, [], [])
    assert found.cells[0].letters == "a"
    assert found.cells[0].seeds_error > 0


def test_other_images_are_refused(cell):
    with pytest.raises(SourceError, match="tested on different images"):
        compare(cell("a", 0.9), cell("b", 0.9, many=False))
