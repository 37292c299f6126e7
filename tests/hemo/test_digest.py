"""One digest for one content."""

import pytest

from hemo.digest import differences, digest_of


def test_known_content_has_a_known_digest() -> None:
    """First 16 digits of `printf '{"a":1,"b":[true,null]}' | sha256sum`."""
    assert digest_of({"b": [True, None], "a": 1}) == "1cc69c7fa23616ca"


def test_order_of_keys_does_not_matter_but_order_of_lists_does() -> None:
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
    assert digest_of([1, 2]) != digest_of([2, 1])
    assert digest_of({"a": 1}) != digest_of({"a": 1.5})


def test_nan_has_no_digest() -> None:
    with pytest.raises(ValueError, match="Out of range float values"):
        digest_of({"a": float("nan")})


def test_differences_name_both_values_in_the_order_of_the_settings_now() -> None:
    there = {"seed": 0, "side_px": 16, "gone": 1}
    assert differences(there, {"side_px": 32, "seed": 0, "split": "official"}) == (
        "side_px 16 there, 32 now; split none there, official now"
    )
    assert differences(there, {"seed": 0}) == ""


def test_differences_are_written_as_in_yaml_with_the_names_of_both_sides() -> None:
    source = {"windows": [{"name": "brain", "centre_hu": 40.0}], "public": True, "colour": "rgb"}
    checkpoint = {"windows": [{"name": "soft", "centre_hu": 40.0}, "bone"], "public": False, "colour": "rgb"}
    assert differences(source, checkpoint, ("in the source", "in the checkpoint")) == (
        "windows [{name: brain, centre_hu: 40.0}] in the source, [{name: soft, centre_hu: 40.0}, bone] in the "
        "checkpoint; public true in the source, false in the checkpoint"
    )
