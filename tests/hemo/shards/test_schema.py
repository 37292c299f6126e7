import errno
import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hemo.shards.schema import read_footer


def shard(folder: Path) -> Path:
    pq.write_table(pa.table({"a": [1, 2, 3]}), folder / "unit-000000.parquet")
    return folder / "unit-000000.parquet"


@pytest.mark.parametrize("kept", [slice(0, 0), slice(0, -9), slice(20, None)])
def test_a_damaged_shard_counts_as_not_there(kept: slice, tmp_path: Path) -> None:
    place = shard(tmp_path)
    place.write_bytes(place.read_bytes()[kept])
    assert read_footer(str(place)) is None


def test_a_garbled_footer_counts_as_not_there(tmp_path: Path) -> None:
    """Arrow raises an OSError without errno for this."""
    place = shard(tmp_path)
    data = place.read_bytes()
    place.write_bytes(data[:-60] + b"\xff" * 52 + data[-8:])
    assert read_footer(str(place)) is None


def test_a_shard_that_cannot_be_read_is_not_taken_for_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be removed and made again."""
    place = shard(tmp_path)
    monkeypatch.setattr("hemo.shards.schema.filesystem", lambda _: (_Opener(), str(place)))
    with pytest.raises(OSError, match="Input/output error"):
        read_footer(str(place))


class _Opener:
    """A file system whose files open and cannot be read."""

    def open(self, *_: object) -> io.BytesIO:
        return _Unreadable(bytes(100))


class _Unreadable(io.BytesIO):
    def read(self, *_: object) -> bytes:
        raise OSError(errno.EIO, "Input/output error")
