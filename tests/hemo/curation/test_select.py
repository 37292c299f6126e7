"""Curation from index and labels to chosen rows, without copying."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from hemo.config.curate import CurateConfig
from hemo.corpus.labels import LabelTable
from hemo.curation import select as select_module
from hemo.curation import split
from hemo.curation.hash_order import hash_texts, smallest
from hemo.curation.labelled_index import Rows
from hemo.curation.select import Selection, select, training_set_digest, undersample, unflagged
from hemo.curation.split import TEST, TRAIN, VAL
from hemo.errors import ConfigError, LabelError, SplitError
from tests.made_shards import index_of

IDS = pa.array([f"ID_{number:03d}" for number in range(100)])
LABELS = np.array([1] * 10 + [0] * 85 + [255] * 5, np.uint8)


def config(**more: Any) -> CurateConfig:
    return CurateConfig(shards="s", labels="l", out="o", **more)


def labels_of(images: int, positive: set[int], repeated: int = 0) -> LabelTable:
    values = np.array([number in positive for number in range(images)], np.uint8)[:, None]
    return LabelTable(("any",), pa.array([f"ID_{number:03d}" for number in range(images)]), values, repeated)


def hundred(**more: Any) -> Selection:
    """A hundred images of fifty patients, every fifth positive, every tenth blank."""
    images = [{"patient": f"P{n // 2}", "flags": ["blank"] if n % 10 == 1 else []} for n in range(100)]
    return select(config(**more), index_of(images), labels_of(100, set(range(0, 100, 5))))


def test_every_step_has_the_removed_and_remaining_counts():
    selection = hundred(drop_flags=("blank",), balance={"mode": "undersample"}, subset={"train": 10, "val": 2})
    assert [step.name for step in selection.steps] == ["converted", "labelled", "clean", "balance", "subset"]
    rows = [step.left.rows for step in selection.steps]
    assert rows[:3] == [100, 100, 90]
    assert [step.removed for step in selection.steps[1:]] == (-np.diff(rows)).tolist()
    assert selection.steps[2].left.positives == {"any": 20}
    assert rows[-1] == len(selection.chosen) == len(selection.splits)
    assert np.bincount(selection.splits)[[TRAIN, VAL]].tolist() == [10, 2]


def test_balance_touches_train_only_and_makes_it_even():
    plain, balanced = hundred(), hundred(balance={"mode": "undersample"})
    for number in (VAL, TEST):
        assert balanced.chosen[balanced.splits == number].tolist() == plain.chosen[plain.splits == number].tolist()
    train = balanced.rows.labels[balanced.chosen[balanced.splits == TRAIN], 0]
    assert int((train == 0).sum()) == int((train == 1).sum()) > 5


def test_reductions_are_sentences_for_tables():
    before = np.bincount(hundred().splits)
    assert hundred(subset={"train": 9}).reductions == (f"train limited to 9 of {before[TRAIN]} images",)
    assert hundred(subset={"train": 1000}).reductions == ()


def test_images_without_labels_and_labels_without_images_are_counted():
    images = [{"image_id": f"ID_{n:03d}"} for n in range(10, 60)]
    found = select(config(), index_of(images), labels_of(50, set(range(0, 50, 3)), repeated=24))
    assert found.audit["images_without_labels"] == 10
    assert found.audit["labels_without_images"] == 10
    assert found.audit["repeated_label_rows"] == 24
    assert found.steps[1].removed == 10
    assert len(found.chosen) == 40


def test_linked_patients_share_a_split_and_images_do_not():
    images = [{"pixel_digest": bytes([n // 10] * 16)} for n in range(100)]
    linked = select(config(), index_of(images), labels_of(100, set(range(0, 100, 3))))
    assert (linked.splits.reshape(10, 10) == linked.splits.reshape(10, 10)[:, :1]).all()
    assert linked.audit["linked_groups"] == 10
    assert linked.audit["linked_patients_in_two_splits"] == 0
    images = [{**image, "study": f"S{n}"} for n, image in enumerate(images)]
    for name in ("by_image", "by_study"):
        leaky = select(config(split=name), index_of(images), labels_of(100, set(range(0, 100, 3))))
        assert leaky.audit["linked_patients_in_two_splits"] > 5
        assert leaky.audit["equal_pixels_in_two_splits"] > 5


def leaky_split(config: CurateConfig, rows: Rows, kept: np.ndarray, groups: Any) -> np.ndarray:
    """A splitter that went wrong: patient P0's two images and the equal images 2 and 7 stand apart."""
    splits = np.arange(len(kept)) % 3
    splits[:8] = [TRAIN, TEST, VAL, VAL, TRAIN, TRAIN, TEST, TEST]
    return splits.astype(np.int8)


@pytest.mark.parametrize("name", ["by_patient", "by_patient_stratified", "folds"])
def test_a_split_of_hemo_s_own_that_leaks_is_refused_with_both_images_and_splits(monkeypatch, name):
    monkeypatch.setitem(split._SPLITTERS, name, leaky_split)
    images = [{"patient": f"P{n // 2}"} for n in range(8)] + [{} for _ in range(30)]
    with pytest.raises(SplitError, match="1 linked patients in two splits, such as ID_000 in train and ID_001 in test"):
        select(config(split=name), index_of(images), labels_of(38, set(range(0, 38, 3))))


def test_equal_pixels_that_no_link_kept_together_are_refused(monkeypatch):
    """Were patients not linked, the equal images 2 in val and 7 in test would be found all the same."""
    monkeypatch.setitem(split._SPLITTERS, "by_patient", leaky_split)
    monkeypatch.setattr(select_module, "link_patients", lambda patient, pixels: patient)
    images = [{"pixel_digest": b"x" * 16} if n in (2, 7) else {} for n in range(38)]
    with pytest.raises(SplitError, match="1 groups of equal pixels in two splits, such as ID_002 in val and ID_007 in"):
        select(config(), index_of(images), labels_of(38, set(range(0, 38, 3))))


def test_what_by_image_tears_is_counted_with_examples():
    images = [{"patient": "A", "pixel_digest": b"x" * 16}, *({"patient": f"P{n}"} for n in range(80))]
    images += [{"patient": "A", "pixel_digest": b"x" * 16} for _ in range(10)]
    found = select(config(split="by_image"), index_of(images), labels_of(91, set(range(0, 91, 3)))).audit
    assert (found["linked_patients_in_two_splits"], found["equal_pixels_in_two_splits"]) == (1, 1)
    (example,) = found["equal_pixels_in_two_splits_examples"]
    assert re.fullmatch(r"ID_\d+ in \w+( and ID_\d+ in \w+)+", example)


def test_official_compares_patients_within_a_split_only():
    """Patient P0 of test is not P0 of train, and the same pixels on both sides are counted, not linked."""
    images = [{"source_split": "train", "patient": f"P{n}"} for n in range(40)]
    images += [{"source_split": "test", "patient": f"P{n}", "pixel_digest": b"x" * 16} for n in range(2)]
    images[39]["pixel_digest"] = b"x" * 16
    found = select(config(split="official"), index_of(images), labels_of(42, {0, 1, 2, 3, 4, 40}))
    assert found.splits[40:].tolist() == [TEST, TEST]
    assert found.audit["patients"] == 42
    assert found.audit["linked_patients"] == 2
    assert found.audit["equal_pixels_in_two_splits"] == 1
    assert "within each official split only" in found.audit["note"]


def test_an_official_split_keeps_the_ids_of_patients_and_of_studies_without_patient():
    """The table of equal pixels tells P0 of train from P0 of test."""
    images: list[dict[str, Any]] = [{"source_split": "train", "patient": f"P{n}"} for n in range(38)]
    images += [{"source_split": "train", "patient": None, "study": "S1"}]
    images += [{"source_split": "test", "patient": "P0", "pixel_digest": b"x" * 16}]
    images[0]["pixel_digest"] = b"x" * 16
    found = select(config(split="official"), index_of(images), labels_of(40, set(range(0, 40, 3))))
    assert found.rows.patient_ids.to_pylist() == [*(f"P{n}" for n in range(38)), "study S1", "P0"]
    assert found.evidence["linked_patient"].to_pylist() == ["train patient P0", "test patient P0"]
    draws = hash_texts(pa.array(["train patient patient P0"]), "split", 0)
    assert hash_texts(found.rows.patient_names.slice(0, 1), "split", 0).tolist() == draws.tolist()


def test_a_training_set_of_one_class_is_refused():
    with pytest.raises(LabelError, match=r"images of train are all alike \(any: each always 0 or always 1\)"):
        select(config(), index_of([{} for _ in range(50)]), labels_of(50, set()))


@pytest.mark.parametrize(
    ("value", "mode", "place"), [(1, "none", "labels"), (1, "undersample", "balance"), (0, "none", "labels")]
)
def test_a_stratified_split_of_two_patients_with_a_label_says_that_it_takes_three(value, mode, place):
    """Six of eighty images, of three patients, two of whom are linked by equal pixels: one goes to test, one to val."""
    images = [{"patient": f"P{n // 2}"} | ({"pixel_digest": b"x" * 16} if n in (0, 4) else {}) for n in range(80)]
    table = labels_of(80, set(range(6)) if value else set(range(6, 80)))
    settings = config(split="by_patient_stratified", balance={"mode": mode})
    with pytest.raises(LabelError, match=f"^{place}: patients with images of any = {value}: 2; three are") as caught:
        select(settings, index_of(images), table)
    assert not re.search("seed|by_patient_stratified", str(caught.value))


def test_a_stratified_split_left_with_one_class_by_its_subset_is_not_advised_to_be_one():
    images = [{"patient": f"P{n // 2}"} for n in range(80)]
    settings = config(split="by_patient_stratified", subset={"train": 1})
    with pytest.raises(LabelError, match=r"the 1 images of train are all alike.*larger subset or another seed$"):
        select(settings, index_of(images), labels_of(80, set(range(10))))


def test_a_class_that_never_varies_beside_one_that_does_is_noted():
    table = labels_of(60, set(range(0, 60, 2)))
    values = np.hstack([table.values, np.zeros_like(table.values)])
    two = LabelTable(("any", "epidural"), table.keys, values, 0)
    found = select(config(), index_of([{} for _ in range(60)]), two).findings
    assert found[0].text == "train: all images are alike in epidural: that cannot be learned"


def ten_series(**more: Any) -> list[dict[str, Any]]:
    """Ten series of forty slices without PatientID."""
    return [{"patient": None, "series": f"X{n // 40}"} | more for n in range(400)]


@pytest.mark.parametrize("name", ["by_patient", "by_patient_stratified", "folds", "official"])
def test_series_without_patient_stay_whole(name):
    split_folders = [{"source_split": "test" if n >= 320 else "train"} for n in range(400)]
    images = [image | folder for image, folder in zip(ten_series(), split_folders, strict=True)]
    settings = config(split=name, val_fraction=0.2, test_fraction=0.2, seed=3)
    found = select(settings, index_of(images), labels_of(400, set(range(0, 400, 5))))
    splits = found.splits.reshape(10, 40)
    assert (splits == splits[:, :1]).all()
    assert found.audit["patients"] == 10
    assert found.steps[-1].left.patients == 10
    assert found.steps[-1].left.grouped_by == {"series": 400}


@pytest.mark.parametrize("name", ["by_patient", "by_patient_stratified", "folds"])
def test_a_split_by_patient_of_images_most_of_which_have_no_patient_is_refused(name):
    images = [{"patient": "P" if n < 199 else None} for n in range(400)]
    with pytest.raises(ConfigError, match=rf"{name} needs patients, but 201 of 400 images have no .* --split by_image"):
        select(config(split=name), index_of(images), labels_of(400, set(range(0, 400, 5))))


def test_half_of_the_images_may_lack_a_patient_and_by_image_needs_none():
    images = [{"patient": f"P{n}" if n < 200 else None} for n in range(400)]
    labels = labels_of(400, set(range(0, 400, 5)))
    assert select(config(), index_of(images), labels).steps[-1].left.grouped_by == {"patient": 200, "image": 200}
    nobody = [{"patient": None} for _ in range(400)]
    assert select(config(split="by_image"), index_of(nobody), labels).steps[-1].left.grouped_by == {"image": 400}


def test_a_split_with_too_few_patients_or_labels_is_a_finding():
    """Of 40 patients the first 8 are positive: val and test of a seventh each have one or two of them."""
    images = [{"patient": f"P{n // 2}"} for n in range(80)]
    found = select(config(split="by_patient_stratified"), index_of(images), labels_of(80, set(range(16)))).findings
    assert [finding.split for finding in found] == ["val", "test"]
    assert all(finding.patients < 10 and finding.patients_with["any"] < 5 for finding in found)
    assert found[0].text == (
        "val has too few patients to choose an epoch, a threshold or a model by: "
        "6 (of at least 10), with any 1 (of at least 5)"
    )


def test_splits_with_ten_patients_and_five_of_each_label_are_no_finding():
    images = [{"patient": f"P{n // 2}"} for n in range(200)]
    settings = config(split="by_patient_stratified", val_fraction=0.2, test_fraction=0.2)
    assert select(settings, index_of(images), labels_of(200, set(range(0, 200, 3)))).findings == ()


def test_a_class_missing_from_one_split_is_a_finding():
    """Class b is shown by the images of val only."""
    images = [{"patient": f"P{n}"} for n in range(300)]
    table = labels_of(300, set(range(0, 300, 2)))
    plain = select(config(), index_of(images), table)
    in_val = np.zeros((300, 1), np.uint8)
    in_val[plain.chosen[plain.splits == VAL]] = 1
    two = LabelTable(("a", "b"), table.keys, np.hstack([table.values, in_val]), 0)
    found = {finding.split: finding for finding in select(config(), index_of(images), two).findings}
    assert found["train"].one_sided == found["val"].one_sided == found["test"].one_sided == ("b",)
    assert (found["test"].patients_with, found["val"].patients_without) == ({"b": 0}, {"b": 0})
    assert found["test"].of_classes(("a",)) is None
    assert found["test"].of_classes(("b",)) == found["test"]


def test_balance_without_positives_and_unknown_targets_are_refused():
    index = index_of([{} for _ in range(50)])
    with pytest.raises(LabelError, match="train has no positive of 'any'"):
        select(config(balance={"mode": "undersample"}), index, labels_of(50, set()))
    with pytest.raises(ConfigError, match=r"balance.target: 'sdh' is no class of the labels; they are any"):
        select(config(balance={"mode": "undersample", "target": "sdh"}), index, labels_of(50, {1, 2, 3}))


def test_dropping_everything_is_refused():
    with pytest.raises(ConfigError, match="drop_flags: blank leaves none of the labelled images"):
        select(config(drop_flags=("blank",)), index_of([{"flags": ["blank"]}]), labels_of(1, {0}))


def test_rows_with_any_of_the_flags_go():
    index = index_of([{"flags": ["blank", "padded"]}, {"flags": ["padded"]}, {"flags": []}, {"flags": ["noise"]}])
    assert unflagged(index, ("blank", "noise")).tolist() == [False, True, True, False]
    assert unflagged(index, ()).all()


def test_an_unknown_flag_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"drop_flags: blnk is no flag of an image; known are blank, little_brain"):
        unflagged(index_of([{}]), ("blank", "blnk"))


@pytest.mark.parametrize(("ratio", "negatives"), [(1.0, 10), (4.0, 40), (0.5, 5), (20.0, 85)])
def test_negatives_are_cut_to_the_ratio_and_nothing_else_is(ratio, negatives):
    stay = undersample(LABELS, IDS, ratio, seed=0)
    assert stay[:10].all()
    assert stay[95:].all()
    assert int(stay[10:95].sum()) == negatives


def test_which_negatives_stay_depends_on_ids_and_seed_only():
    stay = undersample(LABELS, IDS, 1.0, seed=0)
    backwards = undersample(LABELS[::-1], IDS.take(np.arange(99, -1, -1)), 1.0, seed=0)
    assert backwards[::-1].tolist() == stay.tolist()
    assert undersample(LABELS, IDS, 1.0, seed=1).tolist() != stay.tolist()


def test_negatives_that_stay_are_spread_over_all():
    kept = np.flatnonzero(undersample(LABELS, IDS, 4.0, seed=0)[10:95])
    assert 12 <= (kept < 42).sum() <= 28  # 40 of 85, half of them expected in the first half


def test_a_larger_subset_holds_the_smaller():
    assert set(smallest(IDS, 7, "subset", 0)) < set(smallest(IDS, 20, "subset", 0))
    assert smallest(IDS, 7, "subset", 0).tolist() != smallest(IDS, 7, "balance", 0).tolist()
    assert smallest(IDS, 1000, "subset", 0).tolist() == list(range(100))


@pytest.mark.parametrize("seed", [0, 1])
def test_the_seed_of_the_config_chooses_what_balance_and_subset_leave(seed):
    plain = hundred(seed=seed)
    train = plain.chosen[plain.splits == TRAIN]
    balanced = hundred(seed=seed, balance={"mode": "undersample"})
    stay = undersample(plain.rows.labels[train, 0], IDS.take(train), 1.0, seed)
    assert balanced.chosen[balanced.splits == TRAIN].tolist() == train[stay].tolist()
    limited = hundred(seed=seed, subset={"train": 10})
    assert (
        limited.chosen[limited.splits == TRAIN].tolist()
        == train[smallest(IDS.take(train), 10, "subset", seed)].tolist()
    )


def selected(order: list[int], *, repainted: int | None = None) -> Selection:
    names = [f"ID_{number:03d}" for number in order]
    values = np.array([number % 2 for number in order], np.uint8)[:, None]
    pixels = [bytes([number, number == repainted]) + bytes(14) for number in order]
    index = index_of(
        [
            {"image_id": name, "patient": name, "pixel_digest": digest}
            for name, digest in zip(names, pixels, strict=True)
        ]
    )
    return select(
        CurateConfig(shards="s", labels="l", out="o"), index, LabelTable(("any",), pa.array(names), values, 0)
    )


def test_order_does_not_matter_and_everything_else_does():
    selection = selected(list(range(40)))
    digest = training_set_digest(selection, {"side_px": 2})
    assert training_set_digest(selected(list(reversed(range(40)))), {"side_px": 2}) == digest
    flipped = selection.rows.labels.copy()
    flipped[3] = 1 - flipped[3]
    moved = selection.splits.copy()
    moved[3] = (moved[3] + 1) % 3
    patient = selection.rows.patient.copy()
    patient[3] = patient[4]
    others = [
        training_set_digest(selection, {"side_px": 4}),
        training_set_digest(replace(selection, rows=replace(selection.rows, labels=flipped)), {"side_px": 2}),
        training_set_digest(replace(selection, splits=moved), {"side_px": 2}),
        training_set_digest(replace(selection, chosen=selection.chosen[1:], splits=moved[1:]), {"side_px": 2}),
        training_set_digest(selected(list(range(40)), repainted=3), {"side_px": 2}),
        training_set_digest(replace(selection, rows=replace(selection.rows, patient=patient)), {"side_px": 2}),
        training_set_digest(replace(selection, rows=replace(selection.rows, classes=("other",))), {"side_px": 2}),
    ]
    assert len({digest, *others}) == 8


def test_the_prevalence_before_balancing_is_kept():
    """Of 70 images in train a fifth is positive, whatever `subset` leaves of the balanced ones."""
    plain = hundred()
    before = hundred(balance={"mode": "undersample"}, subset={"train": 5}).before_balance
    assert plain.before_balance is None
    assert (before.rows, before.positives) == (
        int((plain.splits == TRAIN).sum()),
        {"any": int((plain.rows.labels[plain.chosen[plain.splits == TRAIN], 0] == 1).sum())},
    )
    assert 0.1 < before.positives["any"] / before.rows < 0.3
