"""The resident feed: a training set loaded once into Ray's object store and shared by all trials without a copy."""

from dataclasses import dataclass

import ray

from hemo.curation.card import TrainingSetCard, read_card
from hemo.errors import HemoError
from hemo.learning.images import ImageSet, TrialData, read_split


@dataclass(frozen=True)
class ResidentSet:
    """References to a training set's splits, small enough to travel to every trial; valid while this process lives."""

    card: TrainingSetCard
    train: "ray.ObjectRef[ImageSet]"
    val: "ray.ObjectRef[ImageSet]"
    test: "ray.ObjectRef[ImageSet]"


def put_training_set(training_set: str) -> ResidentSet:
    """Load a training set into the object store, each split by one task on whichever node has a free CPU.

    Raises:
        SourceError: If the folder is no finished training set or a part does not fit its card.
        HemoError: If it does not fit any node's object store.
    """
    card = read_card(training_set)
    needed, capacity = stored_bytes(card), _largest_store_bytes()
    if needed > capacity:
        raise HemoError(
            f"{training_set} takes {needed / 2**30:.1f} GiB, the largest object store of Ray's nodes has "
            f"{capacity / 2**30:.1f} GiB; start Ray with a larger --object-store-memory, or curate a subset"
        )
    anywhere = _read_split.options(scheduling_strategy="DEFAULT")  # not within the caller's own placement group
    refs = [anywhere.remote(training_set, split, card) for split in ("train", "val", "test")]
    ray.wait(refs, num_returns=len(refs), fetch_local=False)
    return ResidentSet(card, *refs)


def get_training_set(resident: ResidentSet) -> TrialData:
    """Return the set's arrays, read-only views of this node's object store: no copy, whatever the number of trials."""
    train, val, test = ray.get([resident.train, resident.val, resident.test])
    return TrialData(resident.card, train, val, test)


def stored_bytes(card: TrainingSetCard) -> int:
    """Return the size of all images of a set, uint8."""
    rows = sum(split.rows for split in card.splits.values())
    return rows * len(card.channels) * card.height_px * card.width_px


def _largest_store_bytes() -> int:
    nodes = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    return max(int(node["Resources"].get("object_store_memory", 0)) for node in nodes)


@ray.remote
def _read_split(training_set: str, split: str, card: TrainingSetCard) -> ImageSet:
    return read_split(training_set, split, card)
