"""Texts to multi-hot rows."""

import numpy as np
import pytest

from hemo.imaging.image import Reject
from hemo.imaging.settings import ImageSettings
from hemo.imaging.word_indices import images_of_word_indices, multi_hot
from tests.word_files import texts_npz

SETTINGS = ImageSettings(corpus="word_indices", side_px=1, words=5)


def test_a_word_that_occurs_is_255_and_rare_words_share_the_first_column():
    """Words 1 and 3 occur, 3 twice; 5 and 900 are none of the 5 columns."""
    assert multi_hot(np.array([3, 1, 3]), 5).tolist() == [[[0, 255, 0, 255, 0]]]
    assert multi_hot(np.array([5, 900, 4]), 5).tolist() == [[[255, 0, 0, 0, 255]]]
    assert multi_hot(np.array([], np.int64), 5).tolist() == [[[0, 0, 0, 0, 0]]]


def test_each_text_is_an_image_with_its_class():
    one, empty, again = images_of_word_indices(texts_npz([[1, 2, 9], [], [9, 2, 1]], [45, 0, 3]), SETTINGS)
    assert (one.pixels.shape, one.pixels.dtype, one.pixels.tolist()) == ((1, 1, 5), np.uint8, [[[255, 255, 255, 0, 0]]])
    assert [image.source_class for image in (one, empty, again)] == ["45", "0", "3"]
    assert [image.source_cols for image in (one, empty, again)] == [3, 0, 3]
    assert [image.flags for image in (one, empty, again)] == [(), ("blank",), ()]
    assert [image.frame for image in (one, empty, again)] == [0, 1, 2]
    assert one.pixel_digest == again.pixel_digest != empty.pixel_digest


@pytest.mark.parametrize("text", [[1, -1], [2**31], [[1]], (1, 2), None, [True]])
def test_a_text_that_is_no_list_of_word_numbers_is_a_reject_of_its_own(text):
    one, bad, other = images_of_word_indices(texts_npz([[1], text, [2]], [0, 1, 2]), SETTINGS)
    assert isinstance(bad, Reject)
    assert (bad.code, bad.frame) == ("not_word_indices", 1)
    assert [image.source_class for image in (one, other)] == ["0", "2"]


def test_texts_and_labels_of_other_numbers_are_one_reject():
    (reject,) = images_of_word_indices(texts_npz([[1], [2]], [0]), SETTINGS)
    assert (reject.code, reject.detail) == ("not_word_indices", "2 texts in x, 1 labels in y")
    (reject,) = images_of_word_indices(texts_npz([], []), SETTINGS)
    assert reject.detail == "it holds no texts"
