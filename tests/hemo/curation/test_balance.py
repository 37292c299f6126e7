"""Under-sampling and subsets."""

import numpy as np
import pyarrow as pa
import pytest

from hemo.curation.balance import smallest, undersample

IDS = pa.array([f"ID_{number:03d}" for number in range(100)])
LABELS = np.array([1] * 10 + [0] * 85 + [255] * 5, np.uint8)


@pytest.mark.parametrize(("ratio", "negatives"), [(1.0, 10), (4.0, 40), (0.5, 5), (20.0, 85)])
def test_negatives_are_cut_to_the_ratio_and_nothing_else_is(ratio, negatives):
    stay = undersample(LABELS, IDS, ratio, seed=0)
    assert stay[:10].all()
    assert stay[95:].all()
    assert int(stay[10:95].sum()) == negatives


def test_which_negatives_stay_depends_on_ids_and_seed_only():
    stay = undersample(LABELS, IDS, 1.0, seed=0)
    backwards = undersample(LABELS[::-1], IDS.take(np.arange(99, -1, -1)), 1.0, seed=0)
    assert backwards[::-1].tolist() == stay.tolist()
    assert undersample(LABELS, IDS, 1.0, seed=1).tolist() != stay.tolist()


def test_negatives_that_stay_are_spread_over_all():
    kept = np.flatnonzero(undersample(LABELS, IDS, 4.0, seed=0)[10:95])
    assert 12 <= (kept < 42).sum() <= 28  # 40 of 85, half of them expected in the first half


def test_a_larger_subset_holds_the_smaller():
    assert set(smallest(IDS, 7, "subset", 0)) < set(smallest(IDS, 20, "subset", 0))
    assert smallest(IDS, 7, "subset", 0).tolist() != smallest(IDS, 7, "balance", 0).tolist()
    assert smallest(IDS, 1000, "subset", 0).tolist() == list(range(100))
