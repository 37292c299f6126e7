"""The entry point of `status`."""

import pytest

from hemo.trials.progress import TrialProgress, write_progress
from ray_jobs import status


def test_a_table_and_then_the_folder(tmp_path, capsys):
    write_progress(
        str(tmp_path),
        "d",
        TrialProgress(name="mine", epochs=8, epoch=2, seconds=4.0, updated="2026-11-20T10:00:00+00:00"),
    )
    status.main(["--records", str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "trials outside sweeps: 1 silent"
    assert lines[3].startswith("| mine  | silent | 2 of 8 |")
    assert lines[-1] == str(tmp_path)


def test_an_empty_folder_is_the_users_fault(tmp_path, capsys):
    with pytest.raises(SystemExit) as leaving:
        status.main(["--records", str(tmp_path)])
    assert leaving.value.code == 2
    assert "holds no trials" in capsys.readouterr().err
