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


def test_an_unreadable_record_is_on_the_page_and_ends_with_code_2(make_record, tmp_path, capsys):
    make_record({"name": "done"})
    cut = tmp_path / "records" / make_record({"name": "cut", "seed": 1}).digest / "record.json"
    cut.write_text(cut.read_text()[:100])
    flags = ["--records", str(tmp_path / "records"), "--out", str(tmp_path / "report"), "--bootstrap_samples", "10"]
    with pytest.raises(SystemExit) as leaving:
        main(flags)
    shown = capsys.readouterr()
    assert leaving.value.code == 2
    assert shown.out.splitlines()[-1] == str(tmp_path / "report" / "index.html")
    left_out = f"Left out, unreadable: {cut} is no JSON: "
    assert left_out in (tmp_path / "report" / "index.html").read_text()
    assert left_out.split("/")[0] in shown.out
    assert shown.err.startswith(f"hemo: {cut} is no JSON: ")
    cut.unlink()
    main(flags)
    assert "unreadable" not in (tmp_path / "report" / "index.html").read_text()
