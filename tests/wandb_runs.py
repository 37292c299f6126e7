"""What W&B wrote of a run, read back from its transaction log: a LevelDB log of protocol buffers."""

import json
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2 as pb

FILE_HEADER_BYTES = 7  # ":W&B", a magic number, a version
BLOCK_BYTES = 32_768
RECORD_HEADER = struct.Struct("<IHB")  # checksum, length, kind
WHOLE, LAST = 1, 4  # kinds: 1 whole, 2 first, 3 middle, 4 last part of a record


@dataclass(frozen=True)
class LoggedRun:
    """One `run-ID.wandb`."""

    run: Any
    config: dict[str, Any]
    history: list[dict[str, Any]]
    summary: dict[str, Any]
    artifacts: dict[str, Any]  # name -> record
    system: set[str]  # names of system metrics
    exit_code: int
    kinds: set[str]  # of records


def read_runs(folder: Path) -> list[LoggedRun]:
    """Return every run below a folder, in order of time."""
    return [read_run(file) for file in sorted(folder.rglob("run-*.wandb"))]


def read_run(file: Path) -> LoggedRun:
    """Return one run."""
    by_kind: dict[str, list[Any]] = {}
    for record in _records(file.read_bytes()):
        kind = record.WhichOneof("record_type")
        by_kind.setdefault(kind, []).append(getattr(record, kind))
    (run,) = by_kind["run"]
    return LoggedRun(
        run=run,
        config=_values(run.config.update),
        history=[_values(row.item) for row in by_kind.get("history", [])],
        summary=_values(update for part in by_kind.get("summary", []) for update in part.update),
        artifacts={artifact.name: artifact for artifact in by_kind.get("artifact", [])},
        system={item.key for stats in by_kind.get("stats", []) for item in stats.item},
        exit_code=by_kind["exit"][0].exit_code,
        kinds=set(by_kind),
    )


def files_of(artifact: Any) -> dict[str, Path]:
    """Return where each file of an artifact lies."""
    return {entry.path: Path(entry.local_path) for entry in artifact.manifest.contents}


def _values(items: Iterable[Any]) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def _records(content: bytes) -> Iterator[Any]:
    at, parts = FILE_HEADER_BYTES, b""
    while at + RECORD_HEADER.size <= len(content):
        left = BLOCK_BYTES - at % BLOCK_BYTES
        if left < RECORD_HEADER.size:  # a block's end is filled with zeros
            at += left
            continue
        _, length, kind = RECORD_HEADER.unpack_from(content, at)
        at += RECORD_HEADER.size
        parts += content[at : at + length]
        at += length
        if kind in (WHOLE, LAST):
            yield pb.Record.FromString(parts)
            parts = b""
