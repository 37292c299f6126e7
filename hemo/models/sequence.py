"""Sequence models: embeddings of the slices of whole studies, in order of position, to logits of slices and studies.

With the embedding of a slice may come its probabilities by the model of slices: they follow it in each vector.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from hemo.config.trial import SEQUENCE_NETWORK, ModelConfig
from hemo.errors import ConfigError

STUDY, SERIES, POSITION_MM, SLICE_SLOT, STUDY_SLOT, PACKED_COLUMNS = range(6)
"""Columns of packed studies before the embedding: number of the study and of the series in the batch (ascending),
position along the normal of the slices (ascending within a series), and the rows of the output that take the logits of
the slice and of its study; -1: none. float32 holds whole numbers up to 16,777,216."""

GEOMETRY = 3
"""Numbers of a slice beside its embedding: height in the series, distance to the slice below and to the one above."""

MM_A_UNIT = 10.0
LARGEST_GAP_UNITS = 10.0
"""Distances are given to the network in cm, those above 10 cm as 10 cm."""

LONGEST_WAVE_MM = 1000.0
"""Of the position encoding of a transformer: longer than a head."""


def noisy_or(logits: Tensor, study: Tensor, count: int) -> Tensor:
    """Return the logit that a study has a class if its slices are independent: of 1 - product of (1 - p).

    Args:
        logits: Of slices, (slices, classes).
        study: Number of the study of each slice, (slices,).
        count: Studies.

    Returns:
        Tensor (studies, classes), see `logit_of_any`.

    Source:
        Pearl 1988, Probabilistic Reasoning in Intelligent Systems, section 4.3.2.
    """
    absent = logits.new_zeros(count, logits.shape[1]).index_add(0, study, functional.logsigmoid(-logits))
    return logit_of_any(absent)


def logit_of_any(log_absent: Tensor) -> Tensor:
    """Return the logit of 1 - exp(log_absent), of the logarithm of the probability that no slice is positive.

    Where all are certain to be negative, the probability is that of the type's rounding: the logit is -15.9 in float32
    and -36.0 in float64, and its gradient finite.
    """
    absent = log_absent.clamp(max=-torch.finfo(log_absent.dtype).eps)
    return torch.log(-torch.expm1(absent)) - absent


class SliceSequence(nn.Module):
    """From slices in order to features that know the neighbours: projection, then a BiGRU or a transformer encoder.

    What a slice brings: its normalised embedding and its probabilities, the differences of both to the slices below and
    above, and `GEOMETRY`. The first and the last slice differ from nothing: difference and distance are 0.
    """

    def __init__(
        self, network: str, widths: tuple[int, ...], dimension: int, probabilities: int, dropout: float
    ) -> None:
        """Make it.

        Args:
            network: `BiGRU` or `Transformer`.
            widths: Units of each layer; of a BiGRU in each direction.
            dimension: Of the embeddings.
            probabilities: Of a slice, behind its embedding.
            dropout: After the projection and between layers.
        """
        super().__init__()
        self.dimension = dimension
        self.normalise = nn.LayerNorm(dimension)
        self.project = nn.Linear(3 * (dimension + probabilities) + GEOMETRY, widths[0])
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList()
        size = widths[0]
        for width in widths:
            if network == "BiGRU":
                self.layers.append(nn.GRU(size, width, batch_first=True, bidirectional=True))
                size = 2 * width
            else:
                self.layers.append(_encoder_layer(width, dropout))
        self.features = size + widths[0]

    def forward(self, vectors: Tensor, position_mm: Tensor, series: Tensor) -> Tensor:
        """Return the features of each slice, (slices, features), which end with its own projection.

        Args:
            vectors: (slices, dimension + probabilities).
            position_mm: (slices,), ascending within a series.
            series: (slices,), number of the series of each slice: 0, 1, ..., ascending, none left out.
        """
        ends = torch.bincount(series).cumsum(0)
        own = torch.cat([self.normalise(vectors[:, : self.dimension]), vectors[:, self.dimension :]], dim=1)
        pairs = series[1:] == series[:-1]
        steps = (own[1:] - own[:-1]) * pairs[:, None]
        gaps = ((position_mm[1:] - position_mm[:-1]) / MM_A_UNIT).clamp(max=LARGEST_GAP_UNITS) * pairs
        below, above = functional.pad(steps, (0, 0, 1, 0)), functional.pad(-steps, (0, 0, 0, 1))
        gap_below, gap_above = functional.pad(gaps, (1, 0)), functional.pad(gaps, (0, 1))
        first = functional.pad(ends, (1, -1))
        lowest, highest = position_mm[first][series], position_mm[ends - 1][series]
        geometry = torch.stack([_height(position_mm, lowest, highest), gap_below, gap_above], dim=1)
        projected = self.dropout(functional.gelu(self.project(torch.cat([own, below, above, geometry], dim=1))))
        features = projected
        if not isinstance(self.layers[0], nn.GRU):
            features = features + _position_encoding(position_mm - lowest, features.shape[1])
        place = torch.arange(len(series), device=series.device) - first[series]
        return torch.cat([self._in_context(features, series, place), projected], dim=1)

    def _in_context(self, features: Tensor, series: Tensor, place: Tensor) -> Tensor:
        """Return the output of the last layer, (slices, features), of features of this shape.

        The layers take series padded to the longest one; padding is seen by none of them.
        """
        lengths = torch.bincount(series)
        padded = features.new_zeros(len(lengths), int(lengths.max()), features.shape[1])
        padded[series, place] = features
        absent = torch.arange(padded.shape[1], device=series.device) >= lengths[:, None]
        on_cpu = lengths.cpu()
        for number, layer in enumerate(self.layers):
            if isinstance(layer, nn.GRU):
                packed = pack_padded_sequence(padded, on_cpu, batch_first=True, enforce_sorted=False)
                padded, _ = pad_packed_sequence(layer(packed)[0], batch_first=True)
                padded = self.dropout(padded) if number < len(self.layers) - 1 else padded
            else:
                padded = layer(padded, src_key_padding_mask=absent)
        return padded[series, place]


def _encoder_layer(width: int, dropout: float) -> nn.TransformerEncoderLayer:
    heads = max(heads for heads in (1, 2, 4) if width % heads == 0)
    return nn.TransformerEncoderLayer(width, heads, 2 * width, dropout, "gelu", batch_first=True, norm_first=True)


def _height(position_mm: Tensor, lowest: Tensor, highest: Tensor) -> Tensor:
    """Return 0 for the lowest slice of a series, 1 for the highest, 0.5 where all have one position; all (slices,)."""
    height = (position_mm - lowest) / (highest - lowest).clamp(min=1e-6)
    return torch.where(highest > lowest, height, torch.full_like(height, 0.5))


def _position_encoding(distance_mm: Tensor, width: int) -> Tensor:
    """Return sines and cosines of the distance from the first slice of the series, (slices, width), of (slices,).

    Source:
        Vaswani et al. 2017, arXiv:1706.03762, section 3.5, with millimetres for places: gaps count.
    """
    frequency = torch.exp(-torch.arange(0, width, 2, device=distance_mm.device) / width * math.log(LONGEST_WAVE_MM))
    angle = distance_mm[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1)[:, :width]


class SequenceClassifier(nn.Module):
    """From packed studies to logits of the slices and studies that have a slot."""

    def __init__(self, backbone: SliceSequence, config: ModelConfig, classes: int) -> None:
        """Join a sequence network and the heads."""
        super().__init__()
        self.backbone = backbone
        self.head = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(backbone.features, classes))
        self.attention = None
        if config.series.study == "attention":
            self.attention = nn.Linear(backbone.features, classes)
            self.scale = nn.Parameter(torch.ones(classes))
            self.shift = nn.Parameter(torch.zeros(classes))

    def forward(self, packed: Tensor) -> Tensor:
        """Return logits by slot, float32, (slots, classes).

        Args:
            packed: (slices, PACKED_COLUMNS + dimension + probabilities), float32, see `PACKED_COLUMNS`; whole studies,
                each slot from 0 to the last once.
        """
        slices, studies, _ = self.logits(packed)
        slots = torch.cat([packed[:, SLICE_SLOT], _study_slots(packed)])
        filled = slots >= 0
        return torch.cat([slices, studies])[filled][slots[filled].argsort()]

    def logits(self, packed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits of all slices and of all studies, and the weight of each slice in its study.

        Returns:
            Tensors (slices, classes), (studies, classes) and (slices, classes), float32. Weights of a study add up to
            1; of noisy-or they are a slice's part of the expected number of positive slices.
        """
        with torch.autocast(packed.device.type, enabled=False):
            features = self.backbone(packed[:, PACKED_COLUMNS:], packed[:, POSITION_MM], packed[:, SERIES].long())
            slices = self.head(features)
            study = packed[:, STUDY].long()
            count = int(study[-1]) + 1
            if self.attention is None:
                present = slices.sigmoid()
                total = slices.new_zeros(count, slices.shape[1]).index_add(0, study, present)
                return slices, noisy_or(slices, study, count), present / total[study]
            weights = _softmax_by_study(self.attention(features), study, count)
            mean = slices.new_zeros(count, slices.shape[1]).index_add(0, study, weights * slices)
            return slices, self.scale * mean + self.shift, weights


def _study_slots(packed: Tensor) -> Tensor:
    """Return the slot of each study, which all its slices have, shape (studies,)."""
    study = packed[:, STUDY].long()
    first = torch.cat([study.new_ones(1, dtype=torch.bool), study[1:] != study[:-1]])
    return packed[first, STUDY_SLOT]


def _softmax_by_study(scores: Tensor, study: Tensor, count: int) -> Tensor:
    """Return weights that add up to 1 over the slices of each study, in each class.

    Source:
        Ilse et al. 2018, arXiv:1802.04712, section 2.4: attention as pooling over the instances of a bag.
    """
    index = study[:, None].expand_as(scores)
    highest = scores.new_full((count, scores.shape[1]), -math.inf)
    highest = highest.scatter_reduce(0, index, scores.detach(), "amax")
    exponential = (scores - highest[study]).exp()
    return exponential / scores.new_zeros(count, scores.shape[1]).index_add(0, study, exponential)[study]


def build_sequence_model(
    config: ModelConfig, *, dimension: int, classes: int, probabilities: int = 0
) -> SequenceClassifier:
    """Make a sequence model with random weights, drawn from torch's global generator.

    Args:
        config: Of the model, with a backbone such as `BiGRU(128,128)`.
        dimension: Of the embeddings.
        classes: Number of logits.
        probabilities: Of a slice beside its embedding.

    Raises:
        ConfigError: If a layer has no units, or those of a transformer differ.
    """
    found = SEQUENCE_NETWORK.fullmatch(config.backbone)
    if found is None:
        raise ConfigError(f"model.backbone: {config.backbone} is no sequence model; give BiGRU(128,128)")
    network, widths = found[1], tuple(int(width) for width in found[2].split(","))
    if 0 in widths or (network == "Transformer" and (len(set(widths)) > 1 or widths[0] % 2)):
        wanted = "layers of one even width" if network == "Transformer" else "layers of at least one unit"
        raise ConfigError(f"model.backbone: {config.backbone} must have {wanted}, such as {network}(128,128)")
    return SequenceClassifier(SliceSequence(network, widths, dimension, probabilities, config.dropout), config, classes)
