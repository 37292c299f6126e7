"""What stands on both sides of a split: linked patients, equal pixels."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hemo.config.curate import SPLITS
from hemo.errors import SplitError

_EXAMPLES = 5


def torn(kind: NDArray[np.int64], splits: NDArray[np.int8]) -> NDArray[np.int64]:
    """Return the values of `kind` that occur in more than one split, ascending.

    Args:
        kind: What should not be torn, of each row, shape (rows,); -1 is nothing.
        splits: Split of each row, shape (rows,).
    """
    known = kind >= 0
    pairs = np.unique(kind[known] * len(SPLITS) + splits[known])
    found, times = np.unique(pairs // len(SPLITS), return_counts=True)
    return found[times > 1]


def torn_images(kind: NDArray[np.int64], splits: NDArray[np.int8], image_ids: pa.StringArray) -> list[str]:
    """Return the evidence for up to five values that are torn: an image in each split, `ID_1 in train and ID_2 in val`.

    Args:
        kind: As for `torn`.
        splits: Split of each row, shape (rows,).
        image_ids: Shape (rows,).
    """
    shown = []
    for value in torn(kind, splits)[:_EXAMPLES]:
        members = np.flatnonzero(kind == value)
        found, first = np.unique(splits[members], return_index=True)
        pairs = zip(image_ids.take(members[first]).to_pylist(), found, strict=True)
        shown.append(" and ".join(f"{image_id} in {SPLITS[split]}" for image_id, split in pairs))
    return shown


def require_apart(kind: NDArray[np.int64], splits: NDArray[np.int8], image_ids: pa.StringArray, what: str) -> None:
    """Refuse a split with the same patient or picture on both sides.

    Args:
        kind: As for `torn`.
        splits: Split of each row, shape (rows,).
        image_ids: Shape (rows,).
        what: Names what is torn, such as `linked patients`.

    Raises:
        SplitError: With how many are torn, and for up to five of them the images and the splits they stand in.
    """
    if evidence := torn_images(kind, splits, image_ids):
        count = len(torn(kind, splits))
        raise SplitError(
            f"split: {count} {what} in two splits, such as {'; '.join(evidence)}; this is a defect of hemo's, please "
            "report it"
        )
