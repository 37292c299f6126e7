"""Which images of train an epoch has where labels are balanced: some left out, or some repeated patient by patient."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hemo.config.trial import TrainingConfig
from hemo.curation.hash_order import hash_texts, smallest


def balanced_rows(
    training: TrainingConfig,
    label: NDArray[np.integer],
    image_ids: NDArray[np.str_],
    patients: NDArray[np.str_],
    seed: int,
) -> NDArray[np.intp]:
    """Return the images of an epoch, ascending; a repeated one as often as it is trained on.

    Args:
        training: `balance` and `balance_ratio` are used.
        label: Number of each image's label, from 0: 0 or 1 of one class, or the class where one excludes the others.
            Shape (images,).
        image_ids: Shape (images,).
        patients: Shape (images,).
        seed: Of the trial.

    Returns:
        Indices of images, shape (images of an epoch,).
    """
    everything = np.arange(len(label), dtype=np.intp)
    if training.balance == "undersample":
        return everything[_kept(label, pa.array(image_ids.tolist(), pa.string()), training.balance_ratio, seed)]
    if training.balance == "oversample":
        return np.repeat(everything, repeats_by_patient(label, patients, training.balance_ratio, seed))
    return everything


def _kept(label: NDArray[np.integer], image_ids: pa.StringArray, ratio: float, seed: int) -> NDArray[np.bool_]:
    """Return which images stay so that no label has more than `ratio` times the images of the rarest."""
    counts = np.bincount(label)
    at_most = round(ratio * int(counts[counts > 0].min()))
    stay = np.zeros(len(label), bool)
    for number in np.flatnonzero(counts):
        members = np.flatnonzero(label == number)
        stay[members[smallest(image_ids.take(pa.array(members)), at_most, "balance", seed)]] = True
    return stay


def repeats_by_patient(
    label: NDArray[np.integer], patients: NDArray[np.str_], ratio: float, seed: int
) -> NDArray[np.int64]:
    """Return how often each image is trained on so that the commonest label has about `ratio` times each other one.

    All images of a rarer label are repeated equally often; what is then lacking is filled with one more repeat of whole
    patients, in an order that depends on their names and the seed only. So no image of a patient counts more than
    another, and the number differs from the wanted one by half a patient's images at most.

    Args:
        label: As of `balanced_rows`.
        patients: Shape (images,).
        ratio: At least 1.
        seed: Of the order of patients.

    Returns:
        At least 1 each, shape (images,).
    """
    counts = np.bincount(label)
    wanted = round(int(counts.max()) / ratio)
    repeats = np.ones(len(label), np.int64)
    names, patient = np.unique(patients, return_inverse=True)
    order = np.argsort(hash_texts(pa.array(names.tolist(), pa.string()), "oversample", seed), kind="stable")
    for number in np.flatnonzero((counts > 0) & (counts < wanted)):
        members = np.flatnonzero(label == number)
        whole, lacking = divmod(wanted, len(members))
        filled = np.concatenate([[0], np.cumsum(np.bincount(patient[members], minlength=len(names))[order])])
        once_more = order[: int(np.abs(filled - lacking).argmin())]
        repeats[members] = whole + np.isin(patient[members], once_more)
    return repeats
