"""Which folders `embed` goes on in."""

import json
from pathlib import Path

import pytest

from hemo.cluster.embed import is_complete, require_same_device
from hemo.errors import OutputError

INPUTS = {"images": "feed", "weights": "sha256:0"}


def _begun(out: Path, **more: str) -> str:
    (out / "embeddings").mkdir()
    (out / "embeddings/part-000000.parquet").write_bytes(b"")
    (out / "inputs.json").write_text(json.dumps({**INPUTS, **more}))
    return str(out)


def test_vectors_of_two_kinds_of_device_are_not_mixed(tmp_path: Path) -> None:
    out = _begun(tmp_path, device="cuda")
    assert not is_complete(out, INPUTS)
    require_same_device(out, "cuda")
    with pytest.raises(OutputError, match=r"was begun on cuda, this run is on cpu, .* go on where it was begun"):
        require_same_device(out, "cpu")


def test_what_is_complete_is_complete_on_every_device(tmp_path: Path) -> None:
    out = _begun(tmp_path, device="cuda")
    (tmp_path / "card.json").write_text("{}")
    assert is_complete(out, INPUTS)
    with pytest.raises(OutputError, match="holds other embeddings"):
        is_complete(out, {**INPUTS, "weights": "sha256:1"})


def test_a_folder_without_parts_may_be_begun_anywhere(tmp_path: Path) -> None:
    out = _begun(tmp_path, device="cuda")
    (tmp_path / "embeddings/part-000000.parquet").unlink()
    require_same_device(out, "cpu")


def test_of_parts_of_an_unknown_device_nobody_goes_on(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"was begun on another kind of device, this run is on cpu"):
        require_same_device(_begun(tmp_path), "cpu")
