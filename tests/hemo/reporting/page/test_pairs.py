"""The difference of any two trials on test."""

import numpy as np
import pytest

from hemo.reporting.comparison import compare_trials
from hemo.reporting.page.pairs import UNIT, pair_half_widths
from hemo.trials.record import read_records


def rows_of(tmp_path):
    folder = str(tmp_path / "records")
    (found,) = compare_trials(read_records(folder), folder, samples=50, seed=0)
    return found


def test_every_pair_has_the_interval_of_the_comparison_of_cells(make_record, tmp_path):
    """Cells of one seed each are trials: both must give the same intervals, to the rounding of 0.00001."""
    for number, quality in enumerate((0.9, 0.5, 0.3)):
        make_record({"model.dense_width": 8 * (number + 1)}, quality=quality, many=True)
    comparison = rows_of(tmp_path)
    found = pair_half_widths(comparison.rows)
    assert found["digests"] == [row.record.digest for row in comparison.rows]
    assert np.array(found["half_widths"]) * UNIT == pytest.approx(comparison.tested.auroc.half_widths, abs=UNIT)
    assert len(found["half_widths"]) == 3


def test_equal_trials_do_not_differ(make_record, tmp_path):
    for seed in (1, 2):
        make_record({"seed": seed}, quality=0.3, many=True)
    assert pair_half_widths(rows_of(tmp_path).rows)["half_widths"] == [0]


def test_too_few_patients_have_the_reason(make_record, tmp_path):
    for seed in (1, 2):
        make_record({"seed": seed})
    found = pair_half_widths(rows_of(tmp_path).rows)
    assert (found["half_widths"], found["reason"]) == ([], "8 patients, at least 10 are needed")


def test_one_trial_has_no_pair(make_record, tmp_path):
    make_record({}, many=True)
    assert pair_half_widths(rows_of(tmp_path).rows)["digests"] == []
