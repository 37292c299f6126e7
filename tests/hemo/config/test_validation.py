"""Merged dicts, validated configs, and one line for each error with its key."""

from typing import Annotated

import pytest
from pydantic import BaseModel, Field, ValidationError

from hemo.config.validation import error_lines, meant, members, merge, validated
from hemo.errors import ConfigError


def test_lists_are_replaced_and_dicts_are_merged() -> None:
    below = {"a": {"x": 1, "y": 2}, "list": [1, 2]}
    assert merge(below, {"a": {"y": 3}, "list": [4]}) == {"a": {"x": 1, "y": 3}, "list": [4]}
    assert below == {"a": {"x": 1, "y": 2}, "list": [1, 2]}


class Model(BaseModel, extra="forbid"):
    """Nested part."""

    dropout: float = Field(0.5, ge=0, lt=1)


class Job(BaseModel, extra="forbid"):
    """A config with a section."""

    out: str
    model: Model = Model()


def test_validated_names_the_origin_it_is_given() -> None:
    with pytest.raises(ConfigError, match=r"^cell 3: model.dropout: must be less than 1, not 1$"):
        validated(Job, {"out": "a", "model": {"dropout": 1}}, origin="cell 3")


class Window(BaseModel, extra="forbid"):
    """An alternative with fields."""

    name: str
    width_hu: float = Field(gt=0)


class NestedJob(BaseModel, extra="forbid"):
    """Lists, dicts and unions of parts."""

    windows: tuple[str | Window, ...] = ()
    by_name: dict[str, Window] = Field({}, description="name -> window")
    limit: int | None = None


def lines(**given: object) -> list[tuple[str, str]]:
    with pytest.raises(ValidationError) as caught:
        NestedJob.model_validate(given)
    return error_lines(caught.value, NestedJob)


def test_an_error_inside_one_alternative_is_reported_and_the_other_alternative_is_not() -> None:
    assert lines(windows=["brain", {"name": "own", "width_hu": 0}]) == [
        ("windows.1.width_hu", "must be greater than 0, not 0")
    ]


def test_a_value_that_fits_no_alternative_names_all() -> None:
    assert lines(windows=[3]) == [("windows.0", "must be text or `key: value` lines or {key: value}, not 3")]


def test_keys_with_dots_and_missing_fields_keep_their_place() -> None:
    assert lines(by_name={"a.b": {"nam": "x", "width_hu": 1}}) == [
        ("by_name.a.b.name", "is missing and has no default"),
        ("by_name.a.b.nam", "no such key (did you mean name?); known here: name, width_hu"),
    ]


def test_a_value_that_is_no_whole_number() -> None:
    assert lines(limit="many") == [("limit", "must be a whole number, not 'many'")]
    assert lines(limit=1.5) == [("limit", "must be a whole number, not 1.5")]


def test_only_a_close_word_is_suggested() -> None:
    assert meant("widht_hu", ["name", "width_hu"]) == " (did you mean width_hu?)"
    assert meant("zzz", ["name", "width_hu"]) == ""


def test_members_takes_unions_and_annotations_apart() -> None:
    assert members(Annotated[int, Field(gt=0)] | None) == (int, type(None))
    assert members(str) == (str,)
