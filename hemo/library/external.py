"""Bring the predictions of a model of one's own into a folder of records, to be compared with hemo's trials."""

from os import PathLike
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from hemo.config.trial import TrialConfig
from hemo.config.validation import validated
from hemo.curation.card import read_card
from hemo.errors import ConfigError
from hemo.library.trials import Trial
from hemo.storage import absolute

if TYPE_CHECKING:
    import pandas as pd

    from hemo.trials.external import ExternalLogits

MOST_OFF_ONE = 0.01
"""How far the probabilities of exclusive classes may be from 1 in sum: rounded ones are."""

SMALLEST = float(np.finfo(np.float32).eps)
"""Probabilities of 0 and 1 have no finite logit: they count as this and 1 minus this, as in scikit-learn's log_loss, or
as half of the smallest other distance from 0 or 1, where that is less: they stay the most extreme of a split."""


def record_predictions(
    predictions: "pd.DataFrame",
    *,
    training_set: str | PathLike[str],
    out: str | PathLike[str],
    name: str,
    task: Literal["binary", "multi_label", "multi_class"] = "binary",
    target: str = "any",
) -> Trial:
    """Record the predictions of a model that hemo did not train: in tables and tests it stands beside hemo's trials.

    Labels and patients are those of the training set, thresholds are chosen on validation as for a trial, nothing is
    calibrated. The same predictions make the same record. Those of test may follow later, with the same ones of
    validation, and are never replaced.

    Args:
        predictions: A row an image, in any order: `split`, `val` or `test`; `image_id`; and for each class of the task
            `logit_NAME`, or for each `probability_NAME`. Every labelled image of validation once; every one of test,
            or none. Other columns are ignored.
        training_set: Output folder of `curate`.
        out: Folder of records, that of the trials to compare with.
        name: Of the model, in tables.
        task: `binary`: one class, `target`; the others: all classes of the training set.
        target: Class of a binary task; `any`: that class, or the only one of the set.

    Raises:
        ConfigError: If it is no frame, an image is missing, unknown or there twice, a column is missing, a value is
            NaN, infinite or no probability, the name is empty, or other predictions of test are recorded already.
        SourceError: If the training set is missing or damaged.
    """
    from hemo.training.data.dataset import task_classes, with_target
    from hemo.trials.external import record_external

    if not name.strip():
        raise ConfigError("name: is empty; give the model a name, which tables show")
    fields = {"name": name, "task": task, "target": target}
    config = validated(TrialConfig, fields, origin="hemo.record_predictions")
    folder = absolute(training_set)
    card = read_card(folder)
    classes = task_classes(with_target(config, card), card)
    _require_columns(predictions)
    predicted = {
        split: _logits(split, predictions[predictions["split"] == split], classes, exclusive=task == "multi_class")
        for split in ("val", "test")
        if (predictions["split"] == split).any() or split == "val"
    }
    return Trial(out, record_external(folder, absolute(out), config, predicted))


def _require_columns(predictions: "pd.DataFrame") -> None:
    import pandas as pd

    if not isinstance(predictions, pd.DataFrame):
        raise ConfigError(f"predictions: must be a pandas.DataFrame, not {type(predictions).__name__}")
    for column in ("split", "image_id"):
        if column not in predictions:
            raise ConfigError(f"predictions: have no column {column!r}, but {', '.join(map(str, predictions))}")
    others = set(predictions["split"]) - {"val", "test"}
    if others:
        raise ConfigError(f"predictions: {sorted(map(str, others))[0]!r} in column split must be val or test")


def _logits(split: str, frame: "pd.DataFrame", classes: tuple[str, ...], *, exclusive: bool) -> "ExternalLogits":
    from hemo.trials.external import ExternalLogits

    image_id = frame["image_id"].to_numpy().astype(np.str_)
    if all(f"logit_{name}" in frame for name in classes):
        return ExternalLogits(image_id, _numbers(split, frame, "logit", classes).astype(np.float32))
    if missing := [name for name in classes if f"probability_{name}" not in frame]:
        raise ConfigError(
            f"predictions: have neither logit_{missing[0]} nor probability_{missing[0]}, but "
            f"{', '.join(map(str, frame))}; give one of the two for each class: {', '.join(classes)}"
        )
    probabilities = _numbers(split, frame, "probability", classes)
    _require_probabilities(split, probabilities, image_id, exclusive=exclusive)
    return ExternalLogits(image_id, _finite_logits(probabilities, exclusive=exclusive).astype(np.float32))


def _finite_logits(probabilities: NDArray[np.float64], *, exclusive: bool) -> NDArray[np.float64]:
    """Return log odds, or of exclusive classes logarithms, in the order of the probabilities; see `SMALLEST`."""
    with np.errstate(divide="ignore"):
        logits = np.log(probabilities) if exclusive else np.log(probabilities) - np.log1p(-probabilities)
    finite, half = logits[np.isfinite(logits)], np.log(2)
    low = min(np.log(SMALLEST), finite.min(initial=np.inf) - half)
    high = max(-np.log(SMALLEST), finite.max(initial=-np.inf) + half)
    return np.nan_to_num(logits, neginf=low, posinf=high)


def _numbers(split: str, frame: "pd.DataFrame", kind: str, classes: tuple[str, ...]) -> NDArray[np.float64]:
    columns = [f"{kind}_{name}" for name in classes]
    try:
        return frame[columns].to_numpy(np.float64)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"predictions: {', '.join(columns)} of {split} must be numbers ({error})") from error


def _require_probabilities(
    split: str, probabilities: NDArray[np.float64], image_id: NDArray[np.str_], *, exclusive: bool
) -> None:
    """Refuse what lies outside of 0 to 1; of exclusive classes, what does not add up to 1."""
    outside = ~((probabilities >= 0) & (probabilities <= 1)).all(axis=1)
    off = exclusive & (np.abs(probabilities.sum(axis=1) - 1) > MOST_OFF_ONE)
    for wrong, why in ((outside, "must be 0 to 1"), (off, "of exclusive classes, must add up to 1")):
        if wrong.any():
            at = int(wrong.argmax())
            given = ", ".join(f"{value:.3g}" for value in probabilities[at])
            raise ConfigError(f"predictions: probabilities of {image_id[at]} in {split} are {given}; {why}")
