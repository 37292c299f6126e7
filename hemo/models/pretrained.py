"""Starting weights of a model: random, ImageNet, a file, or a checkpoint; and the normalisation that goes with them."""

import io
import logging
import sys
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError
from safetensors import SafetensorError
from timm.models import PretrainedCfg, adapt_input_conv, clean_state_dict
from torch import Tensor

from hemo.config.trial import ModelConfig
from hemo.errors import ConfigError, first_names
from hemo.models.backbones import NONE, REFUSALS, own_backbone, pretrained_settings
from hemo.models.checkpoint import read_checkpoint_card
from hemo.models.classifier import ImageClassifier, Normalisation, build_model, plain_normalisation
from hemo.models.weight_files import find_weights, unreadable_weights
from hemo.storage import read_bytes

logger = logging.getLogger(__name__)

PICKLED = "pytorch_model.bin"
"""What timm takes from the hub where there are no safetensors."""

WRAPPINGS = ("state_dict_ema", "state_dict", "model_state_dict", "model")
"""Keys under which training scripts keep a state dict; the running average, where there is one, is the better model."""


def starting_model(config: ModelConfig, *, channels: int, sides_px: tuple[int, int], classes: int) -> ImageClassifier:
    """Make the model a trial starts from; what the weights do not cover is drawn from torch's global generator.

    Raises:
        ConfigError: If the weights cannot be loaded or do not fit. Of ImageNet's, which file is missing and where to
            put it, or which cached file is something else.
    """
    if config.weights == "imagenet":
        return _imagenet_model(config, channels=channels, sides_px=sides_px, classes=classes)
    model = build_model(config, channels=channels, sides_px=sides_px, classes=classes)
    if config.weights != "none":
        _load_fitting(model, config.weights, channels)
    return model


def _imagenet_model(config: ModelConfig, *, channels: int, sides_px: tuple[int, int], classes: int) -> ImageClassifier:
    """Make a model with ImageNet weights as timm loads them: from this machine, or the network."""
    if own_backbone(config.backbone, channels) is not None:
        return build_model(config, channels=channels, sides_px=sides_px, classes=classes, pretrained=True)
    settings = pretrained_settings(config.backbone)
    _require_reachable(config.backbone, settings)
    try:
        model = build_model(config, channels=channels, sides_px=sides_px, classes=classes, pretrained=True)
        cached = cached_weights(settings)
        if cached.endswith(".safetensors"):
            _require_mostly_covered(model, cached, channels)
    except (OSError, RuntimeError, ValueError, SafetensorError, ConfigError) as error:
        cached = cached_weights(settings)
        if not cached:
            raise ConfigError(_out_of_reach(config.backbone, settings, error)) from error
        raise ConfigError(
            f"model.weights: {cached} does not hold ImageNet weights of {config.backbone} ({_first_line(error)}); "
            f"remove it, or replace it by {weights_origin(settings)}"
        ) from error
    return model


def _require_mostly_covered(model: ImageClassifier, cached: str, channels: int) -> None:
    """Refuse a cached file of something else: where no name fits, timm only logs that, and the weights stay random.

    Raises:
        ConfigError: If it covers less than half of the backbone's tensors; timm renames some when it loads a file.
    """
    lacking = _lacking(model, _fitting(model, read_weights(cached), cached, channels))
    if 2 * len(lacking) > len(model.backbone.state_dict()):
        raise ConfigError(f"it has no {first_names(lacking)} of the right shape")


def starting_backbone(config: ModelConfig, *, channels: int, sides_px: tuple[int, int]) -> ImageClassifier:
    """Make a model whose backbone is all covered by `config.weights`; its head is random.

    Torch's global generator is left as it was.

    Raises:
        ConfigError: If the weights cannot be loaded, do not fit, or leave a part of the backbone random: which.
    """
    with torch.random.fork_rng(devices=[]):
        if config.weights == "imagenet":
            return starting_model(config, channels=channels, sides_px=sides_px, classes=1)
        model = build_model(config, channels=channels, sides_px=sides_px, classes=1)
    tensors = read_weights(config.weights)
    fitting = _fitting(model, tensors, config.weights, channels)
    if lacking := _lacking(model, fitting):
        raise ConfigError(
            f"weights: {config.weights} does not cover {len(lacking)} tensors of {config.backbone}, which would stay "
            f"random: {first_names(lacking)}; give weights of the same backbone"
        )
    model.load_state_dict(fitting, strict=False)
    return model


def _require_reachable(backbone: str, settings: PretrainedCfg) -> None:
    """Make one request for weights that are not cached yet: the hub's client tries for a minute, file after file.

    Raises:
        ConfigError: If the hub does not respond, or does not have the file.
    """
    if not settings.hf_hub_id or cached_weights(settings):
        return
    try:
        get_hf_file_metadata(hf_hub_url(*_hub_file(settings.hf_hub_id)))
    except EntryNotFoundError:
        return  # the hub responds, and timm tries more names
    except Exception as error:  # those of the client's HTTP library share no base class
        raise ConfigError(_out_of_reach(backbone, settings, error)) from error


def cached_weights(settings: PretrainedCfg) -> str:
    """Return the file on this machine that timm takes ImageNet weights from without a download; empty: there is none.

    Either client of timm looks into one folder: the hub's into that of HF_HOME, torch's into that of TORCH_HOME.
    """
    if not settings.hf_hub_id:
        path = Path(torch.hub.get_dir(), "checkpoints", Path(str(settings.url)).name)
        return str(path) if path.is_file() else ""
    repository, file = _hub_file(settings.hf_hub_id)
    found = (try_to_load_from_cache(repository, name) for name in (file, PICKLED))
    return next((path for path in found if isinstance(path, str)), "")


def _out_of_reach(backbone: str, settings: PretrainedCfg, error: Exception) -> str:
    """Return the error line of weights that are neither cached nor can be fetched: the file, and the two ways to it."""
    origin, copy = weights_origin(settings), f"put it into {Path(torch.hub.get_dir(), 'checkpoints')} (TORCH_HOME)"
    if settings.hf_hub_id:
        repository, file = _hub_file(settings.hf_hub_id)
        folder = f"models--{repository.replace('/', '--')}"
        copy = f"run `hf download {repository} {file}` where it can and copy the folder {folder} to "
        copy += f"{constants.HF_HUB_CACHE} (HF_HOME)"
    return (
        f"model.weights: ImageNet weights of {backbone}, {origin}, are not on this machine and cannot be fetched "
        f"({type(error).__name__}); {copy}, on a cluster on every node; or give the file as model.weights, a path or "
        "a URI that every node can read such as s3://BUCKET/FILE; or `none`"
    )


def _first_line(error: Exception) -> str:
    """Return the reason of a library's error; torch lists every tensor, each on a line of its own."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return " ".join(" ".join(lines[:2]).split()).removeprefix("model.weights: ")[:300]


def weights_origin(settings: PretrainedCfg) -> str:
    """Return where timm's weights come from: file and repository of the Hugging Face hub, or an address."""
    if not settings.hf_hub_id:
        return str(settings.url or "an unknown address")
    repository, file = _hub_file(settings.hf_hub_id)
    return f"{file} of {repository}"


def _hub_file(hub: str | tuple[str, str]) -> tuple[str, str]:
    """Return repository and file of what timm calls `hf_hub_id`."""
    return (hub, "model.safetensors") if isinstance(hub, str) else hub


def normalisation_of(config: ModelConfig, channels: int) -> Normalisation:
    """Return how pixels are scaled: as the starting weights were trained with, where that is known.

    A checkpoint's card has it, for as many channels as now. ImageNet's weights had three, whether timm fetches them or
    they are in a file: a file without hemo's names for backbone and head counts as ImageNet's.

    Without a backbone pixels stay within 0..1: a column that is nearly always 0 must not move the first layer.

    Raises:
        ConfigError: If the weights are a file that cannot be read.
    """
    if config.backbone == NONE:
        return Normalisation((0.0,) * channels, (1.0,) * channels)
    checkpoint = "" if config.weights in ("none", "imagenet") else find_weights(config.weights).checkpoint
    if checkpoint:
        stored = read_checkpoint_card(checkpoint).normalisation
        return stored if len(stored.mean) == channels else plain_normalisation(channels)
    if channels == 3 and _are_timms(config):
        pretrained = pretrained_settings(config.backbone)
        return Normalisation(tuple(pretrained.mean), tuple(pretrained.std))
    return plain_normalisation(channels)


def _are_timms(config: ModelConfig) -> bool:
    """Return whether the starting weights are timm's, or a file of a timm backbone without hemo's names."""
    if config.weights in ("none", "imagenet"):
        return config.weights == "imagenet"
    return own_backbone(config.backbone, 3) is None and not _has_own_names(read_weights(config.weights))


def _has_own_names(tensors: dict[str, Tensor]) -> bool:
    """Return whether tensors are named as those of `ImageClassifier`."""
    return any(name.startswith("backbone.") for name in tensors)


def read_weights(location: str) -> dict[str, Tensor]:
    """Read safetensors or a pickled state dict, or what a checkpoint has; of a pickle, only tensors are unpacked.

    Raises:
        ConfigError: If there is no such file or checkpoint, it is neither, or has no tensors.
    """
    file = find_weights(location).file
    try:
        content = read_bytes(file)
    except OSError as error:
        raise unreadable_weights(location, error) from error
    try:
        if file.endswith(".safetensors"):
            return safetensors.torch.load(content)
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # an unpickler raises whatever foreign bytes lead it to
        raise ConfigError(f"model.weights: {location} is neither safetensors nor a state dict of tensors") from error
    tensors = {name: value for name, value in _unwrapped(state).items() if isinstance(value, Tensor)}
    if not tensors:
        held = ", ".join(map(str, state))[:200] if isinstance(state, dict) else f"a {type(state).__name__}"
        raise ConfigError(
            f"model.weights: {location} holds {held or 'nothing'}, no state dict of tensors; save model.state_dict()"
        )
    return tensors


def _unwrapped(state: Any) -> dict[str, Any]:
    """Return the state dict in what training scripts save, without the prefixes of DDP and `torch.compile`."""
    if not isinstance(state, dict):
        return {}
    inner = next((state[key] for key in WRAPPINGS if isinstance(state.get(key), dict)), state)
    return clean_state_dict({str(name): value for name, value in inner.items()})


def check_weights(config: ModelConfig, channels: int, sides_px: tuple[int, int]) -> None:
    """Refuse starting weights that cannot be loaded or do not fit. ImageNet weights are cached by this.

    Raises:
        ConfigError: What is wrong with them.
    """
    if config.weights == "imagenet":
        starting_model(config, channels=channels, sides_px=sides_px, classes=1)
    elif config.weights != "none":
        with torch.device("meta"):
            model = build_model(config, channels=channels, sides_px=sides_px, classes=1)
        _fitting(model, read_weights(config.weights), config.weights, channels)


def _load_fitting(model: ImageClassifier, location: str, channels: int) -> None:
    """Load what fits by name and shape, and log what the file does not cover."""
    fitting = _fitting(model, read_weights(location), location, channels)
    model.load_state_dict(fitting, strict=False)
    if rest := _uncovered(model, fitting):
        logger.warning("model.weights: %s does not cover %s", location, ", ".join(rest))


def _uncovered(model: ImageClassifier, fitting: dict[str, Tensor]) -> list[str]:
    """Return the names of a model's tensors that are not among those that fit it."""
    return [name for name in model.state_dict() if name not in fitting and not name.endswith("num_batches_tracked")]


def _lacking(model: ImageClassifier, fitting: dict[str, Tensor]) -> list[str]:
    """Return the names of the backbone's tensors that are not among those that fit the model."""
    return [name.removeprefix("backbone.") for name in _uncovered(model, fitting) if name.startswith("backbone.")]


def _fitting(model: ImageClassifier, tensors: dict[str, Tensor], location: str, channels: int) -> dict[str, Tensor]:
    """Return the tensors that fit the model by name and shape; names of timm's own files are those of the backbone.

    Names of the authors' files become timm's, and position embeddings are resampled to the size of the images, where
    timm can do that for the backbone. The first convolution is made to fit where it was of other channels than the
    images'.
    """
    wanted = model.state_dict()
    if not _has_own_names(tensors):
        tensors = {f"backbone.{name}": value for name, value in tensors.items()}
    tensors = _as_timm_loads_them(model, tensors)
    tensors = {**tensors, **_adapted_stem(model, tensors, channels)}
    fitting = {name: value for name, value in tensors.items() if name in wanted and value.shape == wanted[name].shape}
    if not any(name.startswith("backbone.") and value.ndim for name, value in fitting.items()):
        name, value = next(iter(wanted.items()))
        raise ConfigError(
            f"model.weights: none of the {len(tensors)} tensors in {location} fits the backbone, which has "
            f"{name.removeprefix('backbone.')} of shape {tuple(value.shape)}; give weights of the same backbone"
        )
    wrong = [name for name, value in fitting.items() if not torch.isfinite(value).all()]
    if wrong:
        raise ConfigError(f"model.weights: {wrong[0]} in {location} has NaN or infinite values; give other weights")
    return fitting


def _as_timm_loads_them(model: ImageClassifier, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors with those of the backbone as timm converts them when it loads weights; unchanged if it cannot.

    Each of timm's modules of a family (ViT, ConvNeXt, Swin, ...) has such a function under one name.
    """
    convert = getattr(sys.modules[type(model.backbone).__module__], "checkpoint_filter_fn", None)
    own = {name.removeprefix("backbone."): value for name, value in tensors.items() if name.startswith("backbone.")}
    wanted = model.backbone.state_dict()
    if convert is None or all(name in own and own[name].shape == wanted[name].shape for name in wanted):
        return tensors
    try:
        converted = convert(own, model.backbone)
    except REFUSALS:  # weights of something else, which fit nowhere
        return tensors
    others = {name: value for name, value in tensors.items() if not name.startswith("backbone.")}
    return {**others, **{f"backbone.{name}": value for name, value in converted.items()}}


def _adapted_stem(model: ImageClassifier, tensors: dict[str, Tensor], channels: int) -> dict[str, Tensor]:
    """Return the weights of first convolutions that are of other channels, changed to `channels` as timm does.

    One channel gets the sum over the stored ones, several get them in turn, scaled so that an image with the same grey
    in every channel gives the same features as before.
    """
    wanted, adapted = model.state_dict(), {}
    first = getattr(model.backbone, "pretrained_cfg", {}).get("first_conv") or ()
    for name in (first,) if isinstance(first, str) else first:
        key = f"backbone.{name}.weight"
        if key not in tensors or key not in wanted or tensors[key].ndim != 4:
            continue
        filters, stored, *kernel = tensors[key].shape
        if stored != channels and [filters, channels, *kernel] == list(wanted[key].shape):
            logger.info("model.weights: %s is changed from %d channels to %d", key, stored, channels)
            adapted[key] = adapt_input_conv(channels, tensors[key], base_chans=stored)
    return adapted
