"""Replace identifiers by keyed pseudonyms, or keep them where they are public."""

import hashlib
import hmac
from dataclasses import dataclass

from hemo.errors import ConfigError

SHORTEST_KEY_BYTES = 16
PSEUDONYM_DIGITS = 32


@dataclass(frozen=True)
class Pseudonymiser:
    """Replaces identifiers by HMAC-SHA-256 under a secret key; without a key it keeps them.

    Attributes:
        key: The secret; empty keeps identifiers as they are.
    """

    key: bytes = b""

    def __repr__(self) -> str:
        """Never show the key: configs and errors are logged."""
        return f"Pseudonymiser({'keyed' if self.key else 'public'})"

    @property
    def keeps_ids(self) -> bool:
        """Whether identifiers are public and kept."""
        return not self.key

    @property
    def fingerprint(self) -> str:
        """A digest that differs between keys and reveals nothing about them; empty where ids are kept."""
        return "" if self.keeps_ids else self("fingerprint", "hemo")[:16]

    def __call__(self, kind: str, identifier: str) -> str:
        """Return the pseudonym of `identifier`, 32 hexadecimal digits; the same text of another `kind` gets another."""
        if self.keeps_ids:
            return identifier
        return hmac.new(self.key, f"{kind}\0{identifier}".encode(), hashlib.sha256).hexdigest()[:PSEUDONYM_DIGITS]


def pseudonymiser(key: bytes) -> Pseudonymiser:
    """Return a pseudonymiser of a secret as it was read, surrounding white space ignored.

    Raises:
        ConfigError: If the key is too short to be a secret.
    """
    secret = key.strip()
    if len(secret) < SHORTEST_KEY_BYTES:
        raise ConfigError(
            f"pseudonym_key: it holds {len(secret)} bytes, at least {SHORTEST_KEY_BYTES} are needed; "
            "make one with `python -c 'import secrets; print(secrets.token_hex(32))'` and keep it secret"
        )
    return Pseudonymiser(secret)
