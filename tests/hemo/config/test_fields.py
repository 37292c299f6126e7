"""Configs are frozen, strict about keys, and mean the same place in every process."""

from pathlib import Path
from typing import Literal

import pytest
from pydantic import ValidationError

from hemo.config.convert import WindowConfig
from hemo.config.fields import Config, Location


class Place(Config):
    """One location, and one that may be a word instead."""

    out: Location
    labels: Literal["source_class"] | Location = "source_class"


def test_paths_become_absolute_and_uris_stay() -> None:
    assert Place(out="data/../x").out == str(Path.cwd() / "x")
    assert Place(out="~/x").out == str(Path.home() / "x")
    assert Place(out="s3://bucket/folder/").out == "s3://bucket/folder"


def test_a_word_of_its_own_is_no_path() -> None:
    assert Place(out="a", labels="source_class").labels == "source_class"
    assert Place(out="a", labels="/labels.csv").labels == "/labels.csv"


def test_an_empty_location_is_refused() -> None:
    with pytest.raises(ValidationError, match="is empty; give a folder, a file or a URI"):
        Place(out=" ")


def test_configs_cannot_be_changed() -> None:
    place = Place(out="/a")
    with pytest.raises(ValidationError, match="frozen"):
        place.out = "/b"  # type: ignore[misc]


def test_numbers_are_finite() -> None:
    """NaN is no number to compare with: `centre_hu: .nan` would make every image black."""
    with pytest.raises(ValidationError, match="finite number"):
        WindowConfig(name="odd", centre_hu=float("nan"), width_hu=80)
