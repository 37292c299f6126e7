"""Share a training set between trials: loaded once into Ray's object store, or streamed by each where it is large."""

from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import GetTimeoutError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from hemo.config.trial import TrialConfig
from hemo.config.tune import Feed
from hemo.console import print_line
from hemo.curation.card import TrainingSetCard, read_card
from hemo.errors import HemoError, UserError
from hemo.storage import size_text
from hemo.training.data.dataset import TrialData, read_split
from hemo.training.data.examples import ImageSet

FRACTION_OF_STORE = 0.8
"""Of an object store, what `auto` fills with images at most: Ray moves what is over to disk, and keeps more in it."""

LOST_AFTER_S = 60.0
"""How long a split is waited for until it is read again: the node that held it may be gone.

Ray would read it again by itself, in a task that waits for a CPU; trials that wait for the split may hold them all.
"""


@dataclass(frozen=True)
class SharedTrainingSet:
    """References to a training set's splits, small enough to be sent to every trial; valid while this process lives.

    Labels and identities are resident always, pixels only where they are not streamed.
    """

    folder: str
    card: TrainingSetCard
    streaming: bool
    train: "ray.ObjectRef[ImageSet]"
    val: "ray.ObjectRef[ImageSet]"
    test: "ray.ObjectRef[ImageSet]"


def put_training_set(training_set: str, feed: Feed) -> SharedTrainingSet:
    """Put a training set into the object store, each split read by one task on whichever node has a free CPU.

    Args:
        training_set: Output folder of `curate`. Where it is streamed every node must see it.
        feed: Whether with its pixels; `auto` prints its choice on standard error.

    Raises:
        SourceError: If the folder is no finished training set or a part does not fit its card.
        HemoError: If it is to be resident and does not fit any node's object store.
    """
    card = read_card(training_set)
    streaming = feed == "streaming" or not _is_resident(training_set, card, feed)
    anywhere = _read_split.options(scheduling_strategy="DEFAULT")  # not in the placement group of the caller
    train, val, test = _read_splits(anywhere, training_set, card, streaming)
    return SharedTrainingSet(training_set, card, streaming, train, val, test)


def feed_of(trial: TrialConfig, feed: Feed) -> Feed:
    """Return how a trial's images are fed: a sequence model reads embeddings, pixels would lie there for nothing."""
    return "streaming" if trial.model.is_sequence else feed


def get_training_set(shared: SharedTrainingSet) -> TrialData:
    """Return the set's arrays, read-only views of this node's object store: no copy, whatever the number of trials.

    Raises:
        UserError: If a split has to be read again and cannot be.
    """
    try:
        train, val, test = ray.get([shared.train, shared.val, shared.test], timeout=LOST_AFTER_S)
    except GetTimeoutError:
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        without_cpu = _read_split.options(scheduling_strategy=here, num_cpus=0)
        train, val, test = ray.get(_read_splits(without_cpu, shared.folder, shared.card, shared.streaming))
    return TrialData(shared.card, train, val, test)


def _read_splits(task: Any, training_set: str, card: TrainingSetCard, streaming: bool) -> list[Any]:
    """Return references to the three splits, each read by one task, once all are read."""
    read = [task.remote(training_set, split, card, streaming) for split in ("train", "val", "test")]
    for problem in ray.get([problem for _, problem in read]):
        if problem is not None:
            raise problem
    return [images for images, _ in read]


def stored_bytes(card: TrainingSetCard) -> int:
    """Return the size of all images of a set, uint8."""
    rows = sum(split.rows for split in card.splits.values())
    return rows * len(card.channels) * card.height_px * card.width_px


def _is_resident(training_set: str, card: TrainingSetCard, feed: Feed) -> bool:
    """Return whether images go into the object store: if configured so, or if they fit."""
    needed, capacity = stored_bytes(card), _largest_store_bytes()
    sizes = (
        f"{training_set} takes {size_text(needed)}, the largest object store of Ray's nodes has {size_text(capacity)}"
    )
    if feed == "auto":
        fits = needed <= FRACTION_OF_STORE * capacity
        print_line(f"feed: {'resident' if fits else 'streaming'} ({sizes})")
        return fits
    if needed > capacity:
        raise HemoError(
            f"{sizes}; start Ray with a larger --object-store-memory, give --feed streaming, or curate a subset"
        )
    return True


def _largest_store_bytes() -> int:
    nodes = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    return max(int(node["Resources"].get("object_store_memory", 0)) for node in nodes)


@ray.remote(num_returns=2)
def _read_split(
    training_set: str, split: str, card: TrainingSetCard, streaming: bool
) -> tuple[ImageSet | None, UserError | None]:
    """Return a split, or the user's error: raised, it would come as Ray's error with a traceback in its text."""
    try:
        return read_split(training_set, split, card, streaming=streaming), None
    except UserError as error:
        return None, error
