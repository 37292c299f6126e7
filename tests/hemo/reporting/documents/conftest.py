"""A trial with a training set whose card has every step."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hemo.config.document import DocumentConfig
from hemo.curation.card import Count, Step, TrainingSetCard, read_card
from hemo.reporting.documents.study import Study, read_study
from hemo.trials.record import TrialRecord, write_training_set_card
from tests.records import TRAINING_SET

Maker = Callable[..., Any]

AUDIT = {
    "linked_patients": 4,
    "equal_pixel_groups": 3,
    "equal_pixel_conflicts": 1,
    "images_without_labels": 6,
    "linked_patients_in_two_splits": 0,
    "equal_pixels_in_two_splits": 0,
    "link_examples": ["patient-7 and patient-8"],
}

STEPS = (("converted", 0, 96), ("labelled", 6, 90), ("clean", 4, 86), ("balance", 6, 80))


def count_of(rows: int) -> Count:
    """Return a count of rows, half of them positive."""
    half = {"any": rows // 2}
    return Count(
        rows=rows,
        patients=rows // 2,
        positives=half,
        blanks={"any": 0},
        patients_with=half,
        patients_without=half,
        grouped_by={"patient": rows},
        pixel_formats={"u12": rows},
    )


@pytest.fixture
def card(make_training_set: Maker) -> TrainingSetCard:
    """Return the card of a made training set, with the steps of a curation."""
    reasons = {"clean": {"blank": 3, "noise": 2}}
    details = {"balance": "train: negatives to positives of any at most 1 : 1"}
    steps = tuple(
        Step(name=name, removed=out, left=count_of(left), detail=details.get(name, ""), reasons=reasons.get(name, {}))
        for name, out, left in STEPS
    )
    config = {"val_fraction": 0.15, "test_fraction": 0.2, "seed": 3, "shards": "/data/doe_john"}
    changes = {"digest": TRAINING_SET, "steps": steps, "audit": AUDIT, "config": config, "split_digest": "5" * 64}
    return read_card(make_training_set()).model_copy(update=changes)


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Study]:
    """Return a function that reads a study from the records below `tmp_path`."""

    def study(**config: Any) -> Study:
        places = {"records": str(tmp_path / "records"), "out": str(tmp_path / "out")}
        return read_study(DocumentConfig.model_validate({**places, "bootstrap_samples": 50, **config}))

    return study


@pytest.fixture
def documented(make_record: Maker, card: TrainingSetCard, tmp_path: Path, read: Maker) -> Callable[..., Study]:
    """Return a function that records a trial on that training set and reads the study."""

    def make(config: dict[str, Any] | None = None, **record: Any) -> Study:
        fields = {"many": True, "patients": {"test": 20}, "positives": {"test": (20,)}, "rows": {"test": 40}}
        fields |= {"versions": {"hemo": "0.1.0"}, "confusion": {"test": (((15, 5), (3, 17)),)}}
        made: TrialRecord = make_record({"name": "mine"}, **{**fields, **record})
        write_training_set_card(str(tmp_path / "records"), card)
        assert made.training_set == card.digest
        return read(**config or {})

    return make
