"""Which trial: digests, files, and how far it is."""

from pathlib import Path

import pytest

from hemo.config.trial import ModelConfig, TrialConfig
from hemo.errors import ConfigError
from hemo.models import weight_files
from hemo.trials import key as keys
from hemo.trials.key import TrialKey, TrialKeys
from hemo.trials.progress import TrialProgress, write_progress
from tests.records import trial_digest


def test_the_digest_covers_what_decides_and_not_the_name():
    one, named, other = TrialConfig(), TrialConfig(name="x"), TrialConfig(seed=1)
    assert trial_digest(one, "set") == trial_digest(named, "set")
    assert len({trial_digest(one, "set"), trial_digest(other, "set"), trial_digest(one, "set2")}) == 3


def test_a_trials_files_lie_below_its_digest() -> None:
    key = TrialKeys("s3://bucket/records", "set").key(TrialConfig())
    assert key.folder == f"s3://bucket/records/{key.digest}"
    assert key.checkpoint == f"{key.folder}/checkpoint"
    assert key.state_path == f"{key.checkpoint}/state.pt"


def test_a_weights_file_is_hashed_once_for_all_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, hashed = tmp_path / "weights.safetensors", []
    file.write_bytes(b"abc")
    sha256 = keys._sha256
    monkeypatch.setattr(keys, "_sha256", lambda path: hashed.append(path) or sha256(path))
    made, model = TrialKeys(str(tmp_path), "set"), ModelConfig(weights=str(file))
    found = [made.key(TrialConfig(model=model, seed=seed)) for seed in range(3)]
    assert (len({key.digest for key in found}), hashed) == (3, [str(file)])
    assert found[0].weights.startswith("sha256:ba7816bf8f01cfea414140de5dae2223")


def test_weights_that_cannot_be_read_are_an_error(tmp_path: Path) -> None:
    missing = str(tmp_path / "none.safetensors")
    with pytest.raises(ConfigError, match=r"model.weights: .*none.safetensors: No such file"):
        trial_digest(TrialConfig(model=ModelConfig(weights=missing)), "set")
    assert weight_files.find_weights(missing).file == missing


@pytest.mark.parametrize(
    ("status", "finished", "in_a_search"),
    [("complete", True, True), ("pruned", False, True), ("failed", False, False)],
)
def test_a_pruned_trial_is_finished_only_in_a_search(make_record, tmp_path, status, finished, in_a_search):
    record = make_record({}, status=status)
    key = TrialKey(record.config, str(tmp_path / "records"), record.digest)
    assert key.state() == status
    assert (key.finished_record() is not None) is finished
    assert (key.finished_record(pruned_counts=True) is not None) is in_a_search


def test_a_trial_without_files_is_absent_and_one_with_progress_is_running(tmp_path):
    key = TrialKeys(str(tmp_path), "set").key(TrialConfig())
    assert (key.state(), key.record()) == ("absent", None)
    write_progress(key.records, key.digest, TrialProgress(name="", epochs=3, updated="2026-11-20T10:00:00+00:00"))
    assert key.state() == "running"


@pytest.mark.parametrize(("minute", "state"), [(59, "failed"), (61, "running")])
def test_progress_after_a_failure_is_a_new_attempt(make_record, tmp_path, minute, state):
    """The record of the fixture ended at 10:00."""
    record = make_record({}, status="failed")
    key = TrialKey(record.config, str(tmp_path / "records"), record.digest)
    updated = f"2026-11-20T{9 + minute // 60:02}:{minute % 60:02}:00+00:00"
    write_progress(key.records, key.digest, TrialProgress(name="", epochs=3, updated=updated))
    assert key.state() == state
