"""Write a synthetic corpus on all CPUs of a cluster."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import ray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from hemo.config.digest import differences, digest_of
from hemo.config.phantom import PhantomConfig
from hemo.corpus.phantom.hemorrhage import Subtype
from hemo.corpus.phantom.plan import SlicePlan, plan_corpus
from hemo.corpus.phantom.slice_file import label_table, make_slice_file
from hemo.errors import OutputError
from hemo.storage import exists, join, list_files, read_json, require_writable, write_bytes, write_json

VERSION = 1
"""Of what a plan looks like as bytes. Raised when the same config gives another corpus."""

IMAGES, LABELS, CARD = "stage_2_train", "stage_2_train.csv", "phantom.json"
SLICES_A_TASK = 25

Labels = dict[str, tuple[Subtype, ...]]


def make_phantom(config: PhantomConfig) -> str:
    """Write `stage_2_train/ID_*.dcm`, `stage_2_train.csv` and, last, `phantom.json` below `config.out`.

    The bytes depend on the config alone, not on the cluster. A corpus that is complete is left as it is; one that was
    interrupted is written again.

    Returns:
        The folder of the corpus.

    Raises:
        OutputError: If the folder cannot be written, or holds another corpus.
    """
    deciding = _deciding(config)
    if _is_complete(config.out, deciding):
        return config.out
    require_writable(config.out)
    plans = plan_corpus(
        slices=config.slices, seed=config.seed, positive_fraction=config.positive_fraction, traps=config.traps
    )
    _refuse_other_files(config.out, plans)
    labels = _write_slices(plans, join(config.out, IMAGES))
    write_bytes(join(config.out, LABELS), label_table(plans, labels).encode())
    write_json(join(config.out, CARD), {"digest": digest_of(deciding), "config": deciding, **_counts(plans, labels)})
    return config.out


def _deciding(config: PhantomConfig) -> dict[str, Any]:
    """Return what decides the bytes."""
    return {"version": VERSION, **config.model_dump(mode="json", exclude={"out", "cluster"})}


def _is_complete(out: str, deciding: dict[str, Any]) -> bool:
    """Tell whether `out` already holds this corpus.

    Raises:
        OutputError: If it holds a corpus of another config.
    """
    if not exists(join(out, CARD)):
        return False
    card = read_json(join(out, CARD))
    there = card.get("config") if isinstance(card, dict) else None
    if not isinstance(there, dict):
        raise OutputError(f"out: {join(out, CARD)} is no card of a phantom; give another folder or remove it")
    if differing := differences(there, deciding):
        raise OutputError(
            f"out: {out} holds a corpus of another config ({differing}); give another folder or remove it"
        )
    return True


def _refuse_other_files(out: str, plans: Sequence[SlicePlan]) -> None:
    """Refuse a folder with images that are not part of this corpus: they would become part of it."""
    planned = {f"{plan.identity.image}.dcm" for plan in plans}
    others = [file for file in list_files(join(out, IMAGES)) if file not in planned]
    if others:
        raise OutputError(
            f"out: {join(out, IMAGES)} holds {len(others)} files of another corpus, such as {others[0]}; "
            "give another folder or remove it"
        )


def _write_slices(plans: Sequence[SlicePlan], folder: str) -> Labels:
    """Write all files in tasks of `SLICES_A_TASK`; return the visible subtypes by image id, in the order of `plans`."""
    starts = range(0, len(plans), SLICES_A_TASK)
    tasks = [_write_some.remote(plans[start : start + SLICES_A_TASK], folder) for start in starts]
    columns = TextColumn("phantom"), BarColumn(), MofNCompleteColumn(), TextColumn("slices"), TimeRemainingColumn()
    written: Labels = {}
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("phantom", total=len(plans))
        for some in _as_they_finish(tasks):
            written |= some
            progress.update(bar, completed=len(written))
    return {plan.identity.image: written[plan.identity.image] for plan in plans}


def _as_they_finish(tasks: list["ray.ObjectRef[Labels]"]) -> Iterator[Labels]:
    while tasks:
        done, tasks = ray.wait(tasks, num_returns=1)
        yield ray.get(done[0])


@ray.remote
def _write_some(plans: Sequence[SlicePlan], folder: str) -> Labels:
    cv2.setNumThreads(1)  # Ray gave this task one CPU
    labels: Labels = {}
    for plan in plans:
        file = make_slice_file(plan)
        write_bytes(join(folder, f"{file.image_id}.dcm"), file.data)
        labels[file.image_id] = file.subtypes
    return labels


def _counts(plans: Sequence[SlicePlan], labels: Labels) -> dict[str, Any]:
    """Return what the corpus holds, for the card."""
    subtypes = Counter(subtype for seen in labels.values() for subtype in seen)
    return {
        "slices": len(plans),
        "patients": len({plan.identity.patient for plan in plans}),
        "studies": len({plan.identity.study for plan in plans}),
        "positive": {"any": sum(bool(seen) for seen in labels.values()), **dict(sorted(subtypes.items()))},
        "faults": dict(sorted(Counter(plan.fault for plan in plans if plan.fault).items())),
    }
