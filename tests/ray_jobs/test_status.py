"""The entry point of `status`."""

import pytest

from hemo.trials import record
from hemo.trials import status as trials_status
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


def test_an_unreadable_record_is_shown_and_ends_with_code_2(make_record, tmp_path, capsys):
    make_record({"name": "done"})
    cut = tmp_path / "records" / make_record({"name": "cut", "seed": 1}).digest / "record.json"
    cut.write_text(cut.read_text()[:100])
    with pytest.raises(SystemExit) as leaving:
        status.main(["--records", str(tmp_path / "records")])
    shown = capsys.readouterr()
    assert leaving.value.code == 2
    assert "1 complete, 1 unreadable" in shown.out
    assert shown.out.splitlines()[-1] == str(tmp_path / "records")
    assert shown.err.startswith(f"hemo: {cut} is no JSON: ")


def test_each_record_is_read_once(make_record, tmp_path, monkeypatch):
    read, read_record = [], record.read_record
    for module in (record, trials_status):
        monkeypatch.setattr(module, "read_record", lambda *args: read.append(args[1]) or read_record(*args))
    digests = {make_record({"name": name, "seed": seed}).digest for seed, name in enumerate("ab")}
    status.main(["--records", str(tmp_path / "records")])
    assert (len(read), set(read)) == (2, digests)
