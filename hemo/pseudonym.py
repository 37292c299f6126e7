"""Replace identifiers and digests by keyed pseudonyms (HMAC-SHA-256), or keep them where they are public."""

import hashlib
import hmac
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from hemo.errors import ConfigError
from hemo.storage import ENVIRONMENT, filesystem, is_local, read_bytes

SHORTEST_KEY_BYTES = 16
PSEUDONYM_DIGITS = 32
OPEN_TO_OTHERS = stat.S_IRWXO | stat.S_IWGRP
"""Permissions that the file of a secret must not have; a group may read it, as in a Kubernetes secret of `fsGroup`."""


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
        return identifier if self.keeps_ids else self._hmac(kind, identifier.encode()).hex()[:PSEUDONYM_DIGITS]

    def keyed_digest(self, kind: str, digest: bytes) -> bytes:
        """Return as many bytes in the place of a digest of at most 32 bytes; without a key the digest itself.

        Equal digests stay equal, and nobody without the key can compare one with that of a file.
        """
        return digest if self.keeps_ids else self._hmac(kind, digest)[: len(digest)]

    def _hmac(self, kind: str, content: bytes) -> bytes:
        return hmac.digest(self.key, kind.encode() + b"\0" + content, hashlib.sha256)


def read_pseudonyms(key: str) -> Pseudonymiser:
    """Return the pseudonymiser of a configured key.

    Args:
        key: Where the secret is: a file, or `env:NAME` for a variable of this process; empty: identifiers are kept.

    Raises:
        ConfigError: If it cannot be read, may be read by every user of the machine, or is too short.
    """
    if not key:
        return Pseudonymiser()
    if key.startswith(ENVIRONMENT):
        secret = os.environ.get(key.removeprefix(ENVIRONMENT))
        if secret is None:
            raise ConfigError(
                f"pseudonym_key: {key}: no such variable in the job's environment; export it, or give a file"
            )
        return pseudonymiser(os.fsencode(secret))
    try:
        content = read_bytes(key)
        if is_local(key) and (mode := Path(filesystem(key)[1]).stat().st_mode) & OPEN_TO_OTHERS:
            raise ConfigError(
                f"pseudonym_key: {key}: other users may read or change it ({stat.filemode(mode)}); `chmod 600 {key}`"
            )
        return pseudonymiser(content)
    except OSError as error:
        raise ConfigError(
            f"pseudonym_key: {key}: {error.strerror or error}; give a file with a secret in it"
        ) from error


def matching_pseudonyms(key: str, images: str, made_with: str, *, joins: bool) -> Pseudonymiser:
    """Return what turns the keys of tables into those of images.

    Args:
        key: As for `read_pseudonyms`.
        images: Where the images are, for errors.
        made_with: Fingerprint of the key of their ids; empty: identifiers are kept.
        joins: Whether a table is to be joined with them.

    Raises:
        ConfigError: If `key` is not that of the images, or a table is to be joined and none is given.
    """
    pseudonyms = read_pseudonyms(key)
    if joins and made_with and not key:
        raise ConfigError(
            f"pseudonym_key: {images} holds pseudonyms, which no table names; "
            "give --pseudonym_key FILE, the key `convert` was given"
        )
    if key and pseudonyms.fingerprint != made_with:
        cure = "give the key `convert` was given" if made_with else "it keeps ids as they are, so give no key"
        raise ConfigError(f"pseudonym_key: {key} is not the key of {images}; {cure}")
    return pseudonyms


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
