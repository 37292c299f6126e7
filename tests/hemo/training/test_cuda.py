"""Training and inference on a CUDA device, against the same on the CPU. All skip where there is none."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from hemo.config.trial import AugmentConfig, ModelConfig, TrainingConfig, TrialConfig
from hemo.errors import TrialError
from hemo.inference.explain import heat_maps
from hemo.inference.predict import DeployedModel
from hemo.models.checkpoint import CheckpointCard, load_checkpoint, write_checkpoint
from hemo.models.classifier import Normalisation, build_model, normalise, to_unit_range
from hemo.training.data.augment import augment, draw_parameters
from hemo.training.data.dataset import read_training_set, select_splits
from hemo.training.data.examples import Splits
from hemo.training.data.loader import device_batches
from hemo.training.distributed import Worker
from hemo.training.loop import fit, largest_batch_size
from hemo.training.loss import build_loss
from hemo.training.reporting import Epochs, FitResult, run_to_end

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")

CPU, CUDA = Worker(device="cpu"), Worker(device="cuda")
CLASSES = ("any", "epidural", "subdural")
BF16_LOSS = 0.02
"""How far a loss computed in bf16 may be from one in float32: bf16 keeps 8 bits of a logit near 1, that is 0.004."""


def _label(number: int, name: str) -> int:
    """Exactly one class an image, in turn."""
    return int(number % 3 == CLASSES.index(name))


@pytest.fixture
def splits_of(make_training_set: Callable[..., str]) -> Callable[..., Splits]:
    """Return a maker of splits for a trial: one class for a binary task, else three."""

    def make(config: TrialConfig, *, streaming: bool = False) -> Splits:
        several = {} if config.task == "binary" else {"classes": CLASSES, "label": _label}
        return select_splits(read_training_set(make_training_set(**several), streaming=streaming), config)

    return make


def _trial(**changes: object) -> TrialConfig:
    """Return a trial without dropout and batch normalisation: the device is all that may change its curve."""
    training = {"epochs": 2, "batch_size": 8, "learning_rate": 1e-3}
    sections: dict[str, dict[str, object]] = {"model": {"backbone": "test_vit", "dropout": 0.0}, "training": training}
    whole: dict[str, object] = {}
    for name, value in changes.items():
        section, _, field = name.partition("__")
        if field:
            sections.setdefault(section, {})[field] = value
        else:
            whole[section] = value
    return TrialConfig.model_validate({**sections, **whole})


def _epochs(config: TrialConfig, splits: Splits, place: Path, worker: Worker) -> Epochs[FitResult]:
    return fit(config, splits, worker=worker, state_path=str(place / "state.pt"))


def _fit(config: TrialConfig, splits: Splits, place: Path, worker: Worker) -> FitResult:
    return run_to_end(_epochs(config, splits, place, worker))


def _losses(result: FitResult) -> list[float]:
    return [figures.val["loss"] for figures in result.epochs]


@pytest.mark.parametrize(
    "changes",
    [
        {"training__loss": "class_weighted"},
        {"training__loss": "focal"},
        {"training__loss": "dice"},
        {"task": "multi_label"},
        {"task": "multi_label", "training__loss": "rsna"},
        {"task": "multi_label", "training__loss": "class_weighted"},
        {"task": "multi_class"},
        {"task": "multi_class", "training__loss": "focal"},
        {"task": "multi_class", "training__loss": "dice"},
        {"training__optimizer": "adamw", "training__weight_decay": 0.05},
        {"training__optimizer": "sgd", "training__learning_rate": 0.01},
        {"training__optimizer": "sgd_nesterov", "training__learning_rate": 0.01},
        {"training__schedule": "cosine", "training__warmup_epochs": 1},
        {"training__schedule": "one_cycle"},
        {"training__schedule": "plateau"},
        {"training__label_smoothing": 0.1, "training__clip_norm": 1.0, "training__accumulation": 2},
        {"training__ema_decay": 0.9, "training__layer_decay": 0.5},
        {"training__freeze_epochs": 1},
        {"model__head": "F-D(8)"},
        {"model__head": "F-D(16)-D"},
        {"model__head": "GAP-dropout-sigmoid"},
        {"model__hidden_layers": 3, "model__dense_width": 8},
        {"model__backbone": "CNN(8,16)"},
        {"model__backbone": "none", "model__pooling": "flatten"},
        {"model__side_px": 16},
        {"augment__horizontal_flip": 0.5, "augment__vertical_flip": 0.5, "augment__erase": 0.5},
        {"augment__rotate_degrees": 10, "augment__shift_fraction": 0.1, "augment__scale_fraction": 0.1},
        {"augment__aspect_fraction": 0.1, "augment__window_level": 0.1, "augment__window_width": 0.1},
        {"augment__mixup_alpha": 1.0},
    ],
    ids=lambda changes: ",".join(f"{name.partition('__')[2] or name}={value}" for name, value in changes.items()),
)
def test_a_curve_in_bf16_follows_that_of_float32_on_the_cpu(
    splits_of: Callable[..., Splits], tmp_path: Path, changes: dict[str, object]
) -> None:
    config = _trial(**changes)
    splits = splits_of(config)
    on_cpu, on_cuda = (_fit(config, splits, tmp_path / worker.device, worker) for worker in (CPU, CUDA))
    assert _losses(on_cuda) == pytest.approx(_losses(on_cpu), abs=BF16_LOSS)
    assert on_cuda.epochs[-1].train["loss"] == pytest.approx(on_cpu.epochs[-1].train["loss"], abs=BF16_LOSS)
    assert on_cpu.epochs[0].val["loss"] != on_cpu.baseline["val"]["loss"]  # it learned something at all


def test_batch_normalisation_follows_as_well(splits_of: Callable[..., Splits], tmp_path: Path) -> None:
    config = _trial(model__backbone="test_resnet", training__epochs=3)
    splits = splits_of(config)
    on_cpu, on_cuda = (_fit(config, splits, tmp_path / worker.device, worker) for worker in (CPU, CUDA))
    assert _losses(on_cuda) == pytest.approx(_losses(on_cpu), abs=3 * BF16_LOSS)
    assert _losses(on_cuda)[-1] < on_cuda.baseline["val"]["loss"]


def test_a_compiled_model_gives_the_curve_of_the_plain_one(splits_of: Callable[..., Splits], tmp_path: Path) -> None:
    plain, compiled = (_trial(training__compile=chosen) for chosen in (False, True))
    splits = splits_of(plain)
    curves = [_losses(_fit(one, splits, tmp_path / str(one.training.compile), CUDA)) for one in (plain, compiled)]
    assert curves[1] == pytest.approx(curves[0], abs=BF16_LOSS)


@pytest.mark.parametrize("loss", ["default", "class_weighted", "rsna", "focal", "dice"])
@pytest.mark.parametrize("task", ["multi_label", "multi_class"])
def test_a_loss_and_its_gradient_are_those_of_the_cpu(task: str, loss: str) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(64, 3, generator=generator)
    targets = torch.nn.functional.one_hot(torch.arange(64) % 3, 3).float()
    config = _trial(task=task, training__loss=loss)
    found = []
    for device in ("cpu", "cuda"):
        leaf = logits.to(device).clone().requires_grad_()
        values = build_loss(config, CLASSES, targets.to(device))(leaf, targets.to(device))
        values.mean().backward()
        found.append((values.detach().cpu(), leaf.grad.cpu()))
    torch.testing.assert_close(found[1], found[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "option",
    [
        {"horizontal_flip": 0.5},
        {"vertical_flip": 0.5},
        {"rotate_degrees": 20},
        {"shift_fraction": 0.2},
        {"scale_fraction": 0.3},
        {"aspect_fraction": 0.3},
        {"erase": 0.7},
        {"window_level": 0.2},
        {"window_width": 0.3},
    ],
    ids=lambda option: next(iter(option)),
)
def test_augmented_pixels_are_those_of_the_cpu(option: dict[str, float]) -> None:
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (16, 3, 24, 20), np.uint8))
    parameters = draw_parameters(AugmentConfig.model_validate(option), 16, torch.Generator().manual_seed(1))
    plain, on_cpu = to_unit_range(images), augment(to_unit_range(images), parameters)
    on_cuda = augment(to_unit_range(images.cuda()), parameters)
    torch.testing.assert_close(on_cuda.cpu(), on_cpu, rtol=0, atol=1e-4)
    assert (on_cpu - plain).abs().max() > 0.1


def test_normalised_pixels_are_those_of_the_cpu() -> None:
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 8, 8), np.uint8))
    normalisation = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    on_cpu, on_cuda = (normalise(to_unit_range(images.to(name)), normalisation) for name in ("cpu", "cuda"))
    torch.testing.assert_close(on_cuda.cpu(), on_cpu, rtol=1e-6, atol=1e-6)
    assert on_cuda.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("streaming", [False, True], ids=["resident", "streaming"])
def test_batches_arrive_whole_and_in_order(splits_of: Callable[..., Splits], *, streaming: bool) -> None:
    train = splits_of(_trial(), streaming=streaming).train
    wanted = [np.arange(start, start + 7) % len(train) for start in range(0, 70, 7)]
    host = list(train.source.images.batches([train.rows[rows] for rows in wanted]))
    arrived = [images.cpu().numpy() for images in device_batches(train, wanted, torch.device("cuda"))]
    np.testing.assert_array_equal(np.stack(arrived), np.stack(host))


@pytest.mark.parametrize("backbone", ["test_vit", "test_resnet"])
def test_a_resumed_fit_equals_an_undisturbed_one_bit_for_bit(
    splits_of: Callable[..., Splits], tmp_path: Path, backbone: str
) -> None:
    """Dropout and augmentation are on; `deterministic` is what torch has deterministic algorithms for."""
    config = _trial(
        model__backbone=backbone, model__dropout=0.3, training__epochs=3, training__ema_decay=0.9,
        augment__rotate_degrees=10,
    )  # fmt: skip
    splits = splits_of(config)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # as torch asks for; see its notes on randomness
    torch.use_deterministic_algorithms(True)
    try:
        whole = _fit(config, splits, tmp_path / "whole", CUDA)
        killed = _epochs(config, splits, tmp_path / "cut", CUDA)
        next(killed)
        killed.close()
        resumed = _fit(config, splits, tmp_path / "cut", CUDA)
    finally:
        torch.use_deterministic_algorithms(False)
    assert _losses(resumed) == _losses(whole)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name


def test_two_workers_on_one_gpu_give_the_curve_of_one(splits_of: Callable[..., Splits], tmp_path: Path) -> None:
    """Gradients are averaged by gloo; a mean of bf16 gradients of halves is not that of the whole to the last bit."""
    config = _trial(training__epochs=3, training__clip_norm=0.5, augment__rotate_degrees=10)
    alone = _losses(_fit(config, splits_of(config), tmp_path / "alone", CUDA))
    script = str(Path(__file__).with_name("fit_of_two.py"))
    command = [sys.executable, script, str(tmp_path), config.model_dump_json()]
    processes = [
        subprocess.Popen([*command, str(rank), "cuda"], stdout=subprocess.PIPE, text=True) for rank in range(2)
    ]
    found = [json.loads(process.communicate(timeout=300)[0].splitlines()[-1]) for process in processes]
    assert found[0] == found[1] == pytest.approx(alone, abs=2e-3)


def _checkpoint(place: Path) -> tuple[torch.nn.Module, CheckpointCard]:
    config = ModelConfig(backbone="test_resnet")
    torch.manual_seed(0)
    model = build_model(config, channels=3, sides_px=(32, 32), classes=2).eval()
    card = CheckpointCard(
        model=config,
        task="multi_label",
        classes=("any", "subdural"),
        channels=("brain", "subdural", "soft"),
        image={},
        height_px=32,
        width_px=32,
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        thresholds=(0.5, 0.5),
        training_set="feedface",
    )
    write_checkpoint(str(place), model, card)
    return model, card


NOISE = np.random.default_rng(0).integers(0, 256, (10, 3, 32, 32), np.uint8)


@pytest.mark.parametrize("flip", [False, True])
def test_probabilities_are_those_of_the_cpu(tmp_path: Path, *, flip: bool) -> None:
    _checkpoint(tmp_path)
    on_cpu, on_cuda = (
        DeployedModel(*load_checkpoint(str(tmp_path)), device=device, batch_size=4, flip=flip).predict(NOISE)[1]
        for device in ("cpu", "cuda")
    )
    np.testing.assert_allclose(on_cuda, on_cpu, atol=0.005)
    assert np.ptp(on_cpu) > 0.01


def test_heat_maps_are_those_of_the_cpu(tmp_path: Path) -> None:
    model, card = _checkpoint(tmp_path)
    on_cpu = heat_maps(model, card, NOISE, 1)
    on_cuda = heat_maps(model.cuda(), card, NOISE, 1)
    np.testing.assert_allclose(on_cuda, on_cpu, atol=0.02 * on_cpu.max())  # TF32 convolutions
    assert on_cpu.max() > 0


def test_out_of_memory_names_a_batch_size_that_then_works(
    make_training_set: Callable[..., str], tmp_path: Path
) -> None:
    """ResNet18 keeps some 3 MB an image of 64 px for the way back, beside 0.2 GB of weights and what Adam keeps."""
    config = _trial(model__backbone="resnet18", training__batch_size=512, training__epochs=1)
    rows = {"train": 512, "val": 8, "test": 8}
    splits = select_splits(read_training_set(make_training_set(rows=rows, side_px=64)), config)
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.5e9 / torch.cuda.get_device_properties(0).total_memory)
    try:
        with pytest.raises(
            TrialError, match=r"out of memory with batch_size 512; try batch_size \d+, a step"
        ) as caught:
            _fit(config, splits, tmp_path / "large", CUDA)
        named = int(str(caught.value).split("try batch_size ")[1].split(",")[0])
        assert largest_batch_size(config, splits, CUDA, at_most=512) == named
        smaller = config.model_copy(update={"training": TrainingConfig(epochs=1, batch_size=named)})
        assert len(_fit(smaller, splits, tmp_path / "small", CUDA).epochs) == 1
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()
