"""Records to files: Markdown, CSV, LaTeX and page."""

import csv
import io
from pathlib import Path

import pytest

from hemo.config.report import ReportConfig
from hemo.errors import OutputError, SourceError
from hemo.reporting.build import csv_text, latex, markdown, write_report
from hemo.reporting.comparison import compare_trials
from hemo.training.results import METRICS
from hemo.trials.record import read_records


def test_report_writes_tables_and_page(make_record, tmp_path):
    make_record({"name": "one"})
    page = write_report(ReportConfig(records=str(tmp_path / "records"), out=str(tmp_path / "report")))
    assert page == str(tmp_path / "report" / "index.html")
    files = sorted(path.relative_to(tmp_path / "report").as_posix() for path in (tmp_path / "report").rglob("*.*"))
    assert files == ["grid.csv", "grid.md", "grid.tex", "index.html"]


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


def comparisons(tmp_path):
    folder = str(tmp_path / "records")
    return compare_trials(read_records(folder), folder, samples=200, seed=0)


def test_markdown_is_aligned_and_names_cannot_break_it(make_record, tmp_path):
    make_record({"name": "a|b\n# <script>", "seed": 1})
    make_record({"name": "short", "seed": 2}, training_set="ffff")
    text = markdown("A title", comparisons(tmp_path), [])
    assert text.startswith("# A title\n\n## Binary, target any: training set 00112233aabbccdd\n")
    assert "## Binary, target any: training set ffff" in text
    assert "a\\|b # &lt;script>" in text
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(line) for line in table[:3]}) == 1


def test_csv_has_full_precision_and_one_row_a_trial(make_record, tmp_path):
    make_record(
        {"name": "x, y", "seed": 1},
        quality=2.0,
        many=True,
        metrics={"test": {"loss": 1 / 3, "accuracy": 1.0, "f1": 0.75}},
    )
    make_record({"name": "z", "seed": 2}, training_set="ffff", status="failed", reason="why")
    first, second = csv.DictReader(io.StringIO(csv_text(comparisons(tmp_path))))
    assert (first["name"], float(first["test_loss"]), first["test_majority_accuracy"]) == ("x, y", 1 / 3, "0.5")
    assert (first["test_accuracy"], first["test_accuracy_high"], first["best_epoch"]) == ("1.0", "1.0", "8")
    assert float(first["test_accuracy_low"]) == pytest.approx(0.8204, abs=1e-4)
    assert (first["test_balanced_accuracy"], first["test_images"], first["test_patients"]) == ("1.0", "40", "20")
    assert 0.8 < float(first["test_auroc_low"]) < 0.95
    assert (first["test_f1"], first["test_recall"], set(METRICS) <= {name.removeprefix("test_") for name in first}) == (
        "0.75",
        "",
        True,
    )
    assert (second["status"], second["reason"], second["test_loss"], second["model.backbone"]) == (
        "failed",
        "why",
        "",
        "resnet18",
    )


def cells(make_record):
    """Two good cells, one of two seeds, and a poor one."""
    make_record({"name": "one, seed 1", "seed": 1}, quality=1.2, many=True)
    make_record({"name": "one, seed 2", "seed": 2}, quality=1.1, many=True)
    make_record({"name": "=two", "model.dense_width": 8}, quality=1.0, many=True)
    make_record({"name": "poor", "model.dense_width": 32}, quality=0.0, many=True)


def test_every_pair_of_cells_is_a_row_of_a_file(make_record, tmp_path):
    cells(make_record)
    write_report(ReportConfig(records=str(tmp_path / "records"), out=str(tmp_path / "report")))
    rows = list(csv.DictReader(io.StringIO((tmp_path / "report" / "pairs.csv").read_text())))
    assert [(row["first"], row["second"]) for row in rows] == [("one", "'=two"), ("one", "poor"), ("'=two", "poor")]
    assert [(row["first_seeds"], row["test_patients"]) for row in rows] == [("2", "20"), ("2", "20"), ("1", "20")]
    assert float(rows[1]["p_holm"]) < 0.05 < float(rows[0]["p_holm"])
    assert float(rows[1]["auroc_low"]) > 0
    assert float(rows[0]["p_not_better"]) == float(rows[0]["p"]) / 2


def test_groups_are_in_every_document(make_record, tmp_path):
    """The poor cell has a letter of its own; both seeds of a cell have that of the cell."""
    cells(make_record)
    found = comparisons(tmp_path)
    rows = {row["name"]: row["test_group"] for row in csv.DictReader(io.StringIO(csv_text(found)))}
    assert rows == {"one, seed 1": "a", "one, seed 2": "a", "'=two": "a", "poor": "b"}
    text = markdown("title", found, [])
    assert "### Cells on test" in text
    assert "group: trials that share a letter cannot be told apart by AUROC on test" in text
    assert "Cells on test: Binary" in latex(found, [])


def test_no_text_of_the_csv_is_a_formula_and_numbers_stay_numbers(make_record, tmp_path):
    make_record({"name": "=1+1", "seed": 1}, metrics={"test": {"loss": -0.5}})
    make_record({"name": "a=b", "seed": 2}, status="failed", reason="@SUM(A1)")
    first, second = csv.DictReader(io.StringIO(csv_text(comparisons(tmp_path))))
    assert (first["name"], first["test_loss"]) == ("'=1+1", "-0.5")
    assert (second["name"], second["reason"]) == ("a=b", "'@SUM(A1)")


def test_latex_has_a_table_a_comparison_and_prints_names_as_they_are(make_record, tmp_path):
    make_record({"name": r"50%_of \input{x} & more", "seed": 1})
    make_record({"name": "other", "seed": 2}, training_set="ffff")
    text = latex(comparisons(tmp_path), [])
    assert text.count(r"\begin{tabular}{lrrrr") == 2
    assert r"50\%\_of \textbackslash{}input\{x\} \& more {[}lowest val loss{]} & " in text
    assert text.count(r"\end{table}") == 2


def test_size_and_speed_are_in_every_document(make_record, tmp_path):
    speed = {"megabytes": 44.71, "latency_ms": 12.34, "inference_images_per_second": 150.4, "inference_batch_size": 8}
    make_record({"name": "new", "seed": 1}, **speed)
    make_record({"name": "old", "seed": 2})
    found = comparisons(tmp_path)
    rows = {row["name"]: row for row in csv.DictReader(io.StringIO(csv_text(found)))}
    assert {name: rows["new"][name] for name in speed} == {name: str(value) for name, value in speed.items()}
    assert {rows["old"][name] for name in speed} == {""}
    for text in (markdown("A title", found, []), latex(found, [])):
        assert all(head in text for head in ("size (MB)", "latency (ms)", "throughput (images/s)"))
        assert all(figure in text for figure in ("44.7", "12.3", "150"))


def test_trials_of_studies_count_studies(make_sequence_record, tmp_path):
    make_sequence_record("study")
    page = write_report(ReportConfig(records=str(tmp_path / "records"), out=str(tmp_path / "report")))
    text, grid = Path(page).read_text(), (tmp_path / "report" / "grid.md").read_text()
    assert "- Test: 40 studies of 20 patients, 20 positive\n" in grid
    assert "on 40 studies of 20 patients, 20 positive. Test had no part in the choice" in grid
    assert "- Studies at the threshold selected on validation." in grid
    assert "which studies show any, and which model recognises that best?" in text
    assert "gives a study with the finding a higher probability than one without in 100 of 100 (" in text
    assert "pairs of new studies; guessing reaches 50." in text
    assert '"rows_are": "studies"' in text.replace('"rows_are":"', '"rows_are": "')
    assert "Test studies come from the same source as those of training" in text
    for wrong in ("40 images", "an image with the finding", "new images", "images show"):
        assert (wrong in text, wrong in grid) == (False, False)


def test_trials_of_slices_count_images(make_sequence_record, tmp_path):
    make_sequence_record("slice")
    write_report(ReportConfig(records=str(tmp_path / "records"), out=str(tmp_path / "report")))
    assert "- Test: 40 images of 20 patients, 20 positive\n" in (tmp_path / "report" / "grid.md").read_text()
