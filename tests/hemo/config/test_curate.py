"""Refused configs of `curate`."""

from typing import Any

import pytest
from pydantic import ValidationError

from hemo.config.curate import CurateConfig


def config(**more: Any) -> CurateConfig:
    return CurateConfig(shards="/s", labels="source_class", out="/o", **more)


def test_the_name_of_a_split_has_the_fold():
    assert config(split="folds", folds=10, fold=3).split_name == "fold 3 of 10 by patient"
    assert config(split="by_image").split_name == "by_image"


def test_a_fold_without_folds_is_refused():
    """Else a loop over `--fold` alone would make the same set five times."""
    with pytest.raises(ValidationError, match="fold and folds need `split: folds`, and split is by_patient; give"):
        config(split="by_patient", fold=2)


def test_folds_begin_at_one_and_end_at_their_number():
    assert config(split="folds", folds=4, fold=4).fold == 4
    with pytest.raises(ValidationError, match="fold 6 must be 1 to 5; give one of these, or more folds"):
        config(split="folds", fold=6)
    with pytest.raises(ValidationError, match="greater than 0"):
        config(split="folds", fold=0)


def test_two_folds_leave_nothing_to_train_on():
    with pytest.raises(ValidationError, match="greater than or equal to 3"):
        config(split="folds", folds=2)
