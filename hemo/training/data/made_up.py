"""Made-up examples of a trial, in memory: images of noise, or studies of noise, to time its steps without a corpus."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hemo.config.trial import TrialConfig
from hemo.corpus.labels import RSNA_CLASSES
from hemo.training.data.dataset import ResidentImages
from hemo.training.data.examples import Examples, ImageSet, Splits
from hemo.training.data.studies import studies_in_order

SPACING_MM = 5.0

SHORTEST, LONGEST = 2 / 3, 4 / 3
"""Slices of a study over their mean: studies have lengths evenly spread between these."""


def noise_images(config: TrialConfig, count: int, *, shape: tuple[int, int, int]) -> Splits:
    """Return images of noise as train and as validation, each class on every other of them.

    Args:
        config: Of the trial: a binary task has its target, others have the classes of RSNA 2019.
        count: Images, two at least.
        shape: Channels, height_px and width_px.
    """
    pixels = np.random.default_rng(0).integers(0, 256, (count, *shape), np.uint8)
    images = ImageSet(
        images=ResidentImages(pixels, np.array([count], np.intp)),
        labels=_labels(config, count),
        image_id=np.arange(count).astype(np.str_),
        patient=np.arange(count).astype(np.str_),
        pixel_format=np.full(count, ""),
    )
    return _splits(config, Examples(images, np.arange(count, dtype=np.intp), images.labels, 0), {})


def noise_studies(
    config: TrialConfig, count: int, *, slices_per_study: int, dimension: int, probabilities: int
) -> Splits:
    """Return studies of one series each, with vectors of noise, as train and as validation.

    Args:
        config: Of a sequence model's trial.
        count: Studies, two at least.
        slices_per_study: On average; lengths are spread evenly between `SHORTEST` and `LONGEST` times as many.
        dimension: Of the embeddings.
        probabilities: Of a slice, behind its embedding.
    """
    lengths = np.linspace(SHORTEST * slices_per_study, LONGEST * slices_per_study, count).round().astype(int)
    lengths = np.maximum(lengths, 1)
    slices, study = int(lengths.sum()), np.repeat(np.arange(count), lengths)
    vectors = np.random.default_rng(0).random((slices, dimension + probabilities), np.float32)
    names = pa.array(study.astype(np.str_))
    rows = pa.table(
        {
            "image_id": pa.array(np.arange(slices).astype(np.str_)),
            "patient": names,
            "pixel_format": pa.array(np.full(slices, "")),
            "study_name": names,
            "series_name": names,
            "position_mm": pa.array(SPACING_MM * np.arange(slices), pa.float32()),
        }
    )
    source = studies_in_order(rows, _labels(config, slices), vectors, probabilities)
    everything = Examples(source, np.arange(len(source.labels), dtype=np.intp), source.labels, 0)
    if config.model.series.labels == "study":
        return _splits(config, everything.of_studies(True), {})
    studies = everything.of_studies(True)
    return _splits(config, everything.of_studies(False), dict.fromkeys(("train", "val"), studies))


def _labels(config: TrialConfig, rows: int) -> NDArray[np.uint8]:
    """Return labels in turn, (rows, classes): with one class an image that of its number, else every other class."""
    classes = len(classes_of(config))
    numbers, columns = np.arange(rows)[:, None], np.arange(classes)
    positive = numbers % classes == columns if config.task == "multi_class" else (numbers + columns) % 2 == 1
    return np.asarray(positive, np.uint8)


def classes_of(config: TrialConfig) -> tuple[str, ...]:
    """Return the classes of made-up labels: the target of a binary task, else those of RSNA 2019."""
    return (config.target,) if config.task == "binary" else RSNA_CLASSES


def _splits(config: TrialConfig, examples: Examples, studies: dict[str, Examples]) -> Splits:
    """Return the same examples as train and validation."""
    population = np.full(examples.labels.shape[1], 0.5)
    return Splits(classes_of(config), examples, examples, None, population, "", examples, studies)
