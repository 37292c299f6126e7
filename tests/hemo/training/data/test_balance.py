"""Labels of an epoch, balanced: counts worked out by hand, whole patients, and only where configured."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from hemo.config.trial import TrainingConfig, TrialConfig
from hemo.curation.select import undersample
from hemo.training.data.balance import balanced_rows, repeats_by_patient
from hemo.training.data.dataset import read_training_set, select_splits
from hemo.training.data.examples import Splits

IDS = np.array([f"ID_{number:03d}" for number in range(100)])
RARE = np.repeat([1, 0], [12, 88])
PATIENTS = np.array([f"P{number // 4}" for number in range(100)])  # three of them have the rare label


def epoch(balance: str, *, label: NDArray[np.integer] = RARE, ratio: float = 1.0, seed: int = 0) -> NDArray[np.intp]:
    training = TrainingConfig(balance=balance, balance_ratio=ratio)
    return balanced_rows(training, label, IDS[: len(label)], PATIENTS[: len(label)], seed)


def test_without_balance_an_epoch_has_each_image_once() -> None:
    assert epoch("none").tolist() == list(range(100))


def test_rare_images_are_repeated_until_both_labels_are_as_many() -> None:
    """88 of 12 images: seven times each, 84, and one of the three patients with four images once more."""
    rows = epoch("oversample")
    times = np.bincount(rows)
    assert np.bincount(RARE[rows]).tolist() == [88, 88]
    assert sorted(times[:12]) == [7] * 8 + [8] * 4
    assert (times[12:] == 1).all()
    assert (times[:12].reshape(3, 4) == times[:12].reshape(3, 4)[:, :1]).all()  # all images of a patient alike


def test_what_is_lacking_comes_as_near_as_whole_patients_can() -> None:
    """11 of 8 images: 3 are lacking, of patients with 1, 1 and 6 images; with the last it would be 3 too many."""
    label = np.repeat([1, 0], [8, 11])
    patients = np.array(["A", "B", *["C"] * 6, *["D"] * 11])
    more = [repeats_by_patient(label, patients, 1.0, seed)[:8] - 1 for seed in range(30)]
    assert {tuple(found[2:]) for found in more} == {(0,) * 6}
    assert {int(found.sum()) for found in more} == {0, 1, 2}  # by how many of A and B come before C


def test_a_ratio_repeats_less() -> None:
    """88 at 2 : 1 are 44 of 12 images: three times each is 36, and two of three patients once more."""
    assert np.bincount(RARE[epoch("oversample", ratio=2)]).tolist() == [88, 44]
    assert np.bincount(RARE[epoch("undersample", ratio=2)]).tolist() == [24, 12]


def test_positives_are_repeated_or_left_out_as_well_where_they_are_the_many() -> None:
    assert np.bincount(1 - RARE[epoch("oversample", label=1 - RARE)]).tolist() == [88, 88]
    assert np.bincount(RARE[epoch("undersample", label=1 - RARE)]).tolist() == [12, 12]


def test_exclusive_classes_are_all_as_many_as_the_commonest() -> None:
    label = np.repeat([0, 1, 2], [60, 30, 10])
    assert np.bincount(label[epoch("oversample", label=label)]).tolist() == [60, 60, 60]
    assert np.bincount(label[epoch("undersample", label=label)]).tolist() == [10, 10, 10]


def test_a_class_without_images_takes_no_part() -> None:
    label = np.repeat([0, 2], [60, 40])
    assert np.bincount(label[epoch("undersample", label=label)]).tolist() == [40, 0, 40]
    assert np.bincount(label[epoch("oversample", label=label)]).tolist() == [60, 0, 60]


def test_the_seed_decides_who_is_repeated_or_left_out() -> None:
    for balance in ("oversample", "undersample"):
        assert epoch(balance, seed=1).tolist() == epoch(balance, seed=1).tolist()
        assert len({tuple(epoch(balance, seed=seed)) for seed in range(8)}) > 1


def test_undersampling_keeps_what_curate_keeps() -> None:
    stay = undersample(RARE.astype(np.uint8), pa.array(IDS.tolist()), 1.0, seed=0)
    assert epoch("undersample").tolist() == np.flatnonzero(stay).tolist()


def splits_of(make_training_set: Callable[..., str], balance: str, **trial: object) -> Splits:
    """A quarter of the 48 images of train shows `any`, an eighth `sdh` as well."""

    def label(number: int, name: str) -> int:
        return int(number % (4 if name == "any" else 8) == 0)

    data = read_training_set(make_training_set(classes=("any", "sdh"), label=label))
    return select_splits(data, TrialConfig.model_validate({"training": {"balance": balance}, **trial}))


@pytest.mark.parametrize(("target", "rare"), [("any", 12), ("sdh", 6)])
@pytest.mark.parametrize("task", ["binary", "multi_label"])
def test_the_target_is_balanced_in_train_alone(
    make_training_set: Callable[..., str], task: str, target: str, rare: int
) -> None:
    found = splits_of(make_training_set, "oversample", task=task, target=target)
    column = found.classes.index(target)
    assert len(found.epoch) == 2 * (48 - rare)
    assert found.epoch.labels[:, column].sum() == 48 - rare
    assert np.array_equal(np.unique(found.epoch.rows), found.train.rows)
    assert (np.diff(found.epoch.block_of) >= 0).all()
    assert (len(found.train), len(found.val), len(found.test)) == (48, 16, 16)


def test_examples_keep_their_own_labels(make_training_set: Callable[..., str]) -> None:
    found = splits_of(make_training_set, "undersample")
    assert np.array_equal(found.epoch.labels[:, 0], found.epoch.source.labels[found.epoch.rows, 0])
    assert found.epoch.labels.sum() * 2 == len(found.epoch) == 24
