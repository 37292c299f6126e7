"""Leaky and clean splits of the same images, and labels shuffled between patients."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from hemo.curation.leak_splits import (
    HOLDOUT,
    RULES,
    UNUSED,
    Fractions,
    Pool,
    cut_units,
    nothing_to_leak,
    read_pool,
    shuffle_labels,
    split_alike,
    units_of,
)
from hemo.curation.split import TEST, TRAIN, VAL

FRACTIONS = Fractions(holdout=0.2, val=0.1, test=0.2)
NO_AUDIT = pa.table({name: pa.array([], pa.string()) for name in ("image_id", "patient", "linked_patient")})


def table_of(images: list[dict[str, Any]]) -> pa.Table:
    """Return a pool's table; what an image lacks is its own patient, without study, and not positive."""
    columns: dict[str, list[Any]] = {
        "image_id": [image.get("image_id", f"I{n:04d}") for n, image in enumerate(images)],
        "patient": [image.get("patient", f"P{n:04d}") for n, image in enumerate(images)],
        "study": [image.get("study") for image in images],
        "series": [image.get("series") for image in images],
        "position_mm": [image.get("position_mm") for image in images],
        "flags": [image.get("flags", []) for image in images],
        "pixel_digest": [image.get("pixels", f"{n:016d}".encode()) for n, image in enumerate(images)],
        "pixel_format": ["u12"] * len(images),
        "label_any": [image.get("any", 0) for image in images],
        "row": list(range(len(images))),
    }
    types = {
        **dict.fromkeys(("study", "series"), pa.string()),
        "position_mm": pa.float32(),
        "flags": pa.list_(pa.string()),
        "pixel_digest": pa.binary(16),
        "label_any": pa.uint8(),
    }
    return pa.table({name: pa.array(values, types.get(name)) for name, values in columns.items()})


def pool_of(images: list[dict[str, Any]], audit: pa.Table = NO_AUDIT) -> Pool:
    return read_pool(table_of(images), audit, ("any",))


def corpus(patients: int = 60) -> Pool:
    """Patients of two studies with five images each; the even ones positive in one study; P0 and P1 share an image."""
    images = [
        {
            "patient": f"P{p}",
            "study": f"S{p}-{s}",
            "position_mm": float(n),
            "any": int(p % 2 == 0 and s == 0),
            **({"pixels": b"x" * 16} if p in (0, 1) and s == n == 0 else {}),
        }
        for p in range(patients)
        for s in range(2)
        for n in range(5)
    ]
    return pool_of(images)


def torn(pool: Pool, names: np.ndarray, split: np.ndarray) -> int:
    """Count what has images on both sides of what a model learns from and its own test."""
    learned, tested = names[(split == TRAIN) | (split == VAL)], names[split == TEST]
    return len(np.intersect1d(learned, tested))


def test_each_rule_keeps_together_what_the_one_before_tears() -> None:
    pool = corpus()
    splits = split_alike(pool, RULES, FRACTIONS, seed=0)
    study = units_of(pool, "by_study")[0]
    units = [units_of(pool, rule)[0] for rule in RULES]
    assert torn(pool, study, splits["by_image"]) > 20
    assert torn(pool, pool.patient, splits["by_study"]) > 10
    assert torn(pool, pool.group, splits["by_patient"]) == 0
    for rule, unit in zip(RULES, units, strict=True):
        assert torn(pool, unit, splits[rule]) == 0
    assert [len(np.unique(unit)) for unit in units] == [600, 120, 60, 59]


def test_a_patient_id_tears_patients_with_an_image_in_common() -> None:
    pool = corpus()
    found = [
        torn(pool, pool.group, split_alike(pool, ("by_patient_id",), FRACTIONS, s)["by_patient_id"]) for s in range(9)
    ]
    assert set(found) == {0, 1}


def test_nobody_meets_the_hold_out_and_it_is_the_same_for_all() -> None:
    pool = corpus()
    splits = split_alike(pool, RULES, FRACTIONS, seed=1)
    held_out = splits["by_image"] == HOLDOUT
    assert all(((split == HOLDOUT) == held_out).all() for split in splits.values())
    assert len(np.intersect1d(pool.group[held_out], pool.group[~held_out])) == 0
    assert held_out.sum() == pytest.approx(0.2 * 600, abs=20)


def test_all_learn_from_as_many_images_with_as_many_positives() -> None:
    pool = corpus()
    splits = list(split_alike(pool, RULES, FRACTIONS, seed=0).values())
    for part in (TRAIN, VAL):
        assert len({int((split == part).sum()) for split in splits}) == 1
    assert (splits[0] == TRAIN).sum() == pytest.approx(0.5 * 600, abs=20)
    assert all((split == TEST).sum() == pytest.approx(0.2 * 600, abs=20) for split in splits)
    assert all((split == UNUSED).sum() < 30 for split in splits)
    positive = [pool.labels[split == TRAIN, 0].mean() for split in splits]
    assert positive == pytest.approx([0.25] * 4, abs=0.04)


def test_another_seed_is_another_split_and_the_same_seed_the_same() -> None:
    pool = corpus()
    one, again, other = (split_alike(pool, ("by_patient",), FRACTIONS, seed)["by_patient"] for seed in (0, 0, 1))
    assert (one == again).all()
    assert (one != other).sum() > 100


def test_units_are_cut_where_the_middle_of_their_images_lies() -> None:
    """Of ten negative units of one image each half are cut off, and of four positive ones of two images each two."""
    unit = np.concatenate([np.arange(10), np.repeat(np.arange(10, 14), 2)])
    positive = np.arange(18) >= 10
    names = pa.array([f"u{n}" for n in range(15)])  # the last has no image
    part = cut_units(unit, names, positive, (0.5,), seed=0, purpose="test")
    assert np.bincount(part[:10]).tolist() == [5, 5]
    assert np.bincount(part[10:]).tolist() == [4, 4]
    assert (part[10::2] == part[11::2]).all()
    three = cut_units(unit, names, positive, (0.2, 0.3), seed=0, purpose="test")
    assert np.bincount(three[:10]).tolist() == [2, 3, 5]


def test_rules_that_split_as_the_next_have_nothing_to_leak() -> None:
    assert nothing_to_leak(corpus()) == {}
    alone = pool_of([{} for _ in range(4)])
    assert nothing_to_leak(alone) == {
        "by_image": "each patient has one image",
        "by_study": "no image has a study",
        "by_patient_id": "no two patients have an image in common",
    }
    pairs = pool_of([{"patient": f"P{n // 2}", "study": f"S{n // 2}"} for n in range(8)])
    assert nothing_to_leak(pairs) == {
        "by_study": "each patient has one study",
        "by_patient_id": "no two patients have an image in common",
    }
    thick = pool_of([{"patient": f"P{n // 2}", "study": f"S{n}", "pixels": b"x" * 16} for n in range(4)])
    assert nothing_to_leak(thick) == {"by_image": "each study has one image"}


def test_patients_are_linked_by_images_that_the_set_lacks_too() -> None:
    """P0 and P1 by an image of the set that curate linked to P9; P2 and P3 by images of theirs that it left out."""
    audit = pa.table(
        {
            "image_id": ["I0000", "I0001", "away", "gone"],
            "patient": ["P0000", "P0001", "P0002", "P0003"],
            "linked_patient": ["P9", "P9", "P0002", "P0002"],
        }
    )
    pool = pool_of([{} for _ in range(5)], audit)
    assert pool.group.tolist() == [0, 0, 1, 1, 2]
    assert pool.group_names.to_pylist() == ["P0000", "P0002", "P0004"]


def test_images_without_a_label_of_the_task_are_no_part_of_the_pool() -> None:
    pool = pool_of([{"any": None}, {"any": 1}, {"any": 0}])
    assert pool.table["row"].to_pylist() == [1, 2]
    assert pool.labels.tolist() == [[1], [0]]


def test_shuffled_labels_are_those_of_another_patient_turned_round() -> None:
    """Three patients of four images: runs of two, one and no positive image, whose next is the first again."""
    runs = {"A": [1, 1, 0, 0], "B": [0, 1, 0, 0], "C": [0, 0, 0, 0]}
    images = [{"patient": p, "position_mm": float(n), "any": v} for p, run in runs.items() for n, v in enumerate(run)]
    turns: dict[str, set[tuple[int, ...]]] = {"A": set(), "B": set(), "C": set()}
    for seed in range(200):
        found = shuffle_labels(pool_of(images), seed).reshape(3, 4)
        assert sorted(found.sum(axis=1).tolist()) == [0, 1, 2]
        assert (found.sum(axis=1) != [2, 1, 0]).all()  # nobody keeps its own
        for patient, labels in zip(runs, found.tolist(), strict=True):
            turns[patient].add(tuple(labels))
    circles = {(1, 1, 0, 0), (0, 1, 1, 0), (0, 0, 1, 1), (1, 0, 0, 1)}
    single = {(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)}
    assert turns["A"] == {*single, (0, 0, 0, 0)}
    assert turns["B"] == {*circles, (0, 0, 0, 0)}
    assert turns["C"] == {*circles, *single}


def test_shuffled_labels_say_nothing_about_the_position() -> None:
    """Every patient's first of three images is positive; shuffled, each of the three is so in a third of patients."""
    images = [{"patient": f"P{n // 3}", "position_mm": float(n % 3), "any": int(n % 3 == 0)} for n in range(3000)]
    found = shuffle_labels(pool_of(images), seed=0).reshape(1000, 3)
    assert (found.sum(axis=1) == 1).all()
    np.testing.assert_allclose(found.mean(axis=0), 1 / 3, atol=0.05)


def test_labels_are_stretched_to_patients_with_more_images() -> None:
    images = [{"patient": "A", "position_mm": float(n), "any": int(n < 2)} for n in range(4)]
    images += [{"patient": "B", "position_mm": float(n)} for n in range(8)]
    found = shuffle_labels(pool_of(images), seed=3)[:, 0]
    assert found[:4].sum() == 0
    assert found[4:].sum() == 4
    assert np.abs(np.diff(np.append(found[4:].astype(int), found[4]))).sum() == 2  # one run, round the circle


def test_equal_images_keep_equal_labels() -> None:
    images = [
        {"patient": f"P{n // 4}", "any": n % 2, **({"pixels": b"x" * 16} if n % 4 == 0 else {})} for n in range(40)
    ]
    images += [{"patient": f"Q{n // 4}", "any": int(n % 3 == 0)} for n in range(40)]
    for seed in range(10):
        found = shuffle_labels(pool_of(images), seed)[:, 0]
        assert len(set(found[:40:4].tolist())) == 1
