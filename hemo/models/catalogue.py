"""List backbones: parameters, image sizes, and pretrained weights."""

from collections.abc import Iterator
from dataclasses import dataclass

import timm
import torch

from hemo.errors import ConfigError
from hemo.models.backbones import (
    EXAMPLES,
    REFUSALS,
    SOURCES_BACKBONES,
    build_backbone,
    own_backbone,
    pretrained_settings,
    smallest_side,
    timm_name,
)
from hemo.models.classifier import parameter_count
from hemo.models.pretrained import weights_origin


@dataclass(frozen=True)
class BackboneFacts:
    """One backbone."""

    name: str  # as `model.backbone` takes it
    timm_name: str  # empty: one of hemo's own
    parameters: int | None  # without classifier; None: it cannot be used, as timm does not build it without its pooling
    input_px: int | None  # side of the images its weights were trained with; None: there are no such weights
    smallest_px: int | None  # smallest square side it takes; None where it takes certain sizes only
    weights: tuple[str, ...]  # timm's tags of weights, that of `imagenet` first; empty: none
    weights_origin: str  # of the weights of `imagenet`: file and repository, or address; empty: none


def listed_backbones(containing: str, channels: int) -> Iterator[BackboneFacts]:
    """Yield the facts of `SOURCES_BACKBONES` and hemo's own, or of timm's backbones with `containing` in their name.

    Raises:
        ConfigError: If timm has no such name.
    """
    names = sorted(timm.list_models(f"*{containing}*")) if containing else [*SOURCES_BACKBONES, *EXAMPLES]
    if not names:
        raise ConfigError(f"containing: no backbone of timm has {containing!r} in its name; try a shorter part")
    return (backbone_facts(name, channels) for name in names)


def backbone_facts(backbone: str, channels: int) -> BackboneFacts:
    """Return the facts of one backbone; nothing is downloaded.

    Raises:
        ConfigError: If neither `SOURCES_BACKBONES` nor timm have it.
    """
    own = own_backbone(backbone, channels)
    if own is not None:
        return BackboneFacts(backbone, "", parameter_count(own), None, smallest_side(backbone, channels), (), "")
    name, settings = timm_name(backbone), pretrained_settings(backbone)
    _, height_px, width_px = settings.input_size
    parameters = _parameters(backbone, channels, (height_px, width_px))
    tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{name}.*")]
    return BackboneFacts(
        name=backbone,
        timm_name=name,
        parameters=parameters,
        input_px=height_px,
        smallest_px=None if parameters is None else smallest_side(backbone, channels),
        weights=tuple(sorted(tags, key=lambda tag: (tag != settings.tag, tag))),
        weights_origin=weights_origin(settings) if tags else "",
    )


def _parameters(backbone: str, channels: int, sides_px: tuple[int, int]) -> int | None:
    try:
        with torch.device("meta"):
            return parameter_count(build_backbone(backbone, channels, sides_px))
    except REFUSALS:
        return None


HEAD = ("backbone", "timm", "parameters", "made for", "smallest", "weights", "from")


def as_lines(backbones: Iterator[BackboneFacts]) -> Iterator[str]:
    """Yield a Markdown table line by line, each backbone as soon as it is examined."""
    yield _line(HEAD)
    yield _line(("---",) * len(HEAD))
    for facts in backbones:
        smallest = "-" if facts.smallest_px is None else f"{facts.smallest_px} px"
        parameters = "cannot be used" if facts.parameters is None else f"{facts.parameters:,}"
        numbers = (parameters, "-" if facts.input_px is None else f"{facts.input_px} px", smallest)
        yield _line(
            (facts.name, facts.timm_name or "-", *numbers, ", ".join(facts.weights) or "-", facts.weights_origin or "-")
        )


def _line(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"
