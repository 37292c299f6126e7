"""The resident feed."""

from collections.abc import Callable

import numpy as np
import pytest
import ray

from hemo.cluster.feed import get_training_set, put_training_set, stored_bytes
from hemo.curation.card import read_card
from hemo.errors import HemoError
from hemo.learning.images import read_training_set


@pytest.mark.usefixtures("ray_cluster")
def test_what_comes_out_is_what_was_read_without_a_copy(make_training_set: Callable[..., str]) -> None:
    folder = make_training_set(channels=("brain", "bone"))
    resident = put_training_set(folder)
    found, again, read = get_training_set(resident), get_training_set(resident), read_training_set(folder)
    np.testing.assert_array_equal(found.train.images.pixels, read.train.images.pixels)
    np.testing.assert_array_equal(found.test.patient, read.test.patient)
    assert found.card == read.card
    assert not found.train.images.pixels.flags.writeable
    assert np.shares_memory(found.train.images.pixels, again.train.images.pixels)


def test_stored_bytes_by_hand(make_training_set: Callable[..., str]) -> None:
    assert stored_bytes(read_card(make_training_set(channels=("brain", "bone")))) == (48 + 16 + 16) * 2 * 16 * 16


def test_a_set_larger_than_any_store_is_refused(
    make_training_set: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The 20,480 bytes of images are one too many."""
    small = {"Alive": True, "Resources": {"object_store_memory": 20_479.0}}
    gone = {"Alive": False, "Resources": {"object_store_memory": 1e12}}
    monkeypatch.setattr(ray, "nodes", lambda: [small, gone])
    with pytest.raises(
        HemoError, match="start Ray with a larger --object-store-memory, give --feed streaming, or curate"
    ):
        put_training_set(make_training_set(), "resident")
