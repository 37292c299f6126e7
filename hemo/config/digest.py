"""One canonical digest for anything that can be written as JSON."""

import hashlib
import json
from typing import Any


def digest_of(value: Any) -> str:
    """Return 16 hexadecimal digits that depend on the content of `value` only.

    `value` is made of dicts, lists, strings, numbers, booleans and null; key order does not matter.
    """
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
