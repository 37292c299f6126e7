"""The entry point of `report`."""

import pytest

from hemo.config.trial import TrialConfig
from hemo.trials.record import TrialRecord, write_record
from ray_jobs.report import main
from tests.records import trial_digest


def test_the_table_and_then_the_page(tmp_path, capsys):
    config = TrialConfig(name="mine")
    digest = trial_digest(config, "set")
    record = TrialRecord(
        digest=digest,
        status="failed",
        reason="out of memory",
        config=config,
        classes=("any",),
        training_set="set",
        split="by_patient",
    )
    write_record(str(tmp_path / "records"), record, None)
    main(["--records", str(tmp_path / "records"), "--out", str(tmp_path / "report"), "--title", "Mine"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "# Mine"
    assert "- mine failed: out of memory" in lines
    assert lines[-1] == str(tmp_path / "report" / "index.html")


def test_a_folder_without_records_is_the_users_fault(tmp_path, capsys):
    with pytest.raises(SystemExit) as leaving:
        main(["--records", str(tmp_path), "--out", str(tmp_path / "report")])
    assert leaving.value.code == 2
    assert "holds no trial records" in capsys.readouterr().err
