import numpy as np
import pytest

from hemo.config.trial import ModelConfig, SeriesConfig, TrialConfig
from hemo.corpus.labels import RSNA_CLASSES
from hemo.models.sequence import PACKED_COLUMNS
from hemo.training.data.made_up import noise_images, noise_studies

SEQUENCE = ModelConfig(backbone="BiGRU(4)", series=SeriesConfig(embeddings="none"))


def test_images_have_every_label_on_every_other_image():
    """Six classes of RSNA, image 0: 0 1 0 1 0 1; a binary task has its target alone."""
    splits = noise_images(TrialConfig(task="multi_label"), 4, shape=(3, 8, 6))
    assert splits.classes == RSNA_CLASSES
    assert splits.train.source.images.shape == (4, 3, 8, 6)
    np.testing.assert_array_equal(splits.train.labels[:2], [[0, 1, 0, 1, 0, 1], [1, 0, 1, 0, 1, 0]])
    (pixels,) = splits.train.source.images.batches([np.array([0, 3])])
    assert pixels.dtype == np.uint8
    assert len(np.unique(pixels)) > 100
    binary = noise_images(TrialConfig(target="NORMAL"), 3, shape=(1, 8, 8))
    assert binary.classes == ("NORMAL",)
    assert binary.train.labels.ravel().tolist() == [0, 1, 0]


def test_exclusive_classes_are_one_an_image():
    labels = noise_images(TrialConfig(task="multi_class"), 7, shape=(1, 8, 8)).epoch.labels
    assert labels.argmax(axis=1).tolist() == [0, 1, 2, 3, 4, 5, 0]
    assert (labels.sum(axis=1) == 1).all()


def test_studies_differ_in_length_about_the_mean():
    """Three studies of 6 slices on average: 4, 6 and 8; each is a block, with a row for the study behind its slices."""
    config = TrialConfig(task="multi_label", model=SEQUENCE)
    splits = noise_studies(config, 3, slices_per_study=6, dimension=5, probabilities=2)
    images = splits.epoch.source.images
    assert images.block_ends.tolist() == [5, 12, 21]
    assert (images.dimension, images.probabilities, images.shape) == (5, 2, (21, 7))
    assert (len(splits.epoch), len(splits.studies["train"])) == (18, 3)
    (packed,) = images.batches([np.arange(5)])
    assert packed.shape == (4, PACKED_COLUMNS + 7)
    assert packed[:, 2].tolist() == [0, 5, 10, 15], "position in mm"


@pytest.mark.parametrize("labels", ["slice", "study"])
def test_labels_of_studies_alone_make_studies_the_examples(labels):
    config = TrialConfig(model=SEQUENCE.model_copy(update={"series": SeriesConfig(embeddings="none", labels=labels)}))
    splits = noise_studies(config, 2, slices_per_study=3, dimension=2, probabilities=0)
    assert (len(splits.epoch), sorted(splits.studies)) == ((6, ["train", "val"]) if labels == "slice" else (2, []))
