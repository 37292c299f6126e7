"""The entry point of `export`."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from hemo.config.trial import TrialConfig
from hemo.inference.export import LOGIT_TOLERANCE
from hemo.inference.predict import QUICK, DeployedModel, first_images
from hemo.models.checkpoint import load_checkpoint
from ray_jobs import export
from tests.trial_runs import run_to_record


def test_a_trained_model_runs_without_torch(
    make_training_set: Callable[..., str],
    tiny_trial: TrialConfig,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hemo.inference.predict.THOROUGH", QUICK)
    folder = make_training_set()
    record = run_to_record(tiny_trial, folder, tmp_path)
    checkpoint = f"{tmp_path}/{record.digest}/checkpoint"
    out = tmp_path / "onnx"
    conf = ["--config", "conf/export/phantom.yaml"]
    export.main(
        [
            *conf,
            "--checkpoint",
            str(tmp_path / record.digest),
            "--out",
            str(out),
            "--images",
            folder,
            "--batch_size",
            "8",
        ]
    )
    card = json.loads((out / "export.json").read_text())
    assert card["megabytes"] == pytest.approx((out / "model.onnx").stat().st_size / 1e6)
    assert (card["parameters"], card["checked_on"], card["checked_images"]) == (record.parameters, folder, 8)
    assert 0 <= card["largest_logit_difference"] <= LOGIT_TOLERANCE == card["tolerance"]
    assert card["checkpoint"]["thresholds"] == list(record.thresholds)
    deployed = DeployedModel(*load_checkpoint(checkpoint))
    images = first_images(folder, deployed.card, 5)
    session = onnxruntime.InferenceSession(out / "model.onnx")
    (found,) = session.run(["probabilities"], {"images": images})
    np.testing.assert_allclose(found, deployed.predict(images)[1], atol=1e-4)
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith(f"{record.parameters:,} parameters, ")
    assert shown[-1] == str(out / "model.onnx")


def test_a_failed_record_is_told_as_that(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "record.json").write_text('{"status": "failed", "reason": "the loss is nan in epoch 2"}')
    with pytest.raises(SystemExit) as ended:
        export.main(["--checkpoint", str(tmp_path), "--out", str(tmp_path / "out")])
    assert ended.value.code == 2
    assert "has no checkpoint, the trial failed: the loss is nan in epoch 2; run it again" in capsys.readouterr().err


def test_what_is_no_checkpoint_is_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        export.main(["--checkpoint", str(tmp_path), "--out", str(tmp_path / "out")])
    assert ended.value.code == 2
    assert "is no checkpoint" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
