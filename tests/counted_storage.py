"""`counted://`: an object store in memory that reads ahead as s3fs does, and counts what is fetched from it."""

from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.spec import AbstractBufferedFile

READ_AHEAD = 50 * 2**20
"""Of s3fs, as of 2026.9."""

ALL: list["Fetches"] = []


class Fetches(list[int]):
    """Bytes of each request for a range of an open file."""


class _File(AbstractBufferedFile):
    def _fetch_range(self, start: int, end: int) -> bytes:
        content: bytes = self.fs.cat_file(self.path, start=start, end=end)
        ALL[-1].append(len(content))
        return content


class CountedStorage(MemoryFileSystem):
    """Objects that are read by ranges."""

    protocol = "counted"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + path.removeprefix("counted://").strip("/")

    def _open(self, path: str, mode: str = "rb", block_size: int | None = None, **options: Any) -> Any:
        if mode != "rb":
            return super()._open(path, mode, block_size, **options)
        return _File(self, path, mode, block_size or READ_AHEAD, **options)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        return bytes(self.store[self._strip_protocol(path)].getvalue()[start:end])


@pytest.fixture
def fetches() -> Fetches:
    """Return what is fetched by opened files of `counted://` in this test."""
    fsspec.register_implementation("counted", CountedStorage, clobber=True)
    CountedStorage.store.clear()
    ALL.append(Fetches())
    return ALL[-1]
