"""What is refused before a trial runs: from the training set's card, and from the rows and workers that it has."""

from collections.abc import Mapping

from hemo.config.trial import TrainingConfig, TrialConfig
from hemo.curation.card import TrainingSetCard
from hemo.errors import ConfigError, SourceError
from hemo.training.data.dataset import task_classes
from hemo.training.data.read_studies import require_embeddings
from hemo.training.data.sampling import smallest_step
from hemo.training.distributed import Worker
from hemo.training.option_checks import check_models, where_in_notes
from hemo.training.results import ANY_CLASS


def check_trials(trials: Mapping[str, TrialConfig], card: TrainingSetCard) -> None:
    """Refuse trials that cannot work before any image is read: from the training set's card and the starting weights.

    Weights are read for that, once for each model, and ImageNet's cached: whatever runs the trials must have them.

    Args:
        trials: Where each is configured, such as `grid: ResNet50` -> trial; errors name it.
        card: Of the training set.

    Raises:
        ConfigError: Unknown backbone or target, images too small for the backbone or for `side_px`, weights that cannot
            be read, a loss that does not suit the task, training options that suit neither backbone nor loss.
        SourceError: Images that are not uint8, a split without rows, or a training split with one class only.
    """
    for where, trial in trials.items():
        with where_in_notes(where):
            _check_labels(trial, card)
            if trial.model.is_sequence:
                require_embeddings(trial.model.series, card)
    check_models(trials, len(card.channels), (card.height_px, card.width_px))


def _check_labels(config: TrialConfig, card: TrainingSetCard) -> None:
    if card.dtype != "uint8":
        raise SourceError(
            f"training set {card.digest}: its pixels are {card.dtype} Hounsfield units, training takes windows of "
            "8 bits; run `hemo convert` with --pixels windows and `hemo curate` again"
        )
    classes = task_classes(config, card)
    if config.training.loss == "rsna" and (config.task != "multi_label" or ANY_CLASS not in classes):
        raise ConfigError(f"trial.training.loss: rsna needs task multi_label and a class {ANY_CLASS!r}; use `default`")
    _check_balance(config, card)
    for split in ("train", "val", "test"):
        if not card.splits[split].rows:
            raise SourceError(
                f"training set {card.digest}: {split} has no rows; run `hemo curate` with other fractions"
            )
    train = card.splits["train"]
    if not any(train.varies(name) for name in classes):
        counts = ", ".join(f"{name} {train.positives[name]} of {train.labelled(name)}" for name in classes)
        raise SourceError(
            f"training set {card.digest}: train has one class only ({counts} labelled rows are positive): "
            "nothing can be learned; check the labels, or curate with another target, split or subset"
        )


def _check_balance(config: TrialConfig, card: TrainingSetCard) -> None:
    """Refuse to balance a multi-label task by a class that it has not, or that all images of train show or lack."""
    if config.training.balance == "none" or config.task != "multi_label":
        return
    listed = ", ".join(card.classes)
    if config.target not in card.classes:
        raise ConfigError(
            f"trial.target: training.balance {config.training.balance} needs a class to balance by, {config.target!r} "
            f"is none of the training set; it has {listed}"
        )
    if not card.splits["train"].varies(config.target):
        raise ConfigError(
            f"trial.target: all labelled images of train are alike in {config.target!r}, so they cannot be balanced by "
            f"it; the classes are {listed}"
        )


def check_batch_size(rows: int, *, worker: Worker, training: TrainingConfig) -> None:
    """Refuse steps in which a worker has fewer than the two images at once that batch normalisation needs.

    Raises:
        ConfigError: With all numbers.
    """
    parts = training.accumulation * worker.parts
    images = smallest_step(rows, workers=worker.count * parts, batch_size=training.batch_size)
    if images < 2:
        fewer = f", and {worker.count} of {worker.configured} workers" if worker.parts > 1 else ""
        at_once = f" in one of {parts} parts (accumulation{fewer})" if parts > 1 else ""
        raise ConfigError(
            f"trial.training.batch_size: {training.batch_size} images a step, of {rows} to train on, leave one of "
            f"{worker.count} workers (workers.count) with {images}{at_once} in its smallest step, at least 2 are "
            f"needed; give a larger batch_size or fewer workers{' or parts' * (parts > 1)}"
        )


def check_studies(studies: int, *, worker: Worker, training: TrainingConfig) -> None:
    """Refuse steps of a sequence model in which a worker has no study.

    Raises:
        ConfigError: With all numbers.
    """
    if smallest_step(studies, workers=worker.count, batch_size=training.batch_size) < 1:
        raise ConfigError(
            f"trial.training.batch_size: {training.batch_size} studies a step, of {studies} to train on, leave one of "
            f"{worker.count} workers (workers.count) with none in its smallest step; give a larger batch_size or fewer "
            "workers"
        )
