"""Where weights lie."""

import json
from pathlib import Path

import pytest

from hemo.errors import ConfigError, SourceError
from hemo.models.weight_files import find_checkpoint, find_weights


def test_a_checkpoint_is_found_by_its_folder_or_its_record(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "checkpoint.json").write_text("{}")
    assert find_checkpoint(str(folder)) == find_checkpoint(str(tmp_path)) == str(folder)
    assert find_weights(str(tmp_path)).deciding == (f"{folder}/weights.safetensors", f"{folder}/checkpoint.json")


def test_a_file_of_weights_is_a_checkpoint_where_its_card_is(tmp_path: Path) -> None:
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"")
    assert find_weights(str(weights)).deciding == (str(weights),)
    (tmp_path / "checkpoint.json").write_text("{}")
    assert find_weights(str(weights)) == find_weights(str(tmp_path))
    other = tmp_path / "my-weights.safetensors"
    other.write_bytes(b"")
    assert find_weights(str(other)).checkpoint == ""


@pytest.mark.parametrize("given", ["", "/checkpoint", "/checkpoint/"])
def test_a_failed_trial_has_none_and_the_error_has_its_reason(tmp_path: Path, given: str) -> None:
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "record.json").write_text(json.dumps({"status": "failed", "reason": "the loss is nan"}))
    reason = "has no checkpoint, the trial failed: the loss is nan; run it again, or give another record"
    with pytest.raises(SourceError, match=reason):
        find_checkpoint(f"{tmp_path}{given}")
    with pytest.raises(ConfigError, match=f"^model.weights: .*{reason}"):
        find_weights(f"{tmp_path}{given}")


def test_anything_else_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text('{"status": "complete"}')
    with pytest.raises(
        SourceError, match=r"is no checkpoint \(it has no checkpoint.json\); give a record or its check"
    ):
        find_checkpoint(str(tmp_path))
