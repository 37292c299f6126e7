"""The training loop, a generator of epochs: alone, in a Ray Train worker or in a Tune trial.

All randomness is a function of the trial's seed, the epoch and the step (order and augmentation) or the rank (dropout),
so an interrupted fit resumes without a generator's state and ends as an undisturbed one.
"""

import time
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn

from hemo.config.trial import TrialConfig
from hemo.errors import SourceError, TrialError
from hemo.models.checkpoint import read_state, write_state
from hemo.models.classifier import ImageClassifier, Normalisation, mixed_precision
from hemo.models.encoder import Encoder
from hemo.models.pretrained import normalisation_of, starting_model
from hemo.models.sequence import SequenceClassifier, build_sequence_model
from hemo.training.calibrate import calibrate, choose_operating_points
from hemo.training.data.examples import Examples, Splits
from hemo.training.data.features import trains_on_features, with_features
from hemo.training.data.loader import DataWaitTime, TrainingBatches
from hemo.training.data.sampling import Step, derive_seed
from hemo.training.data.studies import EmbeddedStudies, StudyBatches
from hemo.training.distributed import Worker, all_reduce_sum, broadcast_flag, raise_together, wrap_distributed
from hemo.training.evaluate import Readout, compute_metrics, predict_logits, split_metrics
from hemo.training.loss import ImageLoss, build_loss, smoothed, targets_of
from hemo.training.optim import (
    build_optimizer,
    learning_rate_at,
    running_average,
    set_learning_rate,
    set_trainable_parts,
    set_training_mode,
)
from hemo.training.reporting import Ended, FitResult, is_out_of_memory, out_of_memory_message
from hemo.training.results import EpochMetrics, applied_thresholds

STEPS_BETWEEN_CHECKS = 50
"""Reading a loss waits for the device: losses are checked every so many steps."""

REMEDY = "try a lower learning_rate, or warmup_epochs"


@dataclass(frozen=True)
class Fit:
    """Model, data and optimiser of one fit."""

    config: TrialConfig
    splits: Splits
    worker: Worker
    whole: ImageClassifier | SequenceClassifier  # from images, or packed studies, to logits
    normalisation: Normalisation | None  # of the images; None: of studies
    module: ImageClassifier | SequenceClassifier  # what is trained: `whole`, or a model of its head that takes features
    forward: nn.Module  # `module`, wrapped for several workers and compiled if configured
    optimizer: torch.optim.Optimizer
    loss: ImageLoss
    batches: TrainingBatches | StudyBatches
    weights: Tensor | None  # (examples of an epoch,), how much each counts in the loss; None: all alike
    average: ModelEmaV3 | None  # running average of the weights, if configured
    frozen: bool  # only the head is trained

    @property
    def evaluated(self) -> nn.Module:
        """The model that is validated and kept."""
        return self.module if self.average is None else self.average.module


@dataclass(frozen=True)
class Progress:
    """What a fit has reached; with weights and optimiser it is the state from which it resumes."""

    baseline: dict[str, dict[str, float]]
    epochs: tuple[EpochMetrics, ...] = ()
    best_epoch: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)  # on the CPU


def fit(
    config: TrialConfig, splits: Splits, *, worker: Worker, state_path: str, features: str = ""
) -> Generator[EpochMetrics, bool | None, FitResult]:
    """Train one model, epoch by epoch, then evaluate its best epoch on every split.

    With `epochs = fit(...)`, `next(epochs)` trains an epoch and returns its metrics; `epochs.send(True)` stops the fit,
    which is then not evaluated. The result is the generator's return value, see `hemo.training.reporting.run_to_end`.
    The state is saved before an epoch's metrics are yielded: a fit that is closed or killed resumes after them.

    Where the backbone never learns, its features are computed once and the head is trained on them, which gives the
    same result within rounding.

    Args:
        config: Of the trial.
        splits: Its examples, the same on each worker.
        worker: This process. Of several, rank 0 decides whether to stop.
        state_path: Where the state is saved; every worker must be able to read it.
        features: Folder where features of this training set are kept for other trials; empty: in memory only.

    Yields:
        The metrics of each epoch that was left to train.

    Returns:
        The best epoch's weights, the thresholds chosen on validation, and the metrics of each split.

    Raises:
        TrialError: If the loss or a logit is NaN or infinite, or there is not enough memory.
        SourceError: If the state to resume from is damaged.
        ConfigError: If the starting weights cannot be read.
    """
    try:
        return (yield from _train(config, splits, worker, (state_path, features)))
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        out_of_memory = error.with_traceback(None)  # its frames would keep the model and the batch in memory
    batch_size, alone = config.training.batch_size, worker.count == 1 and worker.device.startswith("cuda")
    alone = alone and not config.model.is_sequence  # steps of studies differ in length
    smaller = largest_batch_size(config, splits, worker, at_most=batch_size // 2) if alone else batch_size // 2
    raise TrialError(out_of_memory_message(batch_size, smaller, tried=alone)) from out_of_memory


def _train(
    config: TrialConfig, splits: Splits, worker: Worker, paths: tuple[str, str]
) -> Generator[EpochMetrics, bool | None, FitResult]:
    """Build or resume, train the epochs that are left, evaluate; `paths` are those of state and features."""
    state_path, features = paths
    with _forked_random_state(worker):
        run = _prepare(config, splits, worker, features)
        progress = _resume(run, state_path)
    while (ended := _ended(config, progress)) is None:
        with _forked_random_state(worker):
            run = _unfreeze_from_epoch(run, len(progress.epochs) + 1)
            metrics = _train_and_validate(run, progress)
        progress = _with_epoch(run, progress, metrics)
        _save(run, progress, state_path)
        if broadcast_flag(bool((yield metrics)), worker):
            ended = "stopped"  # not saved: if this fit is run again before it is recorded, its caller decides anew
            break
    with _forked_random_state(worker):
        return _evaluate(run, progress, ended)


@contextmanager
def _forked_random_state(worker: Worker) -> Iterator[None]:
    """Leave torch's global generators, between epochs too, as the caller had them."""
    devices = [torch.device(worker.device)] if worker.device.startswith("cuda") else []
    with torch.random.fork_rng(devices=devices):
        yield


def _prepare(config: TrialConfig, splits: Splits, worker: Worker, features: str = "") -> Fit:
    """Build model, optimiser and loss on the worker's device, from the trial's seed."""
    device, training = torch.device(worker.device), config.training
    torch.manual_seed(derive_seed(config.seed))
    targets = targets_of(splits.trained_on, device)
    whole, normalisation = _untrained(config, splits, worker)
    set_trainable_parts(whole, frozen=training.freeze_epochs > 0)
    module, of_batches = whole, normalisation
    if isinstance(whole, ImageClassifier) and normalisation and trains_on_features(config, splits):
        encoder = Encoder(whole, normalisation, config.model.pooling, device)
        with raise_together(worker):
            splits = with_features(splits, encoder, config, features, worker.count * worker.parts)
        module, of_batches = whole.on_features(), None
        training = training.model_copy(update={"layer_decay": 1.0})  # of stages that do not learn
    batches: TrainingBatches | StudyBatches
    if config.model.is_sequence:
        batches = StudyBatches(splits.trained_on, targets, config.seed, config.model.series.study_weight)
    else:
        batches = TrainingBatches(splits.trained_on, targets, config.augment, config.seed, of_batches)
    return Fit(
        config=config,
        splits=splits,
        worker=worker,
        whole=whole,
        normalisation=normalisation,
        module=module,
        forward=_forward(config, module, worker),
        optimizer=build_optimizer(module, training, device),
        loss=build_loss(config, splits.classes, targets),
        batches=batches,
        weights=batches.weights() if isinstance(batches, StudyBatches) else None,
        average=running_average(module, training.ema_decay) if training.ema_decay else None,
        frozen=training.freeze_epochs > 0,
    )


def _untrained(
    config: TrialConfig, splits: Splits, worker: Worker
) -> tuple[ImageClassifier | SequenceClassifier, Normalisation | None]:
    """Return the model a trial starts from, on the device, and its normalisation of images; None: it takes studies."""
    images, classes = splits.train.source.images, splits.train.labels.shape[1]
    if isinstance(images, EmbeddedStudies):
        sizes = {"dimension": images.dimension, "probabilities": images.probabilities}
        return build_sequence_model(config.model, **sizes, classes=classes).to(worker.device), None
    _, channels, height_px, width_px = images.shape
    with raise_together(worker):
        model = starting_model(config.model, channels=channels, sides_px=(height_px, width_px), classes=classes)
    return model.to(worker.device), normalisation_of(config.model, channels)


def _forward(config: TrialConfig, module: nn.Module, worker: Worker) -> nn.Module:
    """Return the model as a step calls it: wrapped for several workers, and compiled if configured.

    Compiled once for each batch size (two that differ by one image): kernels of any size would be slower.
    """
    forward = wrap_distributed(module, worker, sync_batch_norm=config.training.sync_batch_norm)
    return torch.compile(forward, dynamic=False) if config.training.compile else forward  # type: ignore[return-value]


def _resume(run: Fit, state_path: str) -> Progress:
    """Restore the saved state where there is one; else measure the untrained model."""
    state = read_state(state_path)
    if state is None:
        measured = {"train": run.splits.train, "val": run.splits.val}
        return Progress({name: _measure(run, examples, "before epoch 1") for name, examples in measured.items()})
    try:
        run.module.load_state_dict(state["model"])
        run.optimizer.load_state_dict(state["optimizer"])
        if run.average is not None:
            run.average.module.load_state_dict(state["average"])
        saved = {name: state["progress"][name] for name in ("baseline", "best_epoch", "best_weights")}
        epochs = tuple(EpochMetrics(**metrics) for metrics in state["progress"]["epochs"])
        return Progress(epochs=epochs, **saved)
    except (KeyError, TypeError, RuntimeError, ValueError) as error:
        if isinstance(error, RuntimeError) and is_out_of_memory(error):
            raise
        raise SourceError(
            f"{state_path} is of another version of hemo; remove it, and the trial starts from its first epoch"
        ) from error


def _save(run: Fit, progress: Progress, state_path: str) -> None:
    if run.worker.is_rank_zero:
        plain = {**vars(progress), "epochs": [metrics.model_dump() for metrics in progress.epochs]}
        state = {"model": run.module.state_dict(), "optimizer": run.optimizer.state_dict(), "progress": plain}
        if run.average is not None:
            state["average"] = run.average.module.state_dict()
        write_state(state_path, state)


def _ended(config: TrialConfig, progress: Progress) -> Ended | None:
    """Return why the fit is over, None while it is not."""
    done, training = len(progress.epochs), config.training
    if done >= training.epochs:
        return "epochs"
    frozen = training.freeze_epochs if training.freeze_epochs < training.epochs else 0  # else the head alone is trained
    return "patience" if done - max(progress.best_epoch, frozen) >= training.patience else None


def _unfreeze_from_epoch(run: Fit, epoch: int) -> Fit:
    """Train the backbone from its first epoch on; DDP must be wrapped anew for the gradients that are added."""
    if not run.frozen or epoch <= run.config.training.freeze_epochs:
        return run
    set_trainable_parts(run.module, frozen=False)
    return replace(run, forward=_forward(run.config, run.module, run.worker), frozen=False)


def _with_epoch(run: Fit, progress: Progress, metrics: EpochMetrics) -> Progress:
    epochs = (*progress.epochs, metrics)
    lowest = min((earlier.val["loss"] for earlier in progress.epochs), default=float("inf"))
    if metrics.val["loss"] >= lowest:
        return replace(progress, epochs=epochs)
    best = {name: value.detach().cpu().clone() for name, value in run.evaluated.state_dict().items()}
    return replace(progress, epochs=epochs, best_epoch=metrics.epoch, best_weights=best)


def _train_and_validate(run: Fit, progress: Progress) -> EpochMetrics:
    """Train on every image once, then validate."""
    began = time.perf_counter()
    epoch, data_wait = len(progress.epochs) + 1, DataWaitTime()
    val_losses = [earlier.val["loss"] for earlier in progress.epochs]
    logits, learning_rate = _train_epoch(run, epoch, val_losses, data_wait)
    targets = run.batches.targets
    if isinstance(run.batches, StudyBatches):
        measured = run.batches.measured()
        logits, targets = logits[measured], targets[measured]
    train = compute_metrics(_uncalibrated(run), logits, targets, run.loss)
    trained = time.perf_counter() - began
    val = _measure(run, run.splits.val, f"after epoch {epoch}")
    seconds = time.perf_counter() - began
    return EpochMetrics(
        epoch=epoch,
        train=train,
        val=val,
        learning_rate=learning_rate,
        seconds=seconds,
        images_per_second=len(run.splits.epoch) / trained,
        first_batch_seconds=data_wait.first_batch_seconds,
        data_wait_seconds=data_wait.seconds,
        timestamp=time.time(),
        workers=run.worker.count,
        runtime_seconds=sum(earlier.seconds for earlier in progress.epochs) + seconds,
    )


def _train_epoch(run: Fit, epoch: int, val_losses: list[float], data_wait: DataWaitTime) -> tuple[Tensor, float]:
    """Take one epoch's steps; `val_losses` are those of the epochs before.

    Returns:
        The logits each image of the epoch had at its step, (examples, classes), and the last step's learning rate.
    """
    config, targets = run.config, run.batches.targets
    order = run.batches.order(epoch, run.worker, config.training.batch_size)
    logits, losses, learning_rate = torch.zeros_like(targets), torch.zeros(len(order), device=targets.device), 0.0
    torch.manual_seed(derive_seed(config.seed, epoch, run.worker.rank))  # dropout
    set_training_mode(run.module, frozen=run.frozen)
    batches = run.batches.epoch_batches(order, epoch, data_wait)
    for number, (step, (images, labels)) in enumerate(zip(order, batches, strict=True)):
        done = (epoch - 1) * len(order) + number
        learning_rate = learning_rate_at(done, steps_an_epoch=len(order), config=config.training, val_losses=val_losses)
        set_learning_rate(run.optimizer, learning_rate)
        rows = torch.from_numpy(step.rows).to(targets.device, non_blocking=True)
        logits[rows], losses[number] = _take_step(run, step, images, labels)
        if run.average is not None:
            run.average.update(run.module, step=done + 1)
        if number % STEPS_BETWEEN_CHECKS == STEPS_BETWEEN_CHECKS - 1 or number == len(order) - 1:
            _require_finite(all_reduce_sum(losses[: number + 1].clone(), run.worker), epoch)
    return all_reduce_sum(logits, run.worker), learning_rate


def _take_step(run: Fit, step: Step, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Update the weights once.

    Returns:
        Logits of this worker's images, and its part of the step's loss, which is a mean over the images of all workers.
    """
    training, parts = run.config.training, run.config.training.accumulation * run.worker.parts
    if run.config.model.is_sequence:
        parts = 1  # a study's slices meet the model together
    smooth = smoothed(targets, training.label_smoothing, exclusive=run.loss.exclusive)
    run.optimizer.zero_grad(set_to_none=True)
    computed = []
    split = zip(images.tensor_split(parts), smooth.tensor_split(parts), strict=True)
    for number, (part, labels) in enumerate(split, start=1):
        with _gradient_exchange(run.forward, last=number == parts):
            with mixed_precision(images.device):
                logits = run.forward(part)
            losses = run.loss(logits, labels)
            if run.weights is not None:  # of a sequence model, whose batches have one part
                losses = losses * run.weights[torch.from_numpy(step.rows).to(losses.device, non_blocking=True)]
            loss = losses.sum() / step.images
            (loss * run.worker.count).backward()  # type: ignore[no-untyped-call]  # DDP divides the sum by count
        computed.append((logits.detach(), loss.detach()))
    if training.clip_norm:
        nn.utils.clip_grad_norm_(run.module.parameters(), training.clip_norm)
    run.optimizer.step()
    return torch.cat([logits for logits, _ in computed]), torch.stack([loss for _, loss in computed]).sum()


def _gradient_exchange(forward: nn.Module, *, last: bool) -> AbstractContextManager[None]:
    """Exchange gradients between workers with the last part of a batch only: before it they add up on each."""
    return nullcontext() if last or not hasattr(forward, "no_sync") else forward.no_sync()  # type: ignore[operator]


def _require_finite(losses: Tensor, epoch: int) -> None:
    """Refuse losses of an epoch's steps that are NaN or infinite."""
    wrong = torch.nonzero(~torch.isfinite(losses)).flatten()
    if len(wrong):
        step = int(wrong[0])
        raise TrialError(f"loss is {float(losses[step])} in epoch {epoch}, step {step + 1}; {REMEDY}")


def _measure(run: Fit, examples: Examples, when: str) -> dict[str, float]:
    logits = _finite_logits(run, examples, when)
    targets = targets_of(examples, logits.device)
    return compute_metrics(_uncalibrated(run), logits, targets, run.loss)


def _finite_logits(run: Fit, examples: Examples, when: str) -> Tensor:
    """Return a split's logits; one that is NaN or infinite ends the trial with an error that states `when`."""
    at_once = run.config.training.images_at_once(run.worker.count * run.worker.parts)
    logits = predict_logits(run.evaluated, examples, run.batches.normalisation, at_once, run.worker)
    wrong = int((~torch.isfinite(logits)).any(dim=1).sum())
    if wrong:
        raise TrialError(f"{wrong} of {len(logits)} images have a NaN or infinite logit {when}; {REMEDY}")
    return logits


def _evaluate(run: Fit, progress: Progress, ended: Ended) -> FitResult:
    """Evaluate the best epoch's weights on every split, calibrated on validation, at the thresholds it chooses."""
    run = replace(run, average=None)
    run.module.load_state_dict(progress.best_weights)
    result = FitResult(
        model=run.whole,
        normalisation=run.normalisation,
        baseline=progress.baseline,
        epochs=progress.epochs,
        best_epoch=progress.best_epoch,
        ended=ended,
    )
    if ended == "stopped":
        return result
    splits = run.splits.by_name
    when = f"with the weights of epoch {progress.best_epoch}"
    logits = {name: _finite_logits(run, examples, when) for name, examples in splits.items()}
    calibration = calibrate(run.config, run.splits, logits["val"], run.loss)
    readout = replace(_uncalibrated(run), calibration=calibration)
    points = choose_operating_points(run.config, readout, logits["val"], run.splits.val.labels)
    result = replace(result, calibration=calibration, operating_points=points)
    readout = replace(readout, thresholds=applied_thresholds(result.thresholds))
    evaluated = {name: split_metrics(readout, logits[name], examples, run.loss) for name, examples in splits.items()}
    kept = {name: values.cpu().numpy() for name, values in logits.items() if name != "train"}
    of_studies = {
        name: _finite_logits(run, run.splits.studies[name], when).cpu().numpy() for name in kept if run.splits.studies
    }
    return replace(result, evaluated=evaluated, logits=kept, study_logits=of_studies)


def _uncalibrated(run: Fit) -> Readout:
    """Return probabilities as trained and 0.5 as threshold: how epochs are measured."""
    return Readout(run.config.task, run.splits.classes)


def timed_epoch(config: TrialConfig, splits: Splits, worker: Worker) -> EpochMetrics:
    """Train two epochs from random weights and return the second's metrics: how fast a trial of this config trains.

    The first warms up. Nothing is saved or evaluated but validation.

    Raises:
        TrialError: If the loss or a logit is NaN or infinite.
        ConfigError: If the model cannot be built.
    """
    random = config.model_copy(update={"model": config.model.model_copy(update={"weights": "none"})})
    with _forked_random_state(worker):
        run = _prepare(random, splits, worker)
        _train_and_validate(run, Progress({}))
        return _train_and_validate(run, Progress({}))


def largest_batch_size(config: TrialConfig, splits: Splits, worker: Worker, *, at_most: int) -> int:
    """Return the first of `at_most`, its half, its quarter and so on whose training steps fit into memory; 0: none.

    Two steps of each are tried, with black images: the optimiser's own memory is allocated from the second on.
    """
    size = at_most
    while size and not _fits(config, splits, worker, size):
        size //= 2
    return size


def _fits(config: TrialConfig, splits: Splits, worker: Worker, batch_size: int) -> bool:
    """Return whether two training steps of this many images fit into the device's memory."""
    device = torch.device(worker.device)
    changes = {
        "model": config.model.model_copy(update={"weights": "none"}),
        "training": config.training.model_copy(update={"batch_size": batch_size, "freeze_epochs": 0}),
    }
    rows = np.zeros(batch_size, np.intp)
    step = Step(batch_size, slice(0, batch_size), rows, rows)
    try:
        with _forked_random_state(worker):
            run = _prepare(config.model_copy(update=changes), splits, worker)
            images = torch.zeros(batch_size, *splits.train.source.images.shape[1:], dtype=torch.uint8, device=device)
            for _ in range(2):
                _take_step(run, step, run.batches.scaled(images), run.batches.targets[rows])
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return False
    finally:
        run = images = None  # type: ignore[assignment]
        torch.cuda.empty_cache()
    return True
