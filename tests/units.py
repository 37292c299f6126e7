"""Units made for tests."""

from pathlib import Path

from hemo.corpus.files import file_on_disk
from hemo.shards.manifest import Unit


def unit_of(corpus: Path, number: int, *paths: str) -> Unit:
    """Return the unit of some files of a folder."""
    return Unit(number, tuple(file_on_disk(str(corpus / path), path) for path in paths))
