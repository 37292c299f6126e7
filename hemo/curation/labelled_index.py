"""Join the index of a conversion with its labels, as arrays."""

import io
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash
from numpy.typing import NDArray

from hemo.corpus.labels import NULL_LABEL, LabelTable
from hemo.curation.card import Count
from hemo.errors import LabelError, SourceError
from hemo.pseudonym import Pseudonymiser
from hemo.shards.schema import SHARD_INDEX_SCHEMA
from hemo.storage import exists, join, read_bytes


@dataclass(frozen=True)
class Rows:
    """Images with labels and patients. The first axis of all arrays is the row of the index.

    Attributes:
        index: Columns of `SHARD_INDEX_SCHEMA`, each one chunk.
        classes: Class names.
        labels: Shape (rows, classes), uint8: 0, 1 or `NULL_LABEL`.
        labelled: Shape (rows,), bool: whether the label table holds the image.
        patient: Shape (rows,), int: number of the patient; an image without one counts as its own patient.
        patient_names: Name of each patient, `patient P` or `image I`, unique.
        matched_keys: Rows of the label table that fit an image; by path one may fit every frame of a file.
    """

    index: pa.Table
    classes: tuple[str, ...]
    labels: NDArray[np.uint8]
    labelled: NDArray[np.bool_]
    patient: NDArray[np.int64]
    patient_names: pa.StringArray
    matched_keys: int

    def label_columns(self, chosen: NDArray[np.int64]) -> dict[str, pa.Array]:
        """Return `label_NAME` -> uint8, nullable, of the rows whose numbers are `chosen`."""
        labels = self.labels[chosen]
        return {
            f"label_{name}": pa.array(values, pa.uint8(), mask=values == NULL_LABEL)
            for name, values in zip(self.classes, labels.T, strict=True)
        }

    def count(self, chosen: NDArray[np.int64]) -> Count:
        """Count the rows whose numbers are `chosen`."""
        positives = (self.labels[chosen] == 1).sum(axis=0).tolist()
        formats: Any = pc.value_counts(text_column(self.index, "pixel_format").take(chosen))
        return Count(
            rows=len(chosen),
            patients=len(np.unique(self.patient[chosen])),
            positives=dict(zip(self.classes, positives, strict=True)),
            pixel_formats=dict(sorted((entry["values"], entry["counts"]) for entry in formats.to_pylist())),
        )


def read_index(shards: str) -> pa.Table:
    """Return the index of a conversion, each column one chunk.

    Args:
        shards: Output folder of `convert`.

    Raises:
        SourceError: If it is missing, empty, or lacks a column.
    """
    location = join(shards, "index.parquet")
    if not exists(location):
        raise SourceError(f"{location} does not exist; run `hemo convert` again, it rebuilds the index from the shards")
    table = pq.read_table(io.BytesIO(read_bytes(location)))
    missing = [name for name in SHARD_INDEX_SCHEMA.names if name not in table.column_names]
    if missing:
        raise SourceError(f"{location} lacks the columns {', '.join(missing)}; run `hemo convert` again")
    if not table.num_rows:
        raise SourceError(f"{location} has no rows: every input was rejected; the reasons are in rejects.parquet")
    return table.select(SHARD_INDEX_SCHEMA.names).cast(SHARD_INDEX_SCHEMA).combine_chunks()


def join_labels(index: pa.Table, table: LabelTable, *, within: pa.StringArray | None = None) -> Rows:
    """Look up the labels of the images, each by its image_id or, where that does not occur in the table, by its path.

    Args:
        index: As `read_index` returns it.
        table: Labels.
        within: Shape (rows,), null-free: patients with different values here are different, even with the same name.

    Raises:
        LabelError: If no image has a label.
    """
    by_id, by_path = (
        pc.index_in(text_column(index, name), value_set=table.keys) for name in ("image_id", "source_path")
    )
    positions = pc.coalesce(by_id, by_path)
    if positions.null_count == len(positions):
        ours, theirs = index["image_id"][0].as_py(), table.keys[0].as_py()
        raise LabelError(
            f"labels: none matches an image: image ids are like {ours!r}, label keys like {theirs!r}; give a table "
            "keyed by image_id or by the path below the source"
        )
    labelled = positions.is_valid().to_numpy(zero_copy_only=False)
    labels = table.values[positions.fill_null(0).to_numpy()]
    labels[~labelled] = NULL_LABEL
    patient, names = _number_patients(index, within)
    return Rows(index, table.classes, labels, labelled, patient, names, pc.count_distinct(positions).as_py())


def pseudonymise_keys(table: LabelTable, index: pa.Table, pseudonyms: Pseudonymiser) -> LabelTable:
    """Return a label table of true names as one of pseudonyms, as `convert` makes them.

    Args:
        table: Labels keyed by image id, `NAME#FRAME` for frames, or by path.
        index: As `read_index` returns it.
        pseudonyms: With the key of the conversion.

    Raises:
        LabelError: If no key's pseudonym is in the index.
    """
    names = [str(name) for name in table.keys.to_pylist()]
    of_images, of_paths = (
        pa.array([_pseudonym(pseudonyms, kind, name) for name in names], pa.string()) for kind in ("image", "path")
    )
    by_path = pc.is_in(of_paths, value_set=text_column(index, "source_path"))
    if pc.or_(by_path, pc.is_in(of_images, value_set=text_column(index, "image_id"))).true_count:
        return replace(table, keys=pc.if_else(by_path, of_paths, of_images))
    raise LabelError(
        f"labels: none of the {len(names)} keys matches an image under its pseudonym; "
        "a key is a path relative to the source of `convert`, with or without its ending"
    )


def _pseudonym(pseudonyms: Pseudonymiser, kind: str, name: str) -> str:
    """Return the pseudonym of an image id or a path; the number of a frame stays readable."""
    stem, mark, frame = name.rpartition("#")
    if kind == "image" and stem and frame.isdecimal():
        return f"{pseudonyms(kind, stem)}{mark}{frame}"
    return pseudonyms(kind, name)


def _number_patients(index: pa.Table, within: pa.StringArray | None) -> tuple[NDArray[np.int64], pa.StringArray]:
    """Return each row's patient number and the patients' names."""
    joined: Any = pc.binary_join_element_wise  # its stubs lack scalars
    named = joined("patient" if within is None else within, text_column(index, "patient"), " ")
    encoded = pc.coalesce(named, joined("image", text_column(index, "image_id"), " ")).dictionary_encode()
    return encoded.indices.to_numpy().astype(np.int64), cast(pa.StringArray, encoded.dictionary)


def text_column(table: pa.Table, name: str) -> pa.StringArray:
    """Return a string column of one chunk as an array."""
    column: Any = table[name].combine_chunks()
    return cast(pa.StringArray, column)


def has_flag(index: pa.Table, flags: Collection[str]) -> NDArray[np.bool_]:
    """Return for each row whether it has any of `flags`; shape (rows,)."""
    lists = index["flags"].combine_chunks()
    matches = pc.is_in(pc.list_flatten(lists), value_set=pa.array(sorted(flags), pa.string()))
    marked = np.zeros(len(lists), bool)
    marked[pc.list_parent_indices(lists).filter(matches).to_numpy()] = True
    return marked


def hash_texts(texts: pa.StringArray, purpose: str, seed: int) -> NDArray[np.uint64]:
    """Return a number of each text that depends on the text, the purpose and the seed only.

    xxh3-64 of the text's UTF-8 bytes, seeded with xxh3-64 of `purpose:seed`: uniform in 0 .. 2^64 - 1, and different
    purposes draw independently.
    """
    purpose_seed = xxhash.xxh3_64_intdigest(f"{purpose}:{seed}".encode())
    digest = xxhash.xxh3_64_intdigest
    encoded = texts.cast(pa.binary()).to_numpy(zero_copy_only=False)
    return np.fromiter((digest(text, purpose_seed) for text in encoded), np.uint64, len(encoded))
