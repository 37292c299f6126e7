"""Calibration: logits -> logits whose probabilities are those of the population, fitted on validation.

*Temperature scaling* divides the logits of a class by one number, as networks are too sure of themselves. *Prior
correction* moves the odds from the prevalence of a sampled or weighted train to that of the population. *Platt
scaling*, a slope and an intercept for each class, does the work of both: its intercept absorbs the prior.

Source:
    Temperature: Guo et al., On calibration of modern neural networks, ICML 2017, arXiv:1706.04599. Prior correction:
    Saerens, Latinne and Decaestecker, Adjusting the outputs of a classifier to new a priori probabilities, Neural
    Computation 14 (2002). Platt, Probabilistic outputs for support vector machines (1999).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_expit, log_softmax

from hemo.stats.choices import CalibrationChoice
from hemo.stats.intervals import too_few

Method = Literal["none", "prior", "temperature", "prior_and_temperature", "platt"]

LARGEST_LOG_SLOPE = float(np.log(20.0))
"""Temperatures are sought from 1/20 to 20; at 20 logits have lost their meaning."""
LOG_ALMOST_ONE = -1e-30
"""Largest logarithm of a probability, so that its logit stays finite, in float32 too."""
NEWTON_STEPS = 100
NEWTON_TOLERANCE = 1e-9
UNRELATED = "logits of validation do not rise with the label"


@dataclass(frozen=True)
class SampledClass:
    """The class by whose label the images of train were sampled, with its prevalence before and after."""

    column: int  # of the logits
    train_prevalence: float  # fraction of positive labels in train, as sampled
    population_prevalence: float  # before sampling, of train and validation together
    implied: bool  # whether an image of any other class is of this class too, as with RSNA's `any`

    @property
    def log_odds(self) -> float:
        """What is added to the log odds of the class: logit of the population's prevalence minus that of train's."""
        before, after = self.population_prevalence, self.train_prevalence
        return float(np.log(before / (1 - before)) - np.log(after / (1 - after)))


@dataclass(frozen=True)
class TrainPrior:
    """How the prevalence that the loss met in train is brought to the population's; by default they are the same."""

    sampled: SampledClass | None = None
    unknown: str = ""  # where train was sampled: why no formula takes that back
    shifts: tuple[float, ...] = ()  # what takes it back: added to the logit of each class; empty: 0

    @property
    def shifted(self) -> bool:
        """Whether they differ."""
        return bool(self.sampled or self.unknown or any(self.shifts))


@dataclass(frozen=True)
class Calibration:
    """How logits become calibrated ones; by default they stay. Stored in `checkpoint.json` and `record.json`."""

    method: Method = "none"
    reason: str = ""  # why there is none, or why a part of it was left out
    slopes: tuple[float, ...] = ()  # one a class, 1 / temperature; empty: 1
    intercepts: tuple[float, ...] = ()  # one a class, added after the slope; empty: 0
    sampled: SampledClass | None = None  # its odds are corrected last
    images: int = 0  # of validation that slopes were fitted on
    patients: int = 0

    @property
    def couples_classes(self) -> bool:
        """Whether a probability depends on the logits of several classes: then the order of images may change."""
        return self.sampled is not None and self.sampled.implied and len(self.slopes) > 1


@dataclass(frozen=True, eq=False)
class LabelledLogits:
    """Logits and labels of one split, row by row."""

    logits: NDArray[np.floating]  # (rows, classes)
    labels: NDArray[np.integer]  # (rows, classes), 0 or 1
    patients: NDArray[np.generic]  # (rows,), number or name of the patient
    exclusive: bool  # whether each row has one class only

    @property
    def patient_count(self) -> int:
        """How many patients there are."""
        return len(np.unique(self.patients))


def calibrated_logits(
    logits: NDArray[np.floating], calibration: Calibration, *, exclusive: bool
) -> NDArray[np.float64]:
    """Return logits whose sigmoid, or softmax of exclusive classes, is the calibrated probability.

    A temperature concerns the odds that the model learned, hence before the prior is corrected.

    Sampling by a class multiplies its odds by a factor. Among the images of the class nothing was sampled, so that a
    class k that implies the sampled class s keeps its part of it: p_k' = p_k p_s' / p_s. Of exclusive classes the
    others keep theirs of what is not s, which a softmax does by itself.

    Args:
        logits: Of the model, shape (rows, classes).
        calibration: As fitted for these classes.
        exclusive: Whether each row has one class only.
    """
    scaled = logits.astype(np.float64)
    if calibration.slopes:
        scaled = scaled * calibration.slopes + calibration.intercepts
    sampled = calibration.sampled
    if sampled is None:
        return scaled
    corrected = scaled[:, sampled.column] + sampled.log_odds
    if calibration.couples_classes and not exclusive:
        ratio = log_expit(corrected) - log_expit(scaled[:, sampled.column])
        log_probabilities = np.minimum(log_expit(scaled) + ratio[:, None], LOG_ALMOST_ONE)
        scaled = log_probabilities - np.log(-np.expm1(log_probabilities))
    scaled[:, sampled.column] = corrected
    return scaled


def to_probabilities(logits: NDArray[np.floating], *, exclusive: bool) -> NDArray[np.float64]:
    """Return the probabilities of logits, shape (rows, classes), float64."""
    wide = logits.astype(np.float64)
    return np.asarray(np.exp(log_softmax(wide, axis=1)) if exclusive else expit(wide))


def fit_calibration(
    choice: CalibrationChoice, validation: LabelledLogits, prior: TrainPrior, classes: Sequence[str]
) -> Calibration:
    """Return the calibration of a model, fitted on its validation split.

    Every image counts alike, for the probabilities are of images; labels are smoothed, see `smoothed_targets`. A class
    with too few patients keeps its slope; a prior correction needs no validation.

    Args:
        choice: `none`; `temperature`, with a prior correction where there is cause; `platt`, not of exclusive classes;
            or `where_prior_shifted`: nothing where the prior of train is the population's, else `temperature`, or
            `platt` where no formula takes the sampling back. Where validation contradicts a prior correction, `platt`
            takes its place, of exclusive classes a temperature alone. Where train was sampled and `platt` cannot be
            fitted to a class, `temperature` takes its place.
        validation: Logits of the model on a split with the prevalence of the population.
        prior: Of train.
        classes: Name of each column, for the reasons.
    """
    if choice == "none":
        return Calibration(reason="not configured")
    if choice == "where_prior_shifted" and not prior.shifted:
        return Calibration(reason="train was neither sampled nor weighted by its labels")
    start, unfit = _prior_correction(prior, len(classes)), _too_few_patients(validation, classes)
    if choice == "platt" or (choice == "where_prior_shifted" and prior.unknown):
        return _fit_platt(validation, start, classes, unfit)
    return _fit_temperatures_if_trusted(validation, start, classes, unfit)


def refit_calibration(
    choice: Literal["platt", "temperature"], images: LabelledLogits, own: Calibration, classes: Sequence[str]
) -> Calibration:
    """Return the calibration of a model fitted anew, on images of another place than its validation split.

    Args:
        choice: `platt`, not of exclusive classes: a slope and an intercept a class; or `temperature`: a slope, and the
            prior correction as it is. Each may take the other's place as in `fit_calibration`.
        images: Logits as trained, and labels.
        own: Calibration of the model, which a class keeps that has too few patients.
        classes: Name of each column, for the reasons.
    """
    none, unfit = _prior_correction(TrainPrior(), len(classes)), _too_few_patients(images, classes)
    lines = own.slopes or none.slopes, own.intercepts or none.intercepts
    start = replace(own, reason="", slopes=lines[0], intercepts=lines[1])
    return (_fit_platt if choice == "platt" else _fit_temperatures_if_trusted)(images, start, classes, unfit)


def _fit_temperatures_if_trusted(
    validation: LabelledLogits, start: Calibration, classes: Sequence[str], unfit: dict[str, str]
) -> Calibration:
    """Return temperatures with the prior correction; where validation contradicts that, Platt scaling without it.

    Validation says nothing about a class that cannot be fitted: that one keeps its intercept.
    """
    kept = tuple(value if name in unfit else 0.0 for name, value in zip(classes, start.intercepts, strict=True))
    without_prior = replace(start, method="none", reason="", intercepts=kept, sampled=None)
    fitted, plain = (_fit_temperatures(validation, each, classes, unfit) for each in (start, without_prior))
    contradiction = _contradiction(validation, start, fitted, plain)
    if not contradiction:
        return fitted
    if validation.exclusive:
        return replace(plain, reason=contradiction)
    return _fit_platt(validation, replace(without_prior, reason=contradiction), classes, unfit)


def _contradiction(validation: LabelledLogits, start: Calibration, corrected: Calibration, plain: Calibration) -> str:
    """Return why a prior correction is not to be trusted; empty where it is, or where nothing could be fitted.

    A network that remembers the repeated images of few patients does not find more of them in others: then there is no
    prior to take back, and validation shows it.
    """
    columns = [corrected.sampled.column] if corrected.sampled else list(range(len(corrected.slopes)))
    fitted = any(corrected.slopes[column] != start.slopes[column] for column in columns)
    if corrected.method != "prior_and_temperature" or not fitted:
        return ""
    targets = smoothed_targets(validation)
    with_prior, without = (_log_loss(each, validation, targets, columns) for each in (corrected, plain))
    if with_prior <= without:
        return ""
    return f"validation contradicts the prior correction: log loss {with_prior:.3f} with it, {without:.3f} without"


def _too_few_patients(split: LabelledLogits, classes: Sequence[str]) -> dict[str, str]:
    """Return class -> why nothing can be fitted to it. Exclusive classes share one slope: the rare ones may be few."""
    reasons = {}
    for name, column in zip(classes, split.labels.T, strict=True):
        counts = [] if split.exclusive else [len(np.unique(split.patients[column == label])) for label in (1, 0)]
        reasons[name] = too_few(split.patient_count, *counts)
    return {name: reason for name, reason in reasons.items() if reason}


def smoothed_targets(split: LabelledLogits) -> NDArray[np.float64]:
    """Return labels moved away from 0 and 1: a split that the logits separate must not lead to certainty.

    Platt's targets, as if there were two more images, one with the class and one without: (n + 1) / (n + 2) for the n
    images that show a class and 1 / (n + 2) for the n that do not. Of exclusive classes, what is missing to 1 is spread
    over the others.

    Returns:
        Shape (rows, classes), 0 to 1.
    """
    labels = split.labels
    counts = labels.sum(axis=0, dtype=np.float64)
    present = (counts + 1) / (counts + 2)
    if split.exclusive:
        own = (labels * present).sum(axis=1, keepdims=True)
        return np.asarray(np.where(labels == 1, own, (1 - own) / (labels.shape[1] - 1)))
    return np.asarray(np.where(labels == 1, present, 1 / (len(labels) - counts + 2)))


def _fit_temperatures(
    validation: LabelledLogits, start: Calibration, classes: Sequence[str], unfit: dict[str, str]
) -> Calibration:
    """Return what there is before, its reason included, with the slopes of least log loss."""
    count, fitted = len(classes), start
    targets, unfit = smoothed_targets(validation), dict(unfit)
    first = start.sampled.column if start.sampled else 0  # the correction of the others depends on its slope
    columns = sorted(range(count), key=lambda column: column != first)
    groups = [columns] if validation.exclusive else [[column] for column in columns]
    for group in groups:
        if any(classes[column] in unfit for column in group):
            continue
        slope = _best_slope(fitted, group, validation, targets)
        if slope is None:
            unfit |= {classes[column]: UNRELATED for column in group}
        else:
            fitted = _with_slope(fitted, group, slope)
    if len(unfit) < count:
        method: Method = "prior_and_temperature" if start.sampled or any(start.intercepts) else "temperature"
        fitted = replace(fitted, method=method, images=len(validation.labels), patients=validation.patient_count)
    return replace(fitted, reason=_without("temperature", unfit, count) or start.reason)


def _prior_correction(prior: TrainPrior, count: int) -> Calibration:
    """Return what needs no validation: the prior correction of so many classes, nothing where there is no cause."""
    method: Method = "prior" if prior.sampled or any(prior.shifts) else "none"
    return Calibration(method, prior.unknown, (1.0,) * count, prior.shifts or (0.0,) * count, prior.sampled)


def _with_slope(calibration: Calibration, columns: Sequence[int], slope: float) -> Calibration:
    slopes = tuple(slope if number in columns else value for number, value in enumerate(calibration.slopes))
    return replace(calibration, slopes=slopes)


def _log_loss(
    calibration: Calibration, split: LabelledLogits, targets: NDArray[np.float64], columns: Sequence[int]
) -> float:
    logits = calibrated_logits(split.logits, calibration, exclusive=split.exclusive)
    if split.exclusive:
        return -float((targets * log_softmax(logits, axis=1)).sum(axis=1).mean())
    own, wanted = logits[:, columns], targets[:, columns]
    return -float((wanted * log_expit(own) + (1 - wanted) * log_expit(-own)).mean())


def _best_slope(
    calibration: Calibration, columns: Sequence[int], split: LabelledLogits, targets: NDArray[np.float64]
) -> float | None:
    """Return the slope of these columns with the least log loss; None where that is no slope at all, or below 0."""

    def loss(log_slope: float) -> float:
        return _log_loss(_with_slope(calibration, columns, float(np.exp(log_slope))), split, targets, columns)

    found = minimize_scalar(
        loss,
        bounds=(-LARGEST_LOG_SLOPE, LARGEST_LOG_SLOPE),
        method="bounded",
        options={"xatol": 1e-7, "maxiter": 200},
    )
    return None if found.x < -LARGEST_LOG_SLOPE + 1e-3 else float(np.exp(found.x))


def _fit_platt(
    validation: LabelledLogits, start: Calibration, classes: Sequence[str], unfit: dict[str, str]
) -> Calibration:
    """Return a slope and an intercept a class; where none can be fitted, what there is before.

    A sampled class is corrected for all classes or for none: where one cannot be fitted, temperatures are.
    """
    targets, unfit, count = smoothed_targets(validation), dict(unfit), len(classes)
    lines = list(zip(start.slopes, start.intercepts, strict=True))
    for column, name in enumerate(classes):
        if name not in unfit:
            slope, intercept = logistic_line(validation.logits[:, column], targets[:, column])
            if slope > np.exp(-LARGEST_LOG_SLOPE):
                lines[column] = slope, intercept
            else:
                unfit[name] = UNRELATED
    without = _without("Platt scaling", unfit, count)
    reason = "; ".join(filter(None, (start.reason, without)))
    if len(unfit) == count:
        return replace(start, reason=reason)
    if unfit and start.sampled:
        fitted = _fit_temperatures_if_trusted(validation, start, classes, unfit)
        return replace(
            fitted, reason=f"{without}, whose prior correction needs temperatures in its place; {fitted.reason}"
        )
    slopes, intercepts = zip(*lines, strict=True)
    return Calibration("platt", reason, slopes, intercepts, None, len(validation.labels), validation.patient_count)


def _without(what: str, unfit: dict[str, str], count: int) -> str:
    """Return `no temperature: REASON`, of several classes `no temperature of A (REASON), B (REASON)`."""
    if not unfit:
        return ""
    if len(unfit) == count and len(set(unfit.values())) == 1:
        return f"no {what}: {next(iter(unfit.values()))}"
    return f"no {what} of {', '.join(f'{name} ({reason})' for name, reason in unfit.items())}"


def logistic_line(scores: NDArray[np.floating], targets: NDArray[np.floating]) -> tuple[float, float]:
    """Return slope and intercept of least log loss for sigmoid(slope x score + intercept), by Newton's method.

    Args:
        scores: Shape (rows,).
        targets: 0 to 1, shape (rows,); where scores separate labels of 0 and 1 the slope has no limit, and is what the
            last of `NEWTON_STEPS` reached.

    Source:
        Lin, Lin and Weng, A note on Platt's probabilistic outputs for support vector machines, Machine Learning 68
        (2007): the step is halved until the loss falls.
    """
    design = np.stack([scores.astype(np.float64), np.ones(len(scores))], axis=1)
    mean = float(targets.mean())
    line = np.array([0.0, np.log(mean / (1 - mean))])

    def loss(line: NDArray[np.float64]) -> float:
        logits = design @ line
        return -float((targets * log_expit(logits) + (1 - targets) * log_expit(-logits)).sum())

    current = loss(line)
    for _ in range(NEWTON_STEPS):
        fitted = expit(design @ line)
        gradient = design.T @ (fitted - targets)
        hessian = design.T @ (design * (fitted * (1 - fitted))[:, None]) + 1e-12 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        size = 1.0
        while size > NEWTON_TOLERANCE and loss(line - size * step) > current - 1e-4 * size * float(gradient @ step):
            size /= 2
        if size <= NEWTON_TOLERANCE:
            break
        line = line - size * step
        current = loss(line)
        if float(np.abs(gradient).max()) < NEWTON_TOLERANCE * len(targets):
            break
    return float(line[0]), float(line[1])
