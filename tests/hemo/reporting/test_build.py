"""Records to files."""

import pytest

from hemo.config.report import ReportConfig
from hemo.errors import OutputError, SourceError
from hemo.reporting.build import write_report


def test_report_writes_table_csv_figures_and_page(make_record, tmp_path):
    make_record({"name": "one"})
    page = write_report(ReportConfig(records=str(tmp_path / "records"), out=str(tmp_path / "report")))
    assert page == str(tmp_path / "report" / "index.html")
    files = sorted(path.relative_to(tmp_path / "report").as_posix() for path in (tmp_path / "report").rglob("*.*"))
    kinds = [file.split("-")[0] for file in files]
    assert kinds == [
        *(f"figures/{name}" for name in ("accuracy", "calibration", "loss", "ranking", "time")),
        *("grid.csv", "grid.md", "grid.tex", "index.html"),
    ]
    assert "Loss by epoch" in (tmp_path / "report" / "index.html").read_text()


def test_the_same_records_give_the_same_bytes(make_record, tmp_path):
    make_record({"name": "one"})
    for name in ("a", "b"):
        write_report(ReportConfig(records=str(tmp_path / "records"), out=str(tmp_path / name)))
    for file in ("grid.md", "grid.csv", "index.html"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_no_records_and_no_folder_are_refused(make_record, tmp_path):
    with pytest.raises(SourceError, match="holds no trial records; `hemo train` and `hemo tune` write them"):
        write_report(ReportConfig(records=str(tmp_path / "nothing"), out=str(tmp_path / "report")))
    make_record({})
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        write_report(ReportConfig(records=str(tmp_path / "records"), out=str(tmp_path / "file")))
