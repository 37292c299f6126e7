"""Who is held out, by each of the six names."""

from typing import Any

import numpy as np
import pytest

from hemo.config.curate import CurateConfig
from hemo.corpus.labels import LabelTable
from hemo.curation.labelled_index import Rows, join_labels
from hemo.curation.split import TEST, TRAIN, VAL, assign_splits, cut, fold_counts, official_splits, strata
from hemo.errors import ConfigError, SourceError
from tests.made_shards import index_of


def config(split: str, **more: Any) -> CurateConfig:
    return CurateConfig(shards="s", labels="l", out="o", split=split, **more)


def joined(images: list[dict[str, Any]], positive: set[int] | None = None, values: np.ndarray | None = None) -> Rows:
    """Return images with the class `any`, or with classes a, b, ... of these values."""
    index = index_of(images)
    keys, classes = index["image_id"].combine_chunks(), tuple("abcdefgh")
    if values is not None:
        return join_labels(index, LabelTable(classes[: values.shape[1]], keys, values.astype(np.uint8), 0))
    one = np.array([number in (positive or set()) for number in range(len(images))], np.uint8)[:, None]
    return join_labels(index, LabelTable(("any",), keys, one, 0))


def split_rows(settings: CurateConfig, rows: Rows) -> np.ndarray:
    return assign_splits(settings, rows, np.arange(len(rows.patient)), (rows.patient, rows.patient_names))


def test_cut_gives_test_the_lowest_then_val_then_train():
    drawn = np.array([0.0, 0.1249, 0.125, 0.3749, 0.375, 0.9999])
    assert cut(drawn, 0.25, 0.125).tolist() == [TEST, TEST, VAL, VAL, TRAIN, TRAIN]


def test_by_patient_keeps_patients_whole_and_holds_out_about_the_share():
    rows = joined([{"patient": f"P{number // 3}"} for number in range(3000)])
    splits = split_rows(config("by_patient"), rows).reshape(1000, 3)
    assert (splits == splits[:, :1]).all()
    shares = np.bincount(splits[:, 0]) / 1000
    np.testing.assert_allclose(shares, [0.7, 0.15, 0.15], atol=0.04)  # 3.5 standard deviations of 1,000 draws


def test_new_patients_never_move_those_that_were_there():
    few = joined([{"image_id": f"i{number}", "patient": f"P{number}"} for number in range(100)])
    many = joined([{"image_id": f"i{number}", "patient": f"P{number}"} for number in reversed(range(300))])
    before = split_rows(config("by_patient"), few)
    assert split_rows(config("by_patient"), many)[::-1][:100].tolist() == before.tolist()


@pytest.mark.parametrize("name", ["by_patient", "by_patient_stratified", "by_image", "by_study", "official"])
def test_another_seed_is_another_split(name):
    """Fewest move in `official`: of 200 patients val is drawn from, 2 x 0.15 x 0.85, which is 51."""
    folders = ["train"] * 200 + ["test"] * 50
    images = [{"source_split": folder, "study": f"S{number}"} for number, folder in enumerate(folders)]
    rows = joined(images, set(range(0, 250, 3)))
    splits, others = (split_rows(config(name, seed=seed), rows) for seed in (0, 1))
    assert (splits != others).sum() > 20


def test_by_study_keeps_studies_together_and_tears_patients():
    """Half of the images of each patient have a study; the others go together."""
    images = [{"patient": f"P{n // 8}", "study": f"S{n // 4}" if n % 8 < 4 else None} for n in range(800)]
    splits = split_rows(config("by_study"), joined(images)).reshape(200, 4)
    assert (splits == splits[:, :1]).all()
    assert 20 < (splits[0::2, 0] != splits[1::2, 0]).sum() < 80  # of 100 patients; 47 expected
    with pytest.raises(SourceError, match="split: by_study needs studies, and no image has one; give by_patient"):
        split_rows(config("by_study"), joined([{"patient": f"P{n}"} for n in range(9)]))


def test_by_image_tears_patients():
    rows = joined([{"patient": f"P{number // 50}"} for number in range(200)])
    splits = split_rows(config("by_image"), rows).reshape(4, 50)
    assert all(len(set(patient)) == 3 for patient in splits.tolist())


def test_official_keeps_test_and_cuts_val_from_train_by_patient():
    folders = ["train"] * 200 + ["val"] * 4 + ["test"] * 50
    images = [{"source_split": folder, "patient": f"P{number // 2}"} for number, folder in enumerate(folders)]
    splits = split_rows(config("official", test_fraction=0.5), joined(images))
    assert (splits[204:] == TEST).all()
    assert set(splits[:204].tolist()) == {TRAIN, VAL}
    assert (splits[:204:2] == splits[1:204:2]).all()
    assert 10 < (splits[:204] == VAL).sum() < 60  # 0.15 of 102 patients, two images each


def test_official_puts_the_source_val_folder_into_train():
    index = index_of([{"source_split": name} for name in ("train", "val", "test")])
    assert official_splits(index).tolist() == [TRAIN, TRAIN, TEST]


@pytest.mark.parametrize(
    ("folder", "came"), [("holdout", "the folders holdout"), (None, "outside of any split folder")]
)
def test_official_needs_split_folders(folder, came):
    with pytest.raises(SourceError, match=rf"official needs the folders train, test and perhaps val.*{came}"):
        official_splits(index_of([{"source_split": "train"}, {"source_split": folder}]))


def test_stratified_holds_out_positives_in_proportion_and_patients_whole():
    """Of 60 patients with two images each, every sixth is positive: 10 patients, 20 images."""
    rows = joined([{"patient": f"P{number // 2}"} for number in range(120)], {n for n in range(120) if n // 2 % 6 == 0})
    settings = config("by_patient_stratified", val_fraction=0.2, test_fraction=0.2)
    splits = split_rows(settings, rows)
    positives = np.bincount(splits[rows.labels[:, 0] == 1], minlength=3)
    assert positives.tolist() == [12, 4, 4]
    assert (splits[::2] == splits[1::2]).all()
    assert split_rows(settings, rows).tolist() == splits.tolist()


def test_without_a_target_the_combinations_of_labels_are_spread():
    """100 patients of 10 images: a quarter each shows a, b, both or none; a fifth of each goes to val and to test."""
    images = [{"patient": f"P{number // 10}"} for number in range(1000)]
    kind = np.arange(1000) // 10 % 4
    rows = joined(images, values=np.stack([kind % 2, kind // 2], axis=1))
    splits = split_rows(config("by_patient_stratified", val_fraction=0.2, test_fraction=0.2), rows)
    for split in (VAL, TEST):
        assert np.bincount(kind[splits == split]).tolist() == [50, 50, 50, 50]


def test_rare_combinations_are_spread_as_positives():
    """27 patients with one image, four of them positive, each of another subtype, as the 27 slices of RSNA."""
    labels = np.zeros((27, 5), np.uint8)
    labels[[3, 9, 15, 21], 0] = 1
    labels[[3, 9, 15, 21], [1, 2, 3, 4]] = 1
    rows = joined([{} for _ in range(27)], values=labels)
    for seed in range(20):
        splits = split_rows(config("by_patient_stratified", seed=seed), rows)
        assert np.bincount(splits[labels[:, 0] == 1], minlength=3).tolist() == [2, 1, 1]


def test_combinations_of_fewer_groups_than_folds_are_merged():
    """Two groups show b alone, one both, and one has no label of b: fewer than 3; four show none, three a."""
    rows = {(0, 0): [0, 1, 2, 3], (1, 0): [4, 5, 6], (0, 1): [7, 8], (1, 1): [9], (0, 255): [10]}
    labels = np.array([combination for combination, groups in rows.items() for _ in groups], np.uint8)
    assert strata(labels, np.arange(11), 3).tolist() == [2] * 4 + [3] * 3 + [0] * 3 + [1]
    assert strata(labels, np.arange(11), 5).tolist() == [1] * 4 + [0] * 6 + [1]


def test_stratified_needs_its_target_among_the_classes():
    rows = joined([{} for _ in range(20)])
    with pytest.raises(ConfigError, match=r"balance.target: 'stroke' is no class of the labels; they are any"):
        split_rows(config("by_patient_stratified", balance={"target": "stroke"}), rows)


@pytest.mark.parametrize(
    ("patients", "val", "test", "message"),
    [
        (3, 0.15, 0.15, "a fraction of 0.15 needs 7 groups of patients, there are 3"),
        (60, 0.49, 0.5, "a fraction of 0.98 needs 34 groups of patients, there are 30"),
    ],
)
def test_fractions_of_more_folds_than_patients_are_refused(patients, val, test, message):
    """0.49 of all is 0.98 of the 30 patients that test leaves, which is 33 of 34 folds."""
    rows = joined([{"patient": f"P{number // 2}"} for number in range(2 * patients)])
    settings = config("by_patient_stratified", val_fraction=val, test_fraction=test)
    with pytest.raises(ConfigError, match=rf"^split: {message}; give rounder fractions, such as 0\.2, or by_patient$"):
        split_rows(settings, rows)


def test_fewer_images_alike_than_folds_are_refused():
    """Seven folds of four patients with and four without: scikit-learn wants seven of one kind."""
    with pytest.raises(ConfigError, match=r"^split: 7 stratified folds need 7 images with the same labels, .* are 4; "):
        split_rows(config("by_patient_stratified"), joined([{} for _ in range(8)], {0, 1, 2, 3}))


def test_an_empty_split_names_the_cure():
    rows = joined([{"patient": "A"}, {"patient": "A"}])
    with pytest.raises(ConfigError, match=r"leaves nothing in .* of 2 images in 1 groups; use larger fractions"):
        split_rows(config("by_patient"), rows)


@pytest.mark.parametrize(
    ("fraction", "counts"),
    [(0.15, (1, 7)), (0.2, (1, 5)), (0.4, (2, 5)), (0.5, (1, 2)), (0.7, (7, 10)), (0.005, (1, 182)), (0.99, (50, 51))],
)
def test_as_few_folds_as_come_close(fraction, counts):
    assert fold_counts(fraction) == counts


@pytest.mark.parametrize(("val", "test"), [(0.15, 0.4), (0.15, 0.7), (0.5, 0.3)])
def test_stratified_fractions_are_the_configured_ones(val, test):
    rows = joined([{"patient": f"P{number // 2}"} for number in range(400)])
    splits = split_rows(config("by_patient_stratified", val_fraction=val, test_fraction=test), rows)
    assert np.mean(splits == VAL) == pytest.approx(val, abs=0.03)
    assert np.mean(splits == TEST) == pytest.approx(test, abs=0.03)


def fifty_patients() -> Rows:
    """A hundred images of fifty patients, two each; every fifth patient is positive."""
    return joined([{"patient": f"P{number // 2}"} for number in range(100)], {n for n in range(100) if n // 2 % 5 == 0})


def test_over_all_folds_every_group_is_tested_once_and_validated_once():
    rows = fifty_patients()
    runs = np.stack([split_rows(config("folds", folds=5, fold=fold), rows) for fold in range(1, 6)])
    assert ((runs == TEST).sum(axis=0) == 1).all()
    assert ((runs == VAL).sum(axis=0) == 1).all()
    assert (runs[:, ::2] == runs[:, 1::2]).all()
    for this, following in zip(runs, np.roll(runs, -1, axis=0), strict=True):
        assert ((this == VAL) == (following == TEST)).all()


def test_folds_are_of_one_size_with_positives_in_proportion():
    """Fifty patients in five folds: ten patients, two of them positive, each with two images."""
    rows = fifty_patients()
    splits = split_rows(config("folds", folds=5, fold=3), rows)
    assert np.bincount(splits).tolist() == [60, 20, 20]
    assert np.bincount(splits[rows.labels[:, 0] == 1]).tolist() == [12, 4, 4]
    assert split_rows(config("folds", folds=5, fold=3, seed=1), rows).tolist() != splits.tolist()


def test_what_is_cleaned_away_moves_no_patient_to_another_fold():
    rows = fifty_patients()
    settings, groups = config("folds", fold=2), (rows.patient, rows.patient_names)
    kept = np.arange(0, 100, 3)
    assert assign_splits(settings, rows, kept, groups).tolist() == split_rows(settings, rows)[kept].tolist()


def test_more_folds_than_groups_are_refused():
    with pytest.raises(ConfigError, match=r"^folds 5: there are 4 patients; give fewer folds$"):
        split_rows(config("folds"), joined([{"patient": f"P{n % 4}"} for n in range(20)]))
