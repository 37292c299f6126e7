"""Leaks as metrics, table and sentences, from predictions that were made up."""

import csv
import io
from typing import Any

import numpy as np
import pytest

from hemo.errors import ConfigError, SourceError
from hemo.reporting.leak_table import (
    Estimate,
    LeakRow,
    LeaksCard,
    MetricLeak,
    SeedScores,
    conclusions,
    csv_text,
    leak_table,
    markdown,
    measured,
    read_leaks,
)
from hemo.stats.auroc import auroc
from hemo.stats.intervals import proportion_interval, unpaired_difference
from hemo.storage import write_json
from hemo.trials.predictions import Scores

COUNTS = {"train": 500, "val": 100, "test": 200, "holdout": 210}
PATIENTS = {"train": 50, "val": 40, "test": 30, "holdout": 31}


def scores_of(quality: float, seed: int, patients: int = 30) -> Scores:
    """Predictions of images of patients with two each, the more right the higher `quality`."""
    generator = np.random.default_rng(seed)
    labels = np.tile([0, 1], patients)
    logits = (quality * (2 * labels - 1) + generator.normal(0, 1, 2 * patients)).astype(np.float32)[:, None]
    return Scores(
        patients=np.repeat(np.arange(patients), 2),
        labels=labels[:, None].astype(np.uint8),
        scores=logits,
        probabilities=1 / (1 + np.exp(-logits.astype(np.float64))),
        predicted=logits > 0,
        log_losses=np.zeros((2 * patients, 1)),
        pixel_formats=np.full(2 * patients, "u8"),
        exclusive=False,
        images="",
    )


def leak(own: tuple[float, float, float], unseen: tuple[float, float, float], off: tuple[float, float, float]) -> Any:
    values = [Estimate(value=value, low=low, high=high) for low, value, high in (own, unseen, off)]
    return MetricLeak(own=values[0], unseen=values[1], leak=values[2])


LEAKY = leak((0.93, 0.95, 0.97), (0.80, 0.85, 0.89), (0.054, 0.10, 0.153))
SMALL = leak((0.83, 0.88, 0.92), (0.80, 0.85, 0.89), (-0.031, 0.03, 0.089))
CHANCE = leak((0.40, 0.49, 0.58), (0.42, 0.52, 0.61), (-0.16, -0.03, 0.10))
MEMORY = leak((0.71, 0.80, 0.86), (0.42, 0.52, 0.61), (0.16, 0.28, 0.40))


def row(rule: str, metric: MetricLeak, *, shuffled: bool = False, **changes: Any) -> LeakRow:
    fields = {"images": COUNTS, "patients": PATIENTS, "seeds": (0,), "auroc": metric, "accuracy": metric}
    return LeakRow(rule=rule, shuffled=shuffled, **{**fields, **changes})


ROWS = [
    LeakRow(rule="by_study", reason="no image has a study"),
    row("by_image", LEAKY, patients_of_train=28),
    row("by_patient", SMALL),
    row("by_image", MEMORY, shuffled=True, patients_of_train=28),
    row("by_patient", CHANCE, shuffled=True),
]


def test_a_leak_is_own_minus_unseen_with_the_interval_of_both() -> None:
    own, unseen = scores_of(2.0, 0), scores_of(0.5, 1, patients=40)
    found = measured([SeedScores(own, unseen)])
    areas = [auroc(side.scores, side.labels, side.patients) for side in (own, unseen)]
    intervals = [area.interval() for area in areas if area]
    assert found["auroc"].own.value == intervals[0].value
    assert (found["auroc"].unseen.low, found["auroc"].unseen.high) == intervals[1].ends
    expected = unpaired_difference(*intervals)
    assert (found["auroc"].leak.low, found["auroc"].leak.high) == pytest.approx(expected.ends)
    hits = [side.hits.ravel() for side in (own, unseen)]
    assert found["accuracy"].leak.value == pytest.approx(hits[0].mean() - hits[1].mean())
    assert found["accuracy"].own.low == proportion_interval(hits[0], own.patients).ends[0]


def test_several_seeds_are_means_whose_variance_widens_the_leak() -> None:
    unseen = scores_of(0.5, 9)
    seeds = [SeedScores(scores_of(quality, 0), unseen) for quality in (0.6, 1.0, 2.0)]
    each = [measured([seed])["auroc"] for seed in seeds]
    found = measured(seeds)["auroc"]
    assert found.own.value == pytest.approx(np.mean([one.own.value for one in each]))
    same = measured([seeds[1]] * 3)["auroc"]
    assert found.leak.high - found.leak.low > 1.5 * (same.leak.high - same.leak.low)
    spread = np.std([one.leak.value for one in each], ddof=1) / np.sqrt(3) * 4.3027  # Student's t of 2 degrees
    assert found.leak.high - found.leak.value > spread


def test_images_of_one_label_have_no_metrics() -> None:
    one = scores_of(1.0, 0).where(np.tile([True, False], 30))
    assert measured([SeedScores(one, scores_of(1.0, 1))]) == {"auroc": None, "accuracy": None}


def test_the_table_has_every_split_and_both_metrics() -> None:
    table = leak_table(ROWS)
    assert table.rows[0] == ("by study", "studies of one patient on both sides", *["-"] * 9)
    assert table.rows[1] == (
        "by image",
        "images of one patient on both sides",
        "500 (50)",
        "200 (30)",
        "28 of 30",
        *["0.950 (0.930-0.970)", "0.850 (0.800-0.890)", "+10.0 (+5.4 to +15.3)"] * 2,
    )
    assert table.rows[2][0] == "by patient, duplicates linked"
    assert table.rows[3][0] == "by image, labels shuffled"
    assert "by study: not measured, no image has a study." in table.notes
    assert any("210 images of 31 linked patients" in note for note in table.notes)
    assert "One training each: what another seed would give is in no interval." in table.notes
    several = leak_table([row("by_image", LEAKY, seeds=(0, 1, 2))]).notes
    assert any("a leak's interval includes their variance" in note for note in several)


def test_sentences_say_what_each_leak_is_worth_and_what_was_not_shown() -> None:
    assert conclusions(ROWS) == (
        "Split by image, the metrics are off by +10.0 (+5.4 to +15.3) points of AUROC and +10.0 (+5.4 to +15.3) points "
        "of accuracy (95 %): more than zero.",
        "Split by patient, duplicates linked, which should be off by nothing: +3.0 (-3.1 to +8.9) points of AUROC and "
        "+3.0 (-3.1 to +8.9) points of accuracy: no leak is left that this can show.",
        "With labels shuffled, split by image: AUROC 0.800 (0.710-0.860), +28.0 (+16.0 to +40.0) points from that of "
        "unseen patients: the model remembers patients.",
        "With labels shuffled between patients a clean split has AUROC 0.490 (0.400-0.580): 0.5 is within.",
    )
    (small,) = conclusions([row("by_image", SMALL)])
    assert small.endswith("not shown to differ from zero.")
    (half,) = conclusions([row("by_image", LEAKY, accuracy=SMALL)])
    assert half.endswith(" (95 %): more than zero for AUROC, not shown to differ from zero for accuracy.")
    (odd,) = conclusions([row("by_patient", MEMORY, shuffled=True)])
    assert odd.endswith("0.5 is NOT within: something beside labels leaks.")
    (unsure,) = conclusions([row("by_image", SMALL, shuffled=True)])
    assert unsure.endswith("no memory of patients is shown.")
    (worse,) = conclusions([row("by_patient", LEAKY)])
    assert worse.endswith("its own test differs from other patients, look why.")


def test_metrics_without_interval_say_why() -> None:
    few = Estimate(value=0.9, reason="9 patients, at least 10 are needed")
    without = MetricLeak(own=few, unseen=few, leak=Estimate(value=0.04, reason=few.reason))
    table = leak_table([row("by_image", without)])
    assert table.rows[0][5:8] == ("0.90", "0.90", "+4.0")
    assert "No interval: 9 patients, at least 10 are needed." in table.notes
    (sentence,) = conclusions([row("by_image", without)])
    assert sentence.endswith(" (95 %): no interval.")
    (clean,) = conclusions([row("by_patient", without)])
    assert clean.endswith("+4.0 points of AUROC and +4.0 points of accuracy: no interval.")
    (memory,) = conclusions([row("by_image", without, shuffled=True)])
    assert memory.endswith("+4.0 points from that of unseen patients: no interval.")
    (chance,) = conclusions([row("by_patient", without, shuffled=True)])
    assert chance.endswith("a clean split has AUROC 0.90: no interval.")
    assert few.holds(0.9) is None


def test_a_negative_leak_is_not_more_than_zero() -> None:
    """-5 points, from -8 to -2: patients of the own test were the harder ones."""
    negative = leak((0.78, 0.80, 0.82), (0.83, 0.85, 0.87), (-0.08, -0.05, -0.02))
    (both,) = conclusions([row("by_image", negative)])
    assert both.endswith(" (95 %): less than zero: the unseen patients were easier.")
    (half,) = conclusions([row("by_image", LEAKY, accuracy=negative)])
    assert half.endswith(": more than zero for AUROC, less than zero for accuracy: the unseen patients were easier.")
    (memory,) = conclusions([row("by_image", negative, shuffled=True)])
    assert memory.endswith(
        "-5.0 (-8.0 to -2.0) points from that of unseen patients: less than zero: the unseen patients were easier."
    )


def test_page_and_csv_have_the_same_rows() -> None:
    page = markdown("Title", [("Trial", "a | b")], ROWS)
    assert page.startswith("# Title\n\n- Split by image")
    assert "- Trial: a \\| b" in page
    assert page.count("\n| by ") == 5
    assert "| tested patients in train or val |" in page
    lines = list(csv.DictReader(io.StringIO(csv_text(ROWS))))
    assert [line["split"] for line in lines] == ["by_study", "by_image", "by_patient", "by_image", "by_patient"]
    assert [line["labels"] for line in lines] == ["true"] * 3 + ["shuffled"] * 2
    assert (lines[0]["not_measured"], lines[0]["auroc_own"]) == ("no image has a study", "")
    assert (lines[1]["auroc_leak"], lines[1]["auroc_leak_low"], lines[1]["test_patients_in_train_or_val"]) == (
        "0.1",
        "0.054",
        "28",
    )


def test_a_card_is_read_of_its_training_set_alone(tmp_path) -> None:
    folder = str(tmp_path / "leaks")
    with pytest.raises(SourceError, match="leaks is no output of `hemo leaks`; give its `out`"):
        read_leaks(folder, "abc")
    card = LeaksCard(
        digest="d",
        config={},
        training_set="abc",
        trial="t",
        classes=("any",),
        rows=(row("by_image", LEAKY),),
        conclusions=("it leaks",),
        versions={},
        finished="",
    )
    write_json(f"{folder}/card.json", card.model_dump(mode="json"))
    assert read_leaks(folder, "abc").rows[0].rule == "by_image"
    with pytest.raises(ConfigError, match="is of training set abc, data of def"):
        read_leaks(folder, "def")
