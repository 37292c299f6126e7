"""What is shown on the terminal."""

import io
from typing import Any

import pyarrow as pa
import pytest
from rich.console import Console, RenderableType

from hemo.corpus.labels import RSNA_CLASSES
from hemo.curation.card import ConversionCounts, Count, Step, TrainingSetCard, grouping_text, synthetic_images
from hemo.curation.print_counts import count_tables, finding_lines, format_table

NOTHING_FOUND = {
    "linked_patients": 0,
    "equal_pixel_conflicts": 0,
    "linked_patients_in_two_splits": 0,
    "equal_pixels_in_two_splits": 0,
    "images_without_labels": 0,
    "labels_without_images": 0,
    "studies_of_several_patients": 0,
}


def count(rows: int, **formats: int) -> Count:
    positives, none = dict.fromkeys(RSNA_CLASSES, rows // 10), dict.fromkeys(RSNA_CLASSES, 0)
    return Count(
        rows=rows,
        patients=rows // 2,
        positives=positives,
        blanks=none,
        patients_with=positives,
        patients_without=positives,
        grouped_by={"patient": rows},
        pixel_formats=formats,
    )


def card_of(**found: Any) -> TrainingSetCard:
    steps = (
        Step(name="converted", removed=0, left=count(752_803, u12=225_598, i16=452_203, u16=75_002)),
        Step(name="labelled", removed=0, left=count(752_803, u12=752_803)),
        Step(name="clean", removed=300_000, left=count(452_803, i16=452_803)),
        Step(name="balance", removed=2_803, left=count(450_000)),
        Step(name="subset", removed=0, left=count(450_000)),
    )
    return TrainingSetCard(
        digest="0123456789abcdef",
        inputs_digest="i",
        config={},
        image={},
        classes=RSNA_CLASSES,
        channels=("brain",),
        dtype="uint8",
        height_px=2,
        width_px=2,
        split="by_image",
        splits={"train": count(1600, u12=1600), "val": count(100, u12=100), "test": count(50, u12=50)},
        conversion=ConversionCounts(files=9, ignored_files=0, rows=9, rejects=0, reject_reasons={}, flags={}),
        steps=steps,
        findings=(),
        audit=NOTHING_FOUND | found,
    )


def lines_of(table: RenderableType, width: int = 80) -> list[str]:
    screen = Console(file=io.StringIO(), width=width)
    screen.print(table)
    return [line.rstrip() for line in screen.file.getvalue().splitlines()]


def test_each_step_and_each_split_is_a_column():
    lines = [line.split() for line in lines_of(count_tables(card_of()))]
    cut = lines.index(["split", "by_image"])
    after, splits = lines[:cut], lines[cut:]
    for line in (
        ["converted", "labelled", "clean", "balance", "subset"],
        ["images", "752,803", "752,803", "452,803", "450,000", "450,000"],
        ["patients", "376,401", "376,401", "226,401", "225,000", "225,000"],
        ["subdural", "75,280", "75,280", "45,280", "45,000", "45,000"],
        ["format", "u12", "225,598", "752,803", "0", "0", "0"],
        ["removed", "0", "0", "300,000", "2,803", "0"],
    ):
        assert line in after
    for line in (["train", "val", "test"], ["epidural", "160", "10", "5"], ["format", "u12", "1,600", "100", "50"]):
        assert line in splits


@pytest.mark.parametrize("width", [80, 120])
def test_six_classes_five_steps_and_three_formats_fit_a_terminal_uncut(width):
    lines = lines_of(count_tables(card_of()), width)
    assert lines == lines_of(count_tables(card_of()), 1000)
    assert not any("…" in line for line in lines)


def test_positives_are_shown_as_a_share_of_their_pixel_format():
    formats = {
        "i16": {name: {"positive": 90, "labelled": 180} for name in RSNA_CLASSES},
        "u12": {name: {"positive": 0, "labelled": 0} for name in RSNA_CLASSES},
    }
    lines = [line.split() for line in lines_of(format_table(card_of(positives_by_pixel_format=formats)))]
    assert ["any", "90", "of", "180", "(50.0%)", "none"] in lines


def test_blank_labels_and_images_without_patient_are_rows_where_there_are_any():
    card = card_of()
    train = card.splits["train"].model_copy(
        update={"blanks": card.splits["train"].blanks | {"any": 20}, "grouped_by": {"patient": 1200, "series": 400}}
    )
    card = card.model_copy(update={"splits": {**card.splits, "train": train}})
    lines = [line.split() for line in lines_of(count_tables(card))]
    assert ["any", "blank", "20", "0", "0"] in lines
    assert ["by", "series", "400", "0", "0"] in lines
    assert not [line for line in lines if line[:2] in (["epidural", "blank"], ["by", "study"], ["by", "image"])]
    assert list(finding_lines(card)) == ["400 of 1,750 images have no patient id, their patient is their series (400)"]


def test_images_without_any_id_are_said_to_count_as_patients():
    assert grouping_text({"patient": 1, "study": 2, "image": 3}) == (
        "5 of 6 images have no patient id, their patient is their study (2), image (3); "
        "images of one patient may count as several patients"
    )
    assert grouping_text({"patient": 6}) == ""


def test_what_was_not_found_is_not_mentioned():
    assert list(finding_lines(card_of())) == []


def test_images_of_the_phantom_are_known_by_their_scanner():
    assert synthetic_images(pa.array(["hemo synthetic phantom", None, "GE MEDICAL SYSTEMS"])) == 1
    assert synthetic_images(pa.array([], pa.string())) == 0
    card = card_of().model_copy(update={"synthetic_images": 1200})
    assert list(finding_lines(card)) == [
        "1,200 images are synthetic, made by `hemo phantom`: the metrics show that the steps work, and nothing about "
        "patients"
    ]


def test_each_finding_is_a_line_with_its_count():
    found = {
        "linked_patients": 1200,
        "linked_groups": 500,
        "largest_group_patients": 7,
        "equal_pixel_conflicts": 838,
        "equal_pixel_groups": 4073,
        "linked_patients_in_two_splits": 31,
        "equal_pixels_in_two_splits": 12,
        "images_without_labels": 3,
        "labels_without_images": 4,
        "studies_of_several_patients": 2,
    }
    assert list(finding_lines(card_of(**found))) == [
        "2 studies and series have several patient ids: "
        "these count as one patient only where images without id link them",
        "1,200 patients are linked by equal pixels, in 500 groups of up to 7",
        "838 of 4,073 groups of equal pixels have conflicting labels",
        "LEAK: 31 patients (linked ones count as one) are in two splits, as by_image allows",
        "LEAK: 12 groups of equal pixels are in two splits, as by_image allows",
        "3 images have no label and are left out",
        "4 labels have no image",
    ]
