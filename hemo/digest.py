"""A digest of any JSON content, and the differences between two settings."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def digest_of(value: Any) -> str:
    """Return 16 hexadecimal digits that depend on the content of `value` only.

    `value` is made of dicts, lists, strings, numbers, booleans and null; key order does not matter.
    """
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def differences(there: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return how the settings `now` differ from the stored ones, `there`, such as `side_px 16 there, 32 now; seed ...`.

    Both are JSON content. Keys that only `there` has are left out; the text is empty where nothing differs.
    """
    return "; ".join(
        f"{key} {there.get(key)!r} there, {value!r} now" for key, value in now.items() if there.get(key) != value
    )
