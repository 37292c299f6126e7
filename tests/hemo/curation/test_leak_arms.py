"""An arm of `leaks` as rows and card of another split."""

from typing import Any

import numpy as np
import pytest

from hemo.config.leaks import LeaksConfig
from hemo.curation.card import Count, TrainingSetCard
from hemo.curation.leak_arms import Arm, arm_card, arm_rows, make_arms, require_patients
from hemo.curation.leak_splits import HOLDOUT, UNUSED
from hemo.curation.split import TEST, TRAIN, VAL
from hemo.errors import ConfigError
from tests.hemo.curation.test_leak_splits import corpus, pool_of
from tests.training_sets import CONVERSION

CONFIG = LeaksConfig(training_set="/set", out="/out")
EMPTY = Count(rows=0, patients=0, positives={}, blanks={}, patients_with={}, patients_without={}, grouped_by={})


def base(**changes: Any) -> TrainingSetCard:
    fields = {
        "digest": "feedfacefeedface",
        "inputs_digest": "0",
        "config": {},
        "image": {"corpus": "rsna"},
        "classes": ("any", "subdural"),
        "channels": ("brain",),
        "dtype": "uint8",
        "height_px": 8,
        "width_px": 8,
        "split": "by_patient",
        "splits": {},
        "conversion": CONVERSION,
        "steps": (),
        "audit": {"patients": 3, "linked_patients_in_two_splits": 9},
        "findings": (),
        "reductions": ("train limited to 9 of 18 images",),
    }
    return TrainingSetCard(**{**fields, **changes})


def test_arms_are_the_rules_that_leak_then_the_ends_with_shuffled_labels() -> None:
    names = [arm.name for arm in make_arms(CONFIG, corpus(), ("by_study",))]
    assert names == ["by_image", "by_patient_id", "by_patient", "by_image_shuffled", "by_patient_shuffled"]
    plain = CONFIG.model_copy(update={"shuffled_labels": False})
    assert [arm.name for arm in make_arms(plain, corpus(), ("by_image", "by_study"))] == ["by_patient_id", "by_patient"]


def test_the_leakiest_rule_that_is_left_is_shuffled_too() -> None:
    """Of studies of one image each, the split by image is that by study."""
    arms = make_arms(CONFIG, corpus(), ("by_image",))
    assert [arm.name for arm in arms if arm.shuffled] == ["by_study_shuffled", "by_patient_shuffled"]
    assert (arms[0].rule, arms[0].split.tolist()) == ("by_study", arms[3].split.tolist())


def test_shuffled_arms_have_the_same_images_and_other_labels() -> None:
    arms = {arm.name: arm for arm in make_arms(CONFIG, corpus(), ())}
    for rule in ("by_image", "by_patient"):
        true, shuffled = arms[rule], arms[f"{rule}_shuffled"]
        assert (true.split == shuffled.split).all()
        assert (true.labels != shuffled.labels).sum() > 50
        assert true.labels.sum() == pytest.approx(shuffled.labels.sum(), abs=10)


def test_rows_name_the_images_of_the_base_and_leave_out_what_is_not_used() -> None:
    pool = pool_of([{"any": None}, {"any": 1}, {"any": 0}, {"any": 1}, {"any": 0}, {"any": 0}])
    split = np.array([TRAIN, HOLDOUT, VAL, UNUSED, TEST], np.int8)
    rows = arm_rows(pool, Arm("by_image", False, split, pool.labels), ("any",))
    assert rows.to_pydict() == {
        "split": ["train", "holdout", "val", "test"],
        "row": [1, 2, 3, 5],
        "label_any": [1, 0, 1, 0],
    }


def test_the_card_counts_each_split_and_names_its_base() -> None:
    """The first two images are of patient A, in train; the third has no patient but its study."""
    pool = pool_of(
        [
            {"patient": "A", "any": 1},
            {"patient": "A"},
            {"patient": "study S", "study": "S", "any": 1},
            {"patient": "image I0003"},
        ]
    )
    split = np.array([TRAIN, TRAIN, TEST, HOLDOUT], np.int8)
    arm = Arm("by_image", True, split, pool.labels)
    card = arm_card(base(), CONFIG, pool, arm, ("any",))
    assert card.base is not None
    assert (card.base.location, card.base.digest) == ("/set", "feedfacefeedface")
    assert (card.split, card.classes) == ("by_image", ("any",))
    counts = {name: (count.rows, count.patients, count.positives["any"]) for name, count in card.splits.items()}
    assert counts == {"train": (2, 1, 1), "val": (0, 0, 0), "test": (1, 1, 1), "holdout": (1, 1, 0)}
    assert card.grouped_by == {"patient": 2, "study": 1, "series": 0, "image": 1}
    assert card.reductions == (
        "train limited to 9 of 18 images",
        "1 of 4 images are held out of all splits",
        "labels are shuffled between patients",
    )
    assert card.audit["patients"] == 3
    assert card.audit["linked_patients_in_two_splits"] == 0


def test_the_card_counts_what_an_arm_tears() -> None:
    """P0 and P1 are one linked patient: in train and val; the equal images of both are in val and in the hold-out."""
    images = [{"patient": f"P{n // 2}", **({"pixels": b"x" * 16} if n in (1, 2) else {})} for n in range(6)]
    pool = pool_of(images)
    for split, torn in (
        ([TRAIN, VAL, HOLDOUT, TRAIN, TEST, TEST], (1, 0)),
        ([TRAIN, VAL, TEST, VAL, TEST, VAL], (2, 1)),
    ):
        card = arm_card(base(), CONFIG, pool, Arm("by_image", False, np.array(split, np.int8), pool.labels), ("any",))
        found = card.audit["linked_patients_in_two_splits"], card.audit["equal_pixels_in_two_splits"]
        assert found == torn


def test_other_rows_or_labels_are_another_training_set() -> None:
    pool = pool_of([{"any": n % 2} for n in range(4)])
    split = np.array([TRAIN, VAL, TEST, HOLDOUT], np.int8)
    arms = [
        Arm("by_image", False, split, pool.labels),
        Arm("by_image", False, split[::-1].copy(), pool.labels),
        Arm("by_image", True, split, 1 - pool.labels),
    ]
    digests = [arm_card(base(), CONFIG, pool, arm, ("any",)).digest for arm in arms]
    assert len(set(digests)) == 3
    assert arm_card(base(), CONFIG, pool, arms[0], ("any",)).digest == digests[0]
    assert arm_card(base(digest="0" * 16), CONFIG, pool, arms[0], ("any",)).digest != digests[0]


def test_linked_patients_count_once() -> None:
    """Eleven patients in the hold-out, of whom two have an image in common, are ten; twelve linked in pairs are six."""
    for linked, refused in ((2, False), (12, True)):
        images = [{"patient": f"P{n}", "any": n // 2 % 2} for n in range(23 if linked == 2 else 24)]
        for n in range(linked):
            images[n]["pixels"] = f"{n // 2:016d}".encode()
            images[n]["any"] = n // 4 % 2
        pool = pool_of(images)
        held_out = len(images) - 12
        arm = Arm("by_patient", False, np.repeat([HOLDOUT, TEST], [held_out, 12]).astype(np.int8), pool.labels)
        if refused:
            with pytest.raises(ConfigError, match=r"holdout has too few patients to tell models apart by: 6 \(of at l"):
                require_patients(pool, arm, ("any",))
        else:
            require_patients(pool, arm, ("any",))
