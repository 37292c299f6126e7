"""A backbone that stays as it is while only the head learns."""

from torch import nn


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
