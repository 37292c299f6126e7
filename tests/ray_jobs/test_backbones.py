"""The entry point of `backbones`."""

import pytest

from ray_jobs.backbones import main


def test_a_backbone_and_what_is_known_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--containing", "test_resnet", "--channels", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[-1].startswith("| test_resnet | test_resnet | ")
    assert lines[-1].endswith(" | r160_in1k | model.safetensors of timm/test_resnet.r160_in1k |")


def test_a_name_nothing_has_is_the_users_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        main(["--containing", "zzz"])
    assert leaving.value.code == 2
    assert capsys.readouterr().err.startswith("hemo: containing: no backbone of timm has 'zzz'")
