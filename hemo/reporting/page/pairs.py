"""Differences of any two trials on test, small enough to stand in the page for hundreds of trials."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from hemo.reporting.trial_row import Row
from hemo.stats.crossed import compare_cells, measured_auroc, pair_degrees

MOST_TRIALS = 500
"""Trials of which all pairs are kept: 124,750 pairs, some 600 kB."""
UNIT = 1e-5
"""Of a half-width, which is kept as a whole number."""


def pair_half_widths(rows: Sequence[Row]) -> dict[str, Any]:
    """Return half the length of the 95 % interval of the difference in AUROC of every pair of trials.

    The difference itself is that of the two values. Intervals have patients as the unit and are of these trained
    models; they are not adjusted for the number of pairs. All pairs at once take two products of a matrix.

    Args:
        rows: Trials of one comparison, in the order of the page.

    Returns:
        `digests`, and `half_widths` of the pairs (0, 1), (0, 2), ..., (1, 2), ... in units of `UNIT`; with the `reason`
        in their place if there are too few patients, and no digests with fewer than two trials.
    """
    ranked = [row for row in rows if row.test and row.test.ranking][:MOST_TRIALS]
    rankings = [row.test.ranking for row in ranked if row.test and row.test.ranking]
    if len(rankings) < 2:
        return {"digests": [], "half_widths": [], "reason": "", "unit": UNIT}
    areas = [ranking.auroc for ranking in rankings]
    digests = [row.record.digest for row in ranked]
    if areas[0].reason:
        return {"digests": digests, "half_widths": [], "reason": areas[0].reason, "unit": UNIT}
    differences = compare_cells(measured_auroc(areas), np.arange(len(areas)), pair_degrees(areas))
    widths = np.round(differences.half_widths / UNIT).astype(int).tolist()
    return {"digests": digests, "half_widths": widths, "reason": "", "unit": UNIT}
