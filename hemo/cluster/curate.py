"""Shards and labels to a training set: rows and splits on the driver, the copies by Ray Data in two passes."""

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray

from hemo.cluster.ray_data import data_context, limit_growth
from hemo.config.curate import SPLITS, CurateConfig
from hemo.console import print_line, print_tables, progress_bar
from hemo.corpus.labels import LabelTable, parse_labels, read_table_file
from hemo.curation.card import (
    CARD_SCHEMA_VERSION,
    ConversionCounts,
    PartFile,
    TrainingSetCard,
    read_card,
    synthetic_images,
)
from hemo.curation.copy import CopyTask, write_buckets, write_part
from hemo.curation.labelled_index import labels_for, read_index, text_column
from hemo.curation.leak_audit import equal_pixels
from hemo.curation.near_duplicates import NearDuplicates, find_near_duplicates, near_duplicate_findings, vectors_of
from hemo.curation.plan import CopyPlan, ImageLayout, layout_of, plan_copies
from hemo.curation.print_counts import count_tables, finding_lines, format_table
from hemo.curation.public_files import CROISSANT, SPLIT_MANIFEST, croissant, images_of, split_manifest
from hemo.curation.select import Selection, select, training_set_digest
from hemo.curation.split import target_column
from hemo.digest import differences, digest_of
from hemo.errors import HemoError, OutputError, SourceError, reason_of
from hemo.output_lock import output_lock
from hemo.pseudonym import Pseudonymiser, matching_pseudonyms
from hemo.shards.card import ConversionCard
from hemo.shards.card import read_card as read_conversion_card
from hemo.shards.embeddings import read_card as read_embeddings_card
from hemo.shards.schema import SCHEMA_VERSION
from hemo.shards.writer import write_table
from hemo.storage import exists, is_temporary, join, list_files, read_bytes, remove, write_bytes, write_json

BUCKETS = ".buckets"
"""Folder below the training set for what lies between the two passes."""

AUDIT = "audit.parquet"
"""File beside the card that lists every image of equal pixels, see `equal_pixel_table`."""

NEAR_DUPLICATES = "near_duplicates.parquet"
"""File beside the card that lists pairs of similar images of different patients, see `find_near_duplicates`."""

PART = "part"
"""Column with the part that a task's rows belong to."""

_PART_FILE = re.compile(r"part-\d{6}\.parquet")


def curate_corpus(config: CurateConfig) -> str:
    """Make a training set; one that is complete is left alone.

    Call it within `connected`.

    Returns:
        The training set's folder: `{train,val,test}/part-*.parquet`, `audit.parquet`, with embeddings
        `near_duplicates.parquet`, `split_manifest.csv`, `croissant.json` and `card.json`.

    Raises:
        UserError: If shards or labels are missing or wrong, `out` belongs to something else or holds a training set
            of other images, a split is empty, or train shows one class only.
        SplitError: If a linked patient would stand in two splits.
    """
    inputs = read_inputs(config)
    if card := _complete_card(config, inputs.digest):
        if card.dataset != config.dataset:
            with output_lock(config.out) as require_held:
                require_held()
                _write_cards(config.out, card.model_copy(update={"dataset": config.dataset}))
        print_line(f"curate: {config.out} is complete")
        return config.out
    with output_lock(config.out, SPLITS) as require_held:
        outdated = _left_over(config.out)
        draft = draft_training_set(config, inputs)
        _require_images_in_common(config.out, draft.manifest)
        require_held()
        for name in outdated:
            remove(join(config.out, name))
        parts = _copy(config, draft.plan, draft.card.classes)
        require_held()
        remove(join(config.out, BUCKETS))
        write_table(join(config.out, AUDIT), draft.evidence)
        if draft.near_duplicates is not None:
            write_table(join(config.out, NEAR_DUPLICATES), draft.near_duplicates)
        write_bytes(join(config.out, SPLIT_MANIFEST), draft.manifest)
        require_held()
        _write_cards(config.out, draft.card.model_copy(update={"parts": parts}))
    _show(draft.card)
    return config.out


def _write_cards(out: str, card: TrainingSetCard) -> None:
    """Write the card for other people's tools and, last, the card that makes the set complete."""
    write_json(join(out, CROISSANT), croissant(card))
    write_json(join(out, "card.json"), card.model_dump(mode="json"))


@dataclass(frozen=True)
class Inputs:
    """What a training set is made of, read but for the images."""

    conversion: ConversionCard
    index: pa.Table
    label_location: str  # empty for `source_class`
    label_file: bytes
    pseudonyms: Pseudonymiser
    vectors: NDArray[np.float32] | None  # of each image of the index, if there are embeddings
    digest: str  # what a finished card must carry


@dataclass(frozen=True)
class Draft:
    """A training set before any image is copied."""

    plan: CopyPlan
    card: TrainingSetCard
    evidence: pa.Table  # what becomes `AUDIT`
    near_duplicates: pa.Table | None  # what becomes `NEAR_DUPLICATES`, if there are embeddings
    manifest: bytes  # what becomes `SPLIT_MANIFEST`


def read_inputs(config: CurateConfig) -> Inputs:
    """Read index, cards and label file.

    Raises:
        UserError: If one is missing or damaged, or they do not belong together.
    """
    conversion = read_conversion_card(config.shards)
    index = read_index(config.shards)
    if len(index) != conversion.rows:
        counts = f"{len(index)} rows, card.json counts {conversion.rows}"
        raise SourceError(f"{config.shards}: index.parquet has {counts}; run `hemo convert` again")
    made_with, joins = conversion.image.get("key_fingerprint", ""), config.labels not in ("source_class", "manifest")
    pseudonyms = matching_pseudonyms(config.pseudonym_key, config.shards, made_with, joins=joins)
    location, label_file = _label_file(config, conversion)
    digest = _inputs_digest(config, conversion, label_file, pseudonyms)
    vectors = vectors_of(config.embeddings, config.shards, conversion.digest, index) if config.embeddings else None
    return Inputs(conversion, index, location, label_file, pseudonyms, vectors, digest)


def draft_training_set(config: CurateConfig, inputs: Inputs) -> Draft:
    """Choose rows and splits, plan the copies, and write the card; all in memory, nothing is stored.

    Raises:
        UserError: If labels do not fit, a split is empty, or train shows one class only.
        SplitError: If a linked patient would stand in two splits.
    """
    labels = labels_for(inputs.index, _label_table(config, inputs), inputs.pseudonyms)
    selection = select(config, inputs.index, labels)
    layout = layout_of(inputs.conversion, config.neighbours)
    plan = plan_copies(selection, layout, part_rows=config.part_rows, seed=config.seed)
    manifest = _manifest(selection)
    card = _card(config, inputs, selection, plan)
    described: dict[str, Any] = {"split_digest": hashlib.sha256(manifest).hexdigest(), "dataset": config.dataset}
    similar = _near_duplicates(config, inputs, selection)
    if similar is not None:
        described["audit"] = {**card.audit, **near_duplicate_findings(similar, config.near_duplicate_cosine)}
    table = similar.table if similar else None
    return Draft(plan, card.model_copy(update=described), selection.evidence, table, manifest)


def _near_duplicates(config: CurateConfig, inputs: Inputs, selection: Selection) -> NearDuplicates | None:
    """Return the similar images of different patients, None without embeddings."""
    if inputs.vectors is None:
        return None
    placed, pixels = (selection.chosen, selection.splits), equal_pixels(inputs.index)
    return find_near_duplicates(selection.rows, placed, pixels, inputs.vectors, config.near_duplicate_cosine)


def _manifest(selection: Selection) -> bytes:
    image_ids, digests = (selection.rows.index[name].take(selection.chosen) for name in ("image_id", "pixel_digest"))
    names = [SPLITS[split] for split in selection.splits.tolist()]
    return split_manifest(image_ids.combine_chunks(), digests.combine_chunks(), names)


def _show(card: TrainingSetCard) -> None:
    """Print the counts and the leak audit on standard error."""
    print_tables(count_tables(card), format_table(card))
    for line in finding_lines(card):
        print_line(f"- {line}")


def _label_file(config: CurateConfig, conversion: ConversionCard) -> tuple[str, bytes]:
    """Return location and content of the table of labels; for `source_class` both are empty."""
    if config.labels == "source_class":
        return "", b""
    if config.labels == "manifest":
        return _file_table(config.shards, conversion)
    return config.labels, read_table_file(config.labels, "labels")


def _file_table(shards: str, conversion: ConversionCard) -> tuple[str, bytes]:
    """Return location and content of the table of files that shards were converted from.

    Raises:
        SourceError: If they were made of something else, or under a key; or the table has moved or changed since.
    """
    table = conversion.file_table
    if table is None:
        keyed = conversion.image.get("key_fingerprint") and conversion.image.get("corpus") == "manifest"
        why = "does not name its table, as it holds pseudonyms" if keyed else "was not converted from a table of files"
        cure = "the table and --pseudonym_key FILE" if keyed else "a CSV or Parquet file"
        raise SourceError(f"labels: {shards} {why}; give {cure} instead of `manifest`")
    try:
        content = read_bytes(table.location)
    except OSError as error:
        raise SourceError(
            f"labels: {table.location}, from which {shards} was converted: {reason_of(error)}; give the table where "
            "it is now, --labels FILE"
        ) from error
    if hashlib.sha256(content).hexdigest() != table.sha256:
        raise SourceError(
            f"labels: {table.location} has changed since {shards} was converted from it; if its labels are right now, "
            f"give --labels {table.location}; if files were added, run `hemo convert` again"
        )
    return table.location, content


def _label_table(config: CurateConfig, inputs: Inputs) -> LabelTable | None:
    """Return the table of labels, None for `source_class`."""
    if config.labels == "source_class":
        return None
    table = parse_labels(inputs.label_file, inputs.label_location, key=config.label_key, columns=config.label_columns)
    if table.unused_columns:
        print_line(f"curate: columns of the labels that are not used: {', '.join(table.unused_columns)}")
    return table


def _inputs_digest(
    config: CurateConfig, conversion: ConversionCard, label_file: bytes, pseudonyms: Pseudonymiser
) -> str:
    """Return what a finished card must carry. The index counts as well: a file may have changed under its name.

    Under a key it is a pseudonym itself: else a guess at the names in the label file could be verified by it.
    """
    files = [label_file, read_bytes(join(config.shards, "index.parquet"))]
    content = {
        "schema": CARD_SCHEMA_VERSION,
        "config": _deciding(config),
        "conversion": conversion.digest,
        "files": [hashlib.sha256(file).hexdigest() for file in files],
    }
    if config.embeddings:
        content["embeddings"] = read_embeddings_card(config.embeddings).inputs
    return pseudonyms("inputs", digest_of(content))[:16]


def _deciding(config: CurateConfig) -> dict[str, Any]:
    """Return the config without what leaves the training set as it is: where its inputs lie is no part of them."""
    unused = set() if config.embeddings else {"near_duplicate_cosine"}
    located = {"shards", "labels", "embeddings", "pseudonym_key", "out"}
    return config.model_dump(mode="json", exclude={*located, *unused, "dataset", "cluster"})


def _complete_card(config: CurateConfig, inputs: str) -> TrainingSetCard | None:
    """Return the card if `out` holds this training set; None as well if only its labels or shards have changed since.

    Raises:
        OutputError: If `out` holds a training set of another config, or something else with a card.
    """
    if not exists(join(config.out, "card.json")):
        return None
    try:
        card = read_card(config.out)
    except SourceError as error:
        raise OutputError(f"out: {config.out} holds the card of something else; give another folder") from error
    if differing := differences(card.config, _deciding(config)):
        raise OutputError(f"out: {config.out} holds a training set made otherwise ({differing}); give another folder")
    return card if card.inputs_digest == inputs else None


def _require_images_in_common(out: str, manifest: bytes) -> None:
    """Refuse to replace a training set of another corpus; `manifest` is the content of `SPLIT_MANIFEST` to be.

    Raises:
        OutputError: If `out` holds a training set that has no image in common with it.
    """
    location = join(out, SPLIT_MANIFEST)
    if not exists(location) or not images_of(read_bytes(location)).isdisjoint(images_of(manifest)):
        return
    shards = read_card(out).config.get("shards") if exists(join(out, "card.json")) else None
    source = f" (shards {shards})" if shards else ""
    raise OutputError(f"out: {out} holds a training set of other images{source}; give another folder")


def _left_over(out: str) -> list[str]:
    """Return what an interrupted or outdated run left in `out`, the card first: all of it is made anew.

    Raises:
        OutputError: If a split folder holds files that curate did not write.
    """
    paths = [f"{split}/{name}" for split in SPLITS for name in list_files(join(out, split))]
    names = [(path, path.split("/", 1)[1]) for path in paths]
    foreign = [path for path, base in names if not (_PART_FILE.fullmatch(base) or is_temporary(base))]
    if foreign:
        raise OutputError(f"out: {out} holds {foreign[0]}, which no training set has; give another folder")
    return ["card.json", CROISSANT, SPLIT_MANIFEST, AUDIT, NEAR_DUPLICATES, *paths, BUCKETS]


def _copy(config: CurateConfig, plan: CopyPlan, classes: tuple[str, ...]) -> tuple[PartFile, ...]:
    """Copy the images of a plan: every shard to buckets, then every part from them; return the parts.

    The buckets are left to the caller to remove.

    What a task holds in memory is bounded whatever the size of the set, see `write_buckets` and `write_part`.

    Image bytes go from file to file; the object store sees tables of integers and the columns of the index.
    """
    footer = _footer(plan.layout, classes)
    task = CopyTask(config.shards, join(config.out, BUCKETS), config.out, plan.layout, footer)
    copies = list(plan.copies_by_read())
    _run("shard", _bucket_task, copies, task=task)
    numbered = [_numbered(rows, part) for part, rows in enumerate(plan.rows)]
    written = _run("part", _part_task, numbered, task=task, paths=plan.parts, reads=len(copies))
    return tuple(sorted((PartFile.model_validate_json(part) for part in written), key=lambda part: part.path))


def _numbered(rows: pa.Table, part: int) -> pa.Table:
    return rows.append_column(pa.field(PART, pa.int32()), pa.array(np.full(len(rows), part, np.int32)))


def _run(unit: str, work: Callable[..., pa.Table], tables: Sequence[pa.Table], **shared: Any) -> list[str]:
    """Call `work` with each table in a Ray Data task of its own, with progress in `unit`s on standard error.

    Returns:
        What each task has in its column `done`, in any order.

    Raises:
        HemoError: What a task raised on purpose, or that it was lost.
    """
    with data_context("curate") as context, progress_bar("curate", total=len(tables), unit=unit) as progress:
        limit_growth(context, tasks=len(tables))
        dataset = ray.data.from_arrow(list(tables)).map_batches(
            work, batch_size=None, batch_format="pyarrow", zero_copy_batch=True, num_cpus=1, fn_kwargs=shared
        )
        done = []
        for row in dataset.iter_rows():
            done.append(row["done"])
            progress.update()
    if len(done) != len(tables):
        raise HemoError(f"curate: {len(done)} of {len(tables)} copies came back; run it again")
    return done


def _bucket_task(copies: pa.Table, *, task: CopyTask) -> pa.Table:
    """Fill the buckets from a piece of one shard; runs on a worker."""
    write_buckets(task, copies)
    return pa.table({"done": [""]})


def _part_task(rows: pa.Table, *, task: CopyTask, paths: Sequence[str], reads: int) -> pa.Table:
    """Write one part and return its description; runs on a worker."""
    part = int(rows[PART][0].as_py())
    return pa.table({"done": [write_part(task, part, paths[part], rows.drop_columns([PART]), reads).model_dump_json()]})


def _footer(layout: ImageLayout, classes: tuple[str, ...]) -> str:
    """Return the metadata of each part: enough to read its images without the card."""
    facts = {
        "schema_version": SCHEMA_VERSION,
        "channels": layout.all_channels,
        "dtype": layout.dtype,
        "height_px": layout.height_px,
        "width_px": layout.width_px,
        "classes": classes,
    }
    return json.dumps(facts, separators=(",", ":"))


def _balanced_by(config: CurateConfig, selection: Selection) -> str:
    """Return the class whose negatives were left out of train; empty if none were."""
    classes = selection.rows.classes
    removed = sum(step.removed for step in selection.steps if step.name == "balance")
    return classes[target_column(classes, config.balance.target)] if removed else ""


def _card(config: CurateConfig, inputs: Inputs, selection: Selection, plan: CopyPlan) -> TrainingSetCard:
    image = {**inputs.conversion.image, "neighbours": config.neighbours}
    # under a key the folders of the inputs stay unnamed: they may be named after a patient
    unnamed = {"shards", "labels", "embeddings"} if image.get("key_fingerprint") else set()
    rows, layout = selection.rows, plan.layout
    return TrainingSetCard(
        digest=training_set_digest(selection, image),
        inputs_digest=inputs.digest,
        config=config.model_dump(mode="json", exclude={"pseudonym_key", "out", "dataset", "cluster", *unnamed}),
        image=image,
        classes=rows.classes,
        channels=layout.all_channels,
        dtype=layout.dtype,
        height_px=layout.height_px,
        width_px=layout.width_px,
        split=config.split_name,
        splits={name: rows.count(selection.chosen[selection.splits == number]) for number, name in enumerate(SPLITS)},
        conversion=ConversionCounts(**inputs.conversion.model_dump(include=set(ConversionCounts.model_fields))),
        before_balance=selection.before_balance,
        balanced_by=_balanced_by(config, selection),
        steps=selection.steps,
        findings=selection.findings,
        audit={**selection.audit, **({"stacks": plan.stacks} if plan.stacks else {})},
        reductions=selection.reductions,
        synthetic_images=synthetic_images(text_column(rows.index, "scanner").take(pa.array(selection.chosen))),
    )
