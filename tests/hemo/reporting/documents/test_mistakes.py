"""The most confident wrong predictions, with their images."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from hemo.curation.card import read_card
from hemo.errors import ConfigError, SourceError
from hemo.reporting.documents.mistakes import confident_mistakes, mistakes_page, read_images, thumbnail
from hemo.trials.record import read_predictions, write_record, write_training_set_card


@pytest.fixture
def study(make_training_set, make_record, read, tmp_path):
    """A trial that errs on three of sixteen test images of a made training set, with probabilities .9, .7 and .6."""
    folder, records = make_training_set(), str(tmp_path / "records")
    card = read_card(folder)
    record = make_record({"name": "mine"}, many=True, training_set=card.digest)
    table = read_predictions(records, record.digest).filter([True] * 40 + [True] * 16 + [False] * 24)
    ids = [f"i{row:02d}" for row in range(40)] + [f"test-{row:03d}" for row in range(16)]
    logits = [[0.0]] * 40 + [[5.0 if row % 2 == 0 else -5.0] for row in range(16)]
    for row, probability in {2: 0.1, 5: 0.7, 8: 0.4}.items():
        logits[40 + row] = [float(np.log(probability / (1 - probability)))]
    table = table.set_column(1, "image_id", [ids]).set_column(5, "logits", [logits])
    write_record(records, record, table)
    write_training_set_card(records, card)
    return read(), records, folder


def test_the_most_confident_come_first_with_label_and_probability(study):
    read, records, _ = study
    found = [
        (each.image_id, each.label, each.predicted) for each in confident_mistakes(read.record, read.scores, records, 9)
    ]
    assert found == [("test-002", "any", "no any"), ("test-005", "no any", "any"), ("test-008", "any", "no any")]
    probabilities = [each.probability for each in confident_mistakes(read.record, read.scores, records, 2)]
    assert probabilities == pytest.approx([0.9, 0.7], abs=1e-6)


def test_the_page_holds_the_pictures_and_loads_nothing(study):
    read, records, folder = study
    page = mistakes_page(read, records, folder, 2, 64)
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    sizes = [Image.open(io.BytesIO(base64.b64decode(picture))).size for picture in pictures]
    assert (sizes, page.count("<img")) == ([(64, 64), (64, 64)], 2)
    assert "default-src 'none'" in page
    assert "label any<br>predicted no any, probability 0.900" in page


def test_it_shows_the_image_that_was_tested(study):
    _, _, folder = study
    card = read_card(folder)
    images = read_images(folder, {"test-005", "test-012"}, card)
    bright = {name: int(image[0, 4:10, 4:10].mean()) > 100 for name, image in images.items()}
    assert bright == {"test-005": True, "test-012": False}
    with pytest.raises(SourceError, match="lacks image test-999, which was tested"):
        read_images(folder, {"test-999"}, card)


def test_pseudonyms_are_not_shown(study):
    read, records, folder = study
    keyed = read.card.model_copy(update={"image": {**read.card.image, "key_fingerprint": "0123"}})
    object.__setattr__(read, "card", keyed)
    with pytest.raises(ConfigError, match=r"mistakes: the ids of .* are pseudonyms"):
        mistakes_page(read, records, folder, 2, 64)


def test_a_thumbnail_keeps_the_aspect():
    picture = thumbnail(np.zeros((3, 10, 40), np.uint8), 64)
    content = base64.b64decode(picture.removeprefix("data:image/png;base64,"))
    assert Image.open(io.BytesIO(content)).size == (64, 16)


def test_a_trial_of_studies_has_no_images_to_show(make_sequence_record, card, read, tmp_path):
    make_sequence_record("study")
    write_training_set_card(str(tmp_path / "records"), card)
    with pytest.raises(ConfigError, match=r"mistakes: sequence predicts studies, not images; leave out --mistakes"):
        mistakes_page(read(), str(tmp_path / "records"), "set", 2, 64)
