"""From a backbone's features to logits."""

from collections import OrderedDict

from torch import Tensor, nn

from hemo.config.trial import ModelConfig


def build_head(config: ModelConfig, shape: tuple[int, int], logits: int) -> nn.Sequential:
    """Make pooling -> `hidden_layers` x Dense(`dense_width`, ReLU) -> dropout -> logits.

    Args:
        config: Of the model.
        shape: (positions, features) the backbone gives.
        logits: One a class of the task.

    Returns:
        Module from (images, positions, features) to (images, logits).
    """
    positions, features = shape
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["pool"] = GlobalAveragePooling() if config.pooling == "gap" else nn.Flatten()
    width = features if config.pooling == "gap" else positions * features
    for layer in range(config.hidden_layers):
        layers[f"dense{layer + 1}"] = nn.Linear(width, config.dense_width)
        layers[f"relu{layer + 1}"] = nn.ReLU()
        width = config.dense_width
    layers["dropout"] = nn.Dropout(config.dropout)
    layers["logits"] = nn.Linear(width, logits)
    return nn.Sequential(layers)


class GlobalAveragePooling(nn.Module):
    """Mean over positions: (images, positions, features) to (images, features)."""

    def forward(self, features: Tensor) -> Tensor:
        """Return the mean over axis 1."""
        return features.mean(dim=1)
