"""The training loop: the same alone, in a Ray Train worker and in a Tune trial.

All randomness is a function of the trial's seed, the epoch and the step (order and augmentation) or the rank (dropout),
so that a resumed fit needs no generator's state and goes on as if it had never been interrupted.
"""

import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace

import numpy as np
import torch
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn

from hemo.config.trial import TrialConfig
from hemo.errors import SourceError, TrialError
from hemo.models.checkpoint import read_state, write_state
from hemo.models.classifier import ImageClassifier
from hemo.models.normalisation import Normalisation, normalise, to_unit_range
from hemo.models.pretrained import normalisation_of, starting_model
from hemo.training.data.loader import TrainingBatches, WaitingTime
from hemo.training.data.sampling import Step, epoch_rows, mixed_seed
from hemo.training.data.task_rows import Examples, Splits
from hemo.training.distributed import Worker, agreed, all_or_none, shared_model, summed
from hemo.training.evaluate import evaluate, mixed_precision
from hemo.training.loss import ImageLoss, build_loss, smoothed
from hemo.training.metrics import DEFAULT_THRESHOLD, choose_thresholds, judge, measure
from hemo.training.optim import build_optimizer, learning_rate_at, set_learning_rate
from hemo.training.reporting import Ended, EpochFigures, FitResult, Reporter, is_out_of_memory, out_of_memory_message

STEPS_BETWEEN_CHECKS = 50
"""Reading a loss waits for the device: it is looked at every so many steps."""

CURE = "try a lower learning_rate, or warmup_epochs"

AVERAGE_WARMUP_POWER = 0.75
"""How fast the average grows long at first: timm's advice for runs of well below a million steps."""


@dataclass(frozen=True)
class Fit:
    """What stays the same through one fit."""

    config: TrialConfig
    splits: Splits
    worker: Worker
    module: ImageClassifier  # the weights
    forward: nn.Module  # the same, wrapped for several workers and compiled if asked for
    optimizer: torch.optim.Optimizer
    loss: ImageLoss
    normalisation: Normalisation
    average: ModelEmaV3 | None  # running average of the weights, if asked for
    frozen: bool  # only the head learns

    @property
    def judged(self) -> nn.Module:
        """The model that is validated and kept."""
        return self.module if self.average is None else self.average.module


@dataclass(frozen=True)
class Progress:
    """What changes from epoch to epoch; together with weights and optimiser it is the state a fit resumes from."""

    baseline: dict[str, dict[str, float]]
    epochs: tuple[EpochFigures, ...] = ()
    best_epoch: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)  # on the CPU
    stopped: bool = False  # by the reporter


def fit(config: TrialConfig, splits: Splits, *, reporter: Reporter, worker: Worker, state_at: str) -> FitResult:
    """Train one model, choose its best epoch and thresholds on validation, and measure it on every split.

    Args:
        config: Of the trial.
        splits: Its examples, the same on each worker.
        reporter: Told of each epoch.
        worker: This process.
        state_at: Where the state lies that a killed fit resumes from; all workers must be able to read it.

    Raises:
        TrialError: If the loss or a logit is no number, or there is not enough memory.
        SourceError: If the state to resume from is damaged.
        ConfigError: If the starting weights cannot be had.
    """
    devices = [torch.device(worker.device)] if worker.device.startswith("cuda") else []
    try:
        with torch.random.fork_rng(devices=devices):
            run = _prepare(config, splits, worker)
            progress = _resume(run, state_at)
            progress, ended = _train(run, progress, reporter, state_at)
            return _judge(run, progress, ended)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        out_of_memory = error.with_traceback(None)  # its frames would keep the model and the batch in memory
    run = None  # type: ignore[assignment]
    batch_size, alone = config.training.batch_size, bool(devices) and worker.count == 1
    smaller = largest_batch_size(config, splits, worker, at_most=batch_size // 2) if alone else batch_size // 2
    raise TrialError(out_of_memory_message(batch_size, smaller, tried=alone)) from out_of_memory


def largest_batch_size(config: TrialConfig, splits: Splits, worker: Worker, *, at_most: int) -> int:
    """Return the first of `at_most`, its half, its quarter and so on whose training steps fit into the memory; 0: none.

    Two steps are tried of each, with images that are all black: the optimiser's own memory is there from the second on.
    """
    size = at_most
    while size and not _fits(config, splits, worker, size):
        size //= 2
    return size


def _fits(config: TrialConfig, splits: Splits, worker: Worker, batch_size: int) -> bool:
    """Tell whether two training steps of this many images fit into the device's memory."""
    device = torch.device(worker.device)
    changes = {
        "model": config.model.model_copy(update={"weights": "none"}),
        "training": config.training.model_copy(update={"batch_size": batch_size, "freeze_epochs": 0}),
    }
    rows = np.zeros(batch_size, np.intp)
    step = Step(batch_size, slice(0, batch_size), rows, rows)
    try:
        with torch.random.fork_rng(devices=[device]):
            run = _prepare(config.model_copy(update=changes), splits, worker)
            images = torch.zeros(batch_size, *splits.train.source.images.shape[1:], dtype=torch.uint8, device=device)
            targets = torch.zeros(batch_size, splits.train.labels.shape[1], device=device)
            for _ in range(2):
                _take_step(run, step, normalise(to_unit_range(images), run.normalisation), targets)
    except torch.OutOfMemoryError:
        return False
    finally:
        run = images = targets = None  # type: ignore[assignment]
        torch.cuda.empty_cache()
    return True


def _prepare(config: TrialConfig, splits: Splits, worker: Worker) -> Fit:
    """Build model, optimiser and loss on the worker's device, from the trial's seed."""
    device = torch.device(worker.device)
    _, channels, *sides_px = splits.train.source.images.shape
    torch.manual_seed(mixed_seed(config.seed))
    height_px, width_px = sides_px
    classes = splits.train.labels.shape[1]
    with all_or_none(worker):
        module = starting_model(config.model, channels=channels, sides_px=(height_px, width_px), classes=classes)
    module = module.to(device)
    if device.type == "cuda":
        module = module.to(memory_format=torch.channels_last)
    training = config.training
    if training.freeze_epochs:
        freeze(module)
    forward = _forward(config, module, worker)
    return Fit(
        config=config,
        splits=splits,
        worker=worker,
        module=module,
        forward=forward,
        optimizer=build_optimizer(module, training, device),
        loss=build_loss(config, splits.classes, _targets(splits.train, device)),
        normalisation=normalisation_of(config.model, channels),
        average=running_average(module, training.ema_decay) if training.ema_decay else None,
        frozen=training.freeze_epochs > 0,
    )


def _forward(config: TrialConfig, module: nn.Module, worker: Worker) -> nn.Module:
    """Return the model as a step calls it: wrapped for several workers, and compiled if asked for."""
    forward = shared_model(module, worker, sync_batch_norm=config.training.sync_batch_norm)
    return torch.compile(forward, dynamic=False) if config.training.compile else forward  # type: ignore[return-value]


def _resume(run: Fit, state_at: str) -> Progress:
    """Put the state back where there is one; else measure the untrained model."""
    state = read_state(state_at)
    if state is None:
        learned_from = {"train": run.splits.train, "val": run.splits.val}
        return Progress({name: _measure(run, examples, "before epoch 1") for name, examples in learned_from.items()})
    try:
        run.module.load_state_dict(state["model"])
        run.optimizer.load_state_dict(state["optimizer"])
        if run.average is not None:
            run.average.module.load_state_dict(state["average"])
        progress = state["progress"]
        epochs = tuple(EpochFigures(**figures) for figures in progress.pop("epochs"))
        return Progress(epochs=epochs, **progress)
    except torch.OutOfMemoryError:
        raise
    except (KeyError, TypeError, RuntimeError, ValueError) as error:
        raise SourceError(f"{state_at} is of another version of hemo; remove it, and the trial begins anew") from error


def _save(run: Fit, progress: Progress, state_at: str) -> None:
    if run.worker.leads:
        plain = {**vars(progress), "epochs": [asdict(figures) for figures in progress.epochs]}
        state = {"model": run.module.state_dict(), "optimizer": run.optimizer.state_dict(), "progress": plain}
        if run.average is not None:
            state["average"] = run.average.module.state_dict()
        write_state(state_at, state)


def _train(run: Fit, progress: Progress, reporter: Reporter, state_at: str) -> tuple[Progress, Ended]:
    """Go through the epochs that are left.

    An epoch is saved before its reporter is asked, who may take long to answer.
    """
    while (ended := _ended(run.config, progress)) is None:
        run = _thawed_in_time(run, len(progress.epochs) + 1)
        figures = _one_epoch(run, progress)
        progress = _with_epoch(run, progress, figures)
        _save(run, progress, state_at)
        if not agreed(reporter.epoch(figures), run.worker):
            progress = replace(progress, stopped=True)
            _save(run, progress, state_at)
    return progress, ended


def _thawed_in_time(run: Fit, epoch: int) -> Fit:
    """Let the backbone learn from its first epoch on. Several workers must be told anew which gradients there are."""
    if not run.frozen or epoch <= run.config.training.freeze_epochs:
        return run
    thaw(run.module)
    return replace(run, forward=_forward(run.config, run.module, run.worker), frozen=False)


def _ended(config: TrialConfig, progress: Progress) -> Ended | None:
    """Return why the fit is over, None while it is not."""
    done = len(progress.epochs)
    if progress.stopped:
        return "stopped"
    if done >= config.training.epochs:
        return "epochs"
    return "patience" if done - progress.best_epoch >= config.training.patience else None


def _with_epoch(run: Fit, progress: Progress, figures: EpochFigures) -> Progress:
    epochs = (*progress.epochs, figures)
    lowest = min((earlier.val["loss"] for earlier in progress.epochs), default=float("inf"))
    if figures.val["loss"] >= lowest:
        return replace(progress, epochs=epochs)
    best = {name: value.detach().cpu().clone() for name, value in run.judged.state_dict().items()}
    return replace(progress, epochs=epochs, best_epoch=figures.epoch, best_weights=best)


def _one_epoch(run: Fit, progress: Progress) -> EpochFigures:
    """Train on every image once, then validate."""
    began = time.perf_counter()
    epoch = len(progress.epochs) + 1
    waiting = WaitingTime()
    val_losses = [earlier.val["loss"] for earlier in progress.epochs]
    logits, learning_rate = _train_epoch(run, epoch, val_losses, waiting)
    targets = _targets(run.splits.train, logits.device)
    train = measure(run.config.task, run.splits.classes, logits, targets, run.loss, DEFAULT_THRESHOLD)
    trained = time.perf_counter() - began
    val = _measure(run, run.splits.val, f"after epoch {epoch}")
    seconds = time.perf_counter() - began
    return EpochFigures(
        epoch=epoch,
        train=train,
        val=val,
        learning_rate=learning_rate,
        seconds=seconds,
        images_per_second=len(run.splits.train) / trained,
        first_batch_seconds=waiting.first_batch_seconds,
        waiting_seconds=waiting.seconds,
        timestamp=time.time(),
        runtime_seconds=sum(earlier.seconds for earlier in progress.epochs) + seconds,
    )


def _train_epoch(run: Fit, epoch: int, val_losses: list[float], waiting: WaitingTime) -> tuple[Tensor, float]:
    """Take one epoch's steps; `val_losses` are those of the epochs before, `waiting` counts the time without images.

    Returns:
        The logits each training image had at its step, (examples, classes), and the last step's learning rate.
    """
    targets = _targets(run.splits.train, torch.device(run.worker.device))
    logits, learning_rate = torch.zeros_like(targets), 0.0
    order = _order(run, epoch)
    config = run.config
    batches = TrainingBatches(run.splits.train, targets, config.augment, config.seed, run.normalisation)
    losses = torch.zeros(len(order), device=targets.device)
    torch.manual_seed(mixed_seed(config.seed, epoch, run.worker.rank))  # dropout
    training_mode(run.module, frozen=run.frozen)
    for number, (step, (images, labels)) in enumerate(zip(order, batches.of_epoch(order, epoch, waiting), strict=True)):
        done = (epoch - 1) * len(order) + number
        learning_rate = learning_rate_at(done, steps_an_epoch=len(order), config=config.training, val_losses=val_losses)
        set_learning_rate(run.optimizer, learning_rate)
        at = torch.from_numpy(step.rows).to(targets.device, non_blocking=True)
        logits[at], losses[number] = _take_step(run, step, images, labels)
        if run.average is not None:
            run.average.update(run.module, step=done + 1)
        if number % STEPS_BETWEEN_CHECKS == STEPS_BETWEEN_CHECKS - 1 or number == len(order) - 1:
            _require_finite(summed(losses[: number + 1].clone(), run.worker), epoch)
    return summed(logits, run.worker), learning_rate


def _order(run: Fit, epoch: int) -> list[Step]:
    return epoch_rows(
        run.splits.train.block_of,
        seed=run.config.seed,
        epoch=epoch,
        rank=run.worker.rank,
        workers=run.worker.count,
        batch_size=run.config.training.batch_size,
    )


def _take_step(run: Fit, step: Step, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Update the weights once.

    Returns:
        Logits of the worker's images, and its share of the step's loss, which is a mean over all workers' images.
    """
    training = run.config.training
    learned = smoothed(targets, training.label_smoothing, exclusive=run.loss.exclusive)
    run.optimizer.zero_grad(set_to_none=True)
    parts = zip(images.tensor_split(training.accumulation), learned.tensor_split(training.accumulation), strict=True)
    found = []
    for number, (part, labels) in enumerate(parts, start=1):
        with _exchanged(run.forward, last=number == training.accumulation):
            with mixed_precision(images.device):
                logits = run.forward(part)
            loss = run.loss(logits, labels).sum() / step.images
            (loss * run.worker.count).backward()  # type: ignore[no-untyped-call]  # DDP divides the sum by count
        found.append((logits.detach(), loss.detach()))
    if training.clip_norm:
        nn.utils.clip_grad_norm_(run.module.parameters(), training.clip_norm)
    run.optimizer.step()
    return torch.cat([logits for logits, _ in found]), torch.stack([loss for _, loss in found]).sum()


def _exchanged(forward: nn.Module, *, last: bool) -> AbstractContextManager[None]:
    """Let workers exchange gradients with the last part of a batch only: before it they add up on each."""
    return nullcontext() if last or not hasattr(forward, "no_sync") else forward.no_sync()  # type: ignore[operator]


def _require_finite(losses: Tensor, epoch: int) -> None:
    """Refuse losses of an epoch's steps that are no numbers."""
    wrong = torch.nonzero(~torch.isfinite(losses)).flatten()
    if len(wrong):
        step = int(wrong[0])
        raise TrialError(f"loss is {float(losses[step])} in epoch {epoch}, step {step + 1}; {CURE}")


def _targets(examples: Examples, device: torch.device) -> Tensor:
    return torch.from_numpy(examples.labels).to(device, torch.float32)


def _measure(run: Fit, examples: Examples, when: str) -> dict[str, float]:
    logits = _logits(run, examples, when)
    targets = _targets(examples, logits.device)
    return measure(run.config.task, run.splits.classes, logits, targets, run.loss, DEFAULT_THRESHOLD)


def _logits(run: Fit, examples: Examples, when: str) -> Tensor:
    """Return a split's logits; one that is no number ends the trial, and is told by `when`."""
    logits = evaluate(run.judged, examples, run.normalisation, run.config.training.batch_size, run.worker)
    wrong = int((~torch.isfinite(logits)).any(dim=1).sum())
    if wrong:
        raise TrialError(f"{wrong} of {len(logits)} images have a logit that is no number {when}; {CURE}")
    return logits


def _judge(run: Fit, progress: Progress, ended: Ended) -> FitResult:
    """Measure the best epoch's weights on every split, at the thresholds that validation chooses."""
    run = replace(run, average=None)
    run.module.load_state_dict(progress.best_weights)
    result = FitResult(
        model=run.module,
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
    logits = {name: _logits(run, examples, when) for name, examples in splits.items()}
    thresholds = choose_thresholds(run.config.task, logits["val"], run.splits.val.labels)
    judged = {
        name: judge(run.config.task, run.splits.classes, logits[name], examples, run.loss, thresholds)
        for name, examples in splits.items()
    }
    kept = {name: values.cpu().numpy() for name, values in logits.items() if name != "train"}
    return replace(result, thresholds=thresholds, judged=judged, logits=kept)


def freeze(model: nn.Module) -> None:
    """Take the backbone of a model out of learning: no gradients are computed for it."""
    model.get_submodule("backbone").requires_grad_(False)


def thaw(model: nn.Module) -> None:
    """Let the backbone of a model learn."""
    model.get_submodule("backbone").requires_grad_(True)


def training_mode(model: nn.Module, *, frozen: bool) -> None:
    """Put a model into training mode; a frozen backbone keeps its running statistics and drops nothing."""
    model.train()
    if frozen:
        model.get_submodule("backbone").eval()


def running_average(module: nn.Module, decay: float) -> ModelEmaV3:
    """Return an exponential moving average of the weights and buffers of `module`, which starts as a copy.

    After step number s (1-based), `update(module, step=s)` keeps min(decay, 1 - s ** -0.75) of the average, so that
    the untrained weights are soon forgotten.
    """
    return ModelEmaV3(module, decay=decay, use_warmup=True, warmup_power=AVERAGE_WARMUP_POWER)
