"""One line a key, whatever pydantic says."""

from typing import Annotated

import pytest
from pydantic import BaseModel, Field, ValidationError

from hemo.config.faults import fault_lines, meant, members


class Window(BaseModel, extra="forbid"):
    """An alternative with fields."""

    name: str
    width_hu: float = Field(gt=0)


class Job(BaseModel, extra="forbid"):
    """Lists, dicts and unions of parts."""

    windows: tuple[str | Window, ...] = ()
    by_name: dict[str, Window] = Field({}, description="name -> window")
    limit: int | None = None


def lines(**given: object) -> list[tuple[str, str]]:
    with pytest.raises(ValidationError) as caught:
        Job.model_validate(given)
    return fault_lines(caught.value, Job)


def test_a_fault_inside_one_alternative_is_told_and_the_other_alternative_is_not() -> None:
    assert lines(windows=["brain", {"name": "own", "width_hu": 0}]) == [
        ("windows.1.width_hu", "must be greater than 0, not 0")
    ]


def test_what_fits_no_alternative_is_told_of_all() -> None:
    assert lines(windows=[3]) == [("windows.0", "must be text or `key: value` lines or {key: value}, not 3")]


def test_keys_with_dots_and_missing_fields_keep_their_place() -> None:
    assert lines(by_name={"a.b": {"nam": "x", "width_hu": 1}}) == [
        ("by_name.a.b.name", "is missing and has no default"),
        ("by_name.a.b.nam", "no such key (did you mean name?); known here: name, width_hu"),
    ]


def test_a_number_that_is_none_is_no_number_in_words() -> None:
    assert lines(limit="many") == [("limit", "must be a whole number, not 'many'")]
    assert lines(limit=1.5) == [("limit", "must be a whole number, not 1.5")]


def test_only_a_close_word_is_suggested() -> None:
    assert meant("widht_hu", ["name", "width_hu"]) == " (did you mean width_hu?)"
    assert meant("zzz", ["name", "width_hu"]) == ""


def test_members_takes_unions_and_annotations_apart() -> None:
    assert members(Annotated[int, Field(gt=0)] | None) == (int, type(None))
    assert members(str) == (str,)
