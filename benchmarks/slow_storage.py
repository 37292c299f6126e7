"""Storage that waits before each file: files on disk behind a URI that every process can open which unpickles it."""

import time
from pathlib import Path
from typing import Any

import fsspec
from fsspec import AbstractFileSystem

WAIT_S = 0.1


class SlowStorage(AbstractFileSystem):
    """Reads whole files on disk, each after `WAIT_S`: the latency of a far storage, with no CPU's work."""

    protocol = "slow"

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        """Return a file's bytes."""
        time.sleep(WAIT_S)
        return Path(path).read_bytes()[start:end]


class SlowUri(str):
    """A URI of such storage, which is known wherever the URI arrives."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        """Register the storage where it is unpickled."""
        return slow_uri, (self.removeprefix("slow://"),)


def slow_uri(folder: str | Path) -> SlowUri:
    """Return the URI of a folder on disk that is read slowly."""
    fsspec.register_implementation("slow", SlowStorage, clobber=True)
    return SlowUri(f"slow://{folder}")
