import hashlib
import hmac
from pathlib import Path

import pytest

from hemo.errors import ConfigError
from hemo.pseudonym import Pseudonymiser, matching_pseudonyms, pseudonymiser, read_pseudonyms

KEY = b"sixteen bytes at least"


def test_without_a_key_identifiers_stay_as_they_are():
    assert Pseudonymiser()("patient", "ID_1") == "ID_1"
    assert Pseudonymiser().fingerprint == ""


def test_a_pseudonym_is_the_keyed_hash_of_kind_and_identifier():
    wanted = hmac.new(KEY, b"patient\0DOE^JANE", hashlib.sha256).hexdigest()[:32]
    assert pseudonymiser(KEY + b"\n")("patient", "DOE^JANE") == wanted


def test_a_digest_becomes_a_keyed_digest_of_the_same_length():
    digest = bytes(range(16))
    wanted = hmac.new(KEY, b"pixels\0" + digest, hashlib.sha256).digest()[:16]
    assert pseudonymiser(KEY).keyed_digest("pixels", digest) == wanted
    assert Pseudonymiser().keyed_digest("pixels", digest) == digest


def test_kinds_and_keys_give_different_pseudonyms():
    first, second = pseudonymiser(KEY), pseudonymiser(KEY[::-1])
    assert len({first("patient", "1"), first("study", "1"), second("patient", "1")}) == 3
    assert first.fingerprint != second.fingerprint


def test_the_key_does_not_show():
    assert "sixteen" not in repr(pseudonymiser(KEY))


def test_a_short_key_is_refused():
    with pytest.raises(ConfigError, match="it holds 5 bytes, at least 16 are needed"):
        pseudonymiser(b"short\n")


def test_a_key_in_the_environment_is_that_of_a_file(tmp_path, monkeypatch):
    key_file(tmp_path, 0o640)
    monkeypatch.setenv("HEMO_TEST_KEY", KEY.decode())
    assert read_pseudonyms("env:HEMO_TEST_KEY") == read_pseudonyms(str(tmp_path / "hospital.key"))


@pytest.mark.parametrize("mode", [0o644, 0o620, 0o601])
def test_a_key_that_others_may_read_or_change_is_refused(tmp_path, mode):
    with pytest.raises(ConfigError, match=r"key: other users may read or change it \(-rw.*\); `chmod 600 /.*key`"):
        read_pseudonyms(key_file(tmp_path, mode))


def test_a_key_that_is_not_that_of_the_images_is_refused(tmp_path):
    key, made_with = key_file(tmp_path, 0o600), pseudonymiser(KEY).fingerprint
    assert matching_pseudonyms(key, "/shards", made_with, joins=True) == pseudonymiser(KEY)
    assert matching_pseudonyms("", "/shards", made_with, joins=False).keeps_ids
    assert matching_pseudonyms("", "/shards", "", joins=True).keeps_ids
    with pytest.raises(ConfigError, match=r"^pseudonym_key: /shards holds pseudonyms, .*; give --pseudonym_key FILE"):
        matching_pseudonyms("", "/shards", made_with, joins=True)
    for other, cure in (("0123456789abcdef", "give the key `convert` was given"), ("", "so give no key")):
        with pytest.raises(ConfigError, match=rf"hospital.key is not the key of /shards; .*{cure}$"):
            matching_pseudonyms(key, "/shards", other, joins=False)


def key_file(folder: Path, mode: int) -> str:
    file = folder / "hospital.key"
    file.write_bytes(KEY + b"\n")
    file.chmod(mode)
    return str(file)


def test_a_variable_that_is_not_there_or_too_short_is_refused(monkeypatch):
    monkeypatch.delenv("HEMO_TEST_KEY", raising=False)
    with pytest.raises(ConfigError, match=r"env:HEMO_TEST_KEY: no such variable .*; export it, or give a file"):
        read_pseudonyms("env:HEMO_TEST_KEY")
    monkeypatch.setenv("HEMO_TEST_KEY", "short")
    with pytest.raises(ConfigError, match="it holds 5 bytes, at least 16 are needed"):
        read_pseudonyms("env:HEMO_TEST_KEY")
