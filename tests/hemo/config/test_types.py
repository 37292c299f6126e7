"""Configs are frozen, strict about keys, and mean the same place in every process; cards are of a version."""

import json
from pathlib import Path
from typing import Literal

import pytest
from pydantic import ValidationError

from hemo.config.convert import WindowConfig
from hemo.config.types import Config, Location, SecretLocation, load_card
from hemo.errors import SourceError


class Place(Config):
    """One location, and one that may be a word instead."""

    out: Location
    labels: Literal["source_class"] | Location = "source_class"


def test_paths_become_absolute_and_uris_stay() -> None:
    assert Place(out="data/../x").out == str(Path.cwd() / "x")
    assert Place(out="~/x").out == str(Path.home() / "x")
    assert Place(out="s3://bucket/folder/").out == "s3://bucket/folder"


def test_a_path_is_taken_as_its_text() -> None:
    assert Place(out=Path("x")) == Place(out="x")
    assert Place(out="a", labels=Path("/labels.csv")).labels == "/labels.csv"
    assert Kept(key=Path("/hospital.key")).key == "/hospital.key"


def test_a_word_of_its_own_is_no_path() -> None:
    assert Place(out="a", labels="source_class").labels == "source_class"
    assert Place(out="a", labels="/labels.csv").labels == "/labels.csv"


class Kept(Config):
    """A secret."""

    key: Literal[""] | SecretLocation = ""


def test_a_secret_is_in_a_file_or_in_the_environment() -> None:
    assert Kept(key="env:HOSPITAL_KEY").key == "env:HOSPITAL_KEY"
    assert Kept(key="~/hospital.key").key == str(Path.home() / "hospital.key")
    assert Kept(key="").key == ""


@pytest.mark.parametrize("given", ["env:", "env:HOSPITAL KEY", "env:/hospital.key"])
def test_a_variable_needs_a_name(given: str) -> None:
    with pytest.raises(ValidationError, match="must be env:NAME, NAME being an environment variable, or a file"):
        Kept(key=given)


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


class BoxCard(Config):
    """Of version 3."""

    schema_version: int = 3
    digest: str
    rows: int
    lid: str  # since version 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"schema_version": 2, "digest": "a", "rows": 1},
            r"is of schema version 2, this hemo reads 3; run `hemo box`",
        ),
        ({"schema_version": 4, "digest": "a", "rows": 1, "lid": ""}, r"is of schema version 4, this hemo reads 3"),
        ({"schema_version": 2, "digest": "a", "sweep": []}, r"is no box card; run `hemo box` into another folder"),
        ({"schema_version": 3, "digest": "a", "rows": 1}, r"is no box card"),
        ([], r"is no box card"),
        (None, r"is no finished box \(it has no card\.json\); `hemo box` makes one"),
    ],
)
def test_a_card_of_another_version_is_told_from_that_of_another_job(
    tmp_path: Path, content: object, message: str
) -> None:
    """An older card lacks a field or two, that of another job most of them."""
    if content is not None:
        (tmp_path / "card.json").write_text(json.dumps(content))
    with pytest.raises(SourceError, match=message):
        load_card(str(tmp_path), BoxCard, stage="box", job="box")
