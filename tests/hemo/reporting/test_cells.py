"""Trials that differ by seed only are one cell."""

import pytest

from hemo.reporting.cells import cells_of
from hemo.reporting.trial_row import Row


@pytest.mark.parametrize(
    ("names", "cell"),
    [(("VGG16, seed 1", "VGG16, seed 2"), "VGG16"), (("one", "two"), "VGG16"), (("same", "same"), "same")],
)
def test_a_cell_is_named_by_what_its_trials_share(make_record, names, cell):
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
