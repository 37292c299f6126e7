"""Probabilities of images to those of their studies; imports no torch."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hemo.curation.labelled_index import has_flag
from hemo.shards.schema import NOT_IN_THE_STACK

STUDY_KEYS = ("study", "patient")
"""Columns that name a study: a table of files may number studies within each patient (decision 12)."""

BY_STUDY = [(name, "ascending") for name in STUDY_KEYS]
"""Order of studies in a table of them."""


def slices_of_stacks(rows: pa.Table) -> pa.Table:
    """Return the rows, with their `flags`, that are slices: a localizer or a capture says nothing of its study."""
    return rows.filter(pa.array(~has_flag(rows, NOT_IN_THE_STACK)))


def study_probabilities(predictions: pa.Table, classes: Sequence[str]) -> pa.Table:
    """Return the probability that any slice of a study has a class, in two ways.

    The maximum over its slices, and noisy-or: 1 - product of (1 - p), which would be right if slices were independent;
    neighbours are alike, so it is too high, but rises with each suspect slice where the maximum does not.

    Args:
        predictions: `study`, `patient` and `probability_NAME` a class, one row per image.
        classes: Names of the classes.

    Returns:
        A row a study, in the order of `BY_STUDY`: `study`, `patient`, `images`, and a class `max_NAME`, of the type of
        the predictions, and `noisy_or_NAME`, float64: of many slices it is near 1, where float32 makes studies equal.
        Different patients have different studies, even of one name. Images without a study are in none.

    Source:
        Noisy-or: Pearl 1988, Probabilistic Reasoning in Intelligent Systems, section 4.3.2.
    """
    known = predictions.filter(pc.is_valid(predictions["study"]))
    for name in classes:
        absent = 1 - known[f"probability_{name}"].to_numpy().astype(np.float64)
        with np.errstate(divide="ignore"):  # the logarithm of a certain slice is minus infinity, its study's 1 - 0
            known = known.append_column(f"log_absent_{name}", pa.array(np.log(absent)))
    aggregations = [("image_id", "count")]
    aggregations += [(f"probability_{name}", "max") for name in classes]
    aggregations += [(f"log_absent_{name}", "sum") for name in classes]
    studies = known.group_by(STUDY_KEYS).aggregate(aggregations).sort_by(BY_STUDY)
    columns = {"study": studies["study"], "patient": studies["patient"], "images": studies["image_id_count"]}
    for name in classes:
        columns[f"max_{name}"] = studies[f"probability_{name}_max"]
        noisy_or = -np.expm1(studies[f"log_absent_{name}_sum"].to_numpy())
        columns[f"noisy_or_{name}"] = pa.array(noisy_or)
    return pa.table(columns)


def log_odds_of_any(log_absent: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the log odds of noisy-or, 1 - exp(log_absent): they rank studies whose probabilities round to 1.

    Args:
        log_absent: Logarithm of the probability that no slice is positive, the sum of log(1 - p), at most 0, shape
            (studies,); 0 counts as the number below it, so that the result is finite.
    """
    absent = np.minimum(log_absent, -np.finfo(np.float64).tiny)
    return np.asarray(np.log(-np.expm1(absent)) - absent)
