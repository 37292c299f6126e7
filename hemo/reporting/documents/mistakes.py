"""The most confident wrong predictions of a trial on test, as one HTML page with their images."""

import base64
import io
from collections.abc import Collection
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
from jinja2 import Environment, StrictUndefined
from numpy.typing import NDArray
from PIL import Image

from hemo.config.trial import IMAGES
from hemo.curation.card import TrainingSetCard
from hemo.errors import ConfigError, SourceError
from hemo.imaging.image import displayed
from hemo.reporting.documents.model_facts import wrong_predictions
from hemo.reporting.documents.study import Study
from hemo.shards.reader import CURATE_AGAIN, checked_parquet, images_of
from hemo.shards.schema import IMAGE
from hemo.storage import join, list_files
from hemo.trials.predictions import Scores, split_rows
from hemo.trials.record import TrialRecord, read_predictions, title_of

TEMPLATE = "mistakes.html.jinja"


@dataclass(frozen=True)
class Mistake:
    """A wrong prediction of one image."""

    image_id: str
    label: str
    predicted: str
    probability: float  # that the model gave to its answer


def mistakes_page(study: Study, records: str, training_set: str, count: int, thumbnail_px: int) -> str:
    """Return a self-contained page with the most confident mistakes; it loads nothing from a server.

    Args:
        study: The trial, with the card of its training set.
        records: Folder of records with the predictions.
        training_set: Where the images are.
        count: Mistakes to show at most.
        thumbnail_px: Longest side of an image.

    Raises:
        ConfigError: If ids are pseudonyms, the trial predicts studies, or test was not read.
        SourceError: If predictions or images cannot be read.
    """
    if study.card is None or not study.card.ids_are_public:
        raise ConfigError(
            f"mistakes: the ids of {training_set} are pseudonyms: its images are of patients who are not public, and a "
            "page with them is easily passed on; leave out --mistakes, and look at such images with `hemo explain`"
        )
    if study.record.config.row_noun != IMAGES:
        raise ConfigError(
            f"mistakes: {title_of(study.record)} predicts studies, not images; leave out --mistakes, and look at "
            "studies with `hemo explain`"
        )
    if study.scores is None:
        raise ConfigError(f"mistakes: test was not read for {title_of(study.record)}; give another trial")
    found = confident_mistakes(study.record, study.scores, records, count)
    images = read_images(training_set, {mistake.image_id for mistake in found}, study.card)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files("hemo.reporting.documents").joinpath(TEMPLATE).read_text(encoding="utf-8"))
    shown = [(mistake, thumbnail(images[mistake.image_id], thumbnail_px)) for mistake in found]
    return template.render(title=title_of(study.record), digest=study.record.digest, mistakes=shown)


def confident_mistakes(record: TrialRecord, scores: Scores, records: str, count: int) -> list[Mistake]:
    """Return the wrong predictions on test to which the model gave the highest probabilities, the highest first.

    Args:
        record: The trial.
        scores: Its predictions on test.
        records: Folder of records with the predictions.
        count: Mistakes at most.

    Raises:
        SourceError: If predictions cannot be read.
    """
    classes = record.classes
    ids = split_rows(read_predictions(records, record.digest), "test")["image_id"].to_pylist()
    wrong, sure = wrong_predictions(scores)
    rows, columns = np.nonzero(wrong)
    order = np.lexsort((columns, rows, -sure[rows, columns]))[:count]
    found = []
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if scores.exclusive:
            label, predicted = (classes[int(each[row].argmax())] for each in (scores.labels, scores.predicted))
        else:
            label, predicted = (
                _word(classes[column], bool(each[row, column])) for each in (scores.labels, scores.predicted)
            )
        found.append(Mistake(ids[row], label, predicted, float(sure[row, column])))
    return found


def _word(name: str, present: bool) -> str:
    return name if present else f"no {name}"


def read_images(training_set: str, image_ids: Collection[str], card: TrainingSetCard) -> dict[str, NDArray[np.uint8]]:
    """Return images of test by their ids; of the parts only row groups that have some are read.

    Raises:
        SourceError: If a part is damaged, or lacks an image.
    """
    shape, found = card.image_shape, dict[str, NDArray[np.uint8]]()
    folder = join(training_set, "test")
    for name in (name for name in list_files(folder) if name.endswith(".parquet")):
        with checked_parquet(join(folder, name), CURATE_AGAIN) as file:
            for group in range(file.num_row_groups):
                names = file.read_row_group(group, columns=["image_id"])["image_id"].to_pylist()
                wanted = [row for row, image_id in enumerate(names) if image_id in image_ids]
                if wanted:
                    images = images_of(file.read_row_group(group, columns=[IMAGE])[IMAGE], shape)
                    found.update({names[row]: images[row] for row in wanted})
    if missing := set(image_ids) - set(found):
        raise SourceError(f"{folder} lacks image {min(missing)}, which was tested; {CURATE_AGAIN}")
    return found


def thumbnail(image: NDArray[np.uint8], side_px: int) -> str:
    """Return an image, (channels, height_px, width_px), as the data URI of a PNG whose longer side is `side_px`."""
    picture = Image.fromarray(np.ascontiguousarray(displayed(image)))
    scale = side_px / max(picture.size)
    sides = [max(1, round(side * scale)) for side in picture.size]
    content = io.BytesIO()
    picture.resize((sides[0], sides[1])).save(content, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
