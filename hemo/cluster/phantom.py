"""Write a synthetic head CT corpus, DICOM files and labels, on all CPUs of a cluster."""

import json
import pickle
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

import ray

from hemo.cluster.ray_data import data_context, limit_growth, set_up_decoding
from hemo.config.convert import PhantomConfig
from hemo.console import print_line, progress_bar
from hemo.digest import differences, digest_of
from hemo.errors import OutputError
from hemo.output_lock import output_lock
from hemo.storage import exists, is_temporary, join, list_files, read_json, remove, write_bytes, write_json
from hemo.synthetic.hemorrhage import Subtype
from hemo.synthetic.plan import SlicePlan, plan_corpus
from hemo.synthetic.slice_file import label_table, make_slice_file

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
        OutputError: If the folder cannot be written, is not the same on all nodes, or holds another corpus.
    """
    deciding = _deciding(config)
    if _is_complete(config.out, deciding):
        print_line(f"phantom: {config.out} is complete")
        return config.out
    plans = plan_corpus(
        slices=config.slices,
        seed=config.seed,
        positive_fraction=config.positive_fraction,
        faults=config.faults,
        corrupted_fraction=config.corrupted_fraction,
        partial_volume_fraction=config.partial_volume_fraction,
    )
    images = join(config.out, IMAGES)
    with output_lock(config.out) as require_held:
        _clear_images(images, plans)
        labels = _write_slices(plans, images)
        _require_images(images, plans)
        require_held()
        write_bytes(join(config.out, LABELS), label_table(plans, labels).encode())
        card = {"digest": digest_of(deciding), "config": deciding, **_counts(plans, labels)}
        write_json(join(config.out, CARD), card)
    return config.out


def _deciding(config: PhantomConfig) -> dict[str, Any]:
    """Return what the bytes of the corpus depend on."""
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


def _clear_images(folder: str, plans: Sequence[SlicePlan]) -> None:
    """Remove what killed writes left among the images.

    Raises:
        OutputError: If there are images that are not part of this corpus: they would become part of it.
    """
    planned = {f"{plan.identity.image}.dcm" for plan in plans}
    unknown = [file for file in list_files(folder) if file not in planned]
    if others := [file for file in unknown if not is_temporary(file)]:
        raise OutputError(
            f"out: {folder} holds {len(others)} files of another corpus, such as {others[0]}; "
            "give another folder or remove it"
        )
    for file in unknown:
        remove(join(folder, file))


def _require_images(folder: str, plans: Sequence[SlicePlan]) -> None:
    """Refuse a corpus whose files other nodes wrote to disks of their own."""
    there = set(list_files(folder))
    if missing := [plan.identity.image for plan in plans if f"{plan.identity.image}.dcm" not in there]:
        raise OutputError(
            f"out: {len(missing)} of {len(plans)} files, such as {missing[0]}.dcm, are not in {folder} after writing; "
            "give a location that all nodes can read and write, such as s3://bucket/folder"
        )


def _write_slices(plans: Sequence[SlicePlan], folder: str) -> Labels:
    """Write all files in tasks of `SLICES_A_TASK`; return the visible subtypes by image id, in the order of `plans`."""
    starts = range(0, len(plans), SLICES_A_TASK)
    chunks = [{"plans": pickle.dumps(plans[start : start + SLICES_A_TASK])} for start in starts]
    written: Labels = {}
    with data_context("phantom") as context, progress_bar("phantom", total=len(plans), unit="slice") as progress:
        limit_growth(context, tasks=len(chunks))
        dataset = ray.data.from_items(chunks, override_num_blocks=len(chunks)).map(
            partial(_write_some, folder=folder), num_cpus=1
        )
        for row in dataset.iter_rows():
            some: Labels = json.loads(row["labels"])
            written |= {image: tuple(subtypes) for image, subtypes in some.items()}
            progress.update(len(some))
    return {plan.identity.image: written[plan.identity.image] for plan in plans}


def _write_some(row: dict[str, bytes], *, folder: str) -> dict[str, str]:
    """Write the files of some plans; runs on a worker. Returns their subtypes as JSON."""
    set_up_decoding()
    labels: Labels = {}
    plans: list[SlicePlan] = pickle.loads(row["plans"])  # Arrow has no type for their dataclasses
    for plan in plans:
        file = make_slice_file(plan)
        write_bytes(join(folder, f"{file.image_id}.dcm"), file.data)
        labels[file.image_id] = file.subtypes
    return {"labels": json.dumps(labels)}


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
