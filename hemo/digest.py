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


def differences(there: Mapping[str, Any], now: Mapping[str, Any], where: tuple[str, str] = ("there", "now")) -> str:
    """Return how the settings `now` differ from the stored ones, `there`, such as `side_px 16 there, 32 now; seed ...`.

    Both are JSON content, `where` is what follows the values of each. Keys that only `there` has are left out; the text
    is empty where nothing differs. Values are written as in YAML.
    """
    return "; ".join(
        f"{key} {_in_yaml(there.get(key))} {where[0]}, {_in_yaml(value)} {where[1]}"
        for key, value in now.items()
        if there.get(key) != value
    )


def _in_yaml(value: Any) -> str:
    """Return JSON content in one line as a flag takes it: `[brain, {name: liver, centre_hu: 60}]`."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {_in_yaml(inner)}' for key, inner in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_in_yaml, value))}]"
    if value is None or value == "":
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)
