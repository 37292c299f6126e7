"""Tables below the grid: cells, splits, confusion matrix, classes, pixel formats, probabilities."""

from hemo.reporting.comparison import compare_trials
from hemo.reporting.metric_tables import metric_tables
from hemo.trials.record import read_records


def read(tmp_path):
    folder = str(tmp_path / "records")
    (found,) = compare_trials(read_records(folder), folder, samples=50, seed=0)
    return found


def test_each_class_of_several_has_a_row(of_classes, tmp_path):
    of_classes("multi_label", ["epidural", "subdural", "any"])
    table = next(table for table in metric_tables(read(tmp_path)) if "by class" in table.caption)
    assert [row[:3] for row in table.rows] == [("epidural", "14", "14"), ("subdural", "13", "13"), ("any", "13", "11")]


def test_thresholds_of_the_confusion_matrix_have_digits_and_are_those_applied(make_record, tmp_path):
    """Of a rare class, and of one that validation lacks a label of: 0.5 is applied."""
    confusion = {"test": (((6, 1), (2, 1)),)}
    make_record({"name": "one"}, quality=2.0, confusion=confusion, thresholds=(0.00042,))
    make_record({"name": "two", "model.dense_width": 8}, quality=0.1, confusion=confusion, thresholds=(None,))
    table = next(table for table in metric_tables(read(tmp_path)) if table.caption == "Confusion matrix on test")
    assert {row[0]: row[-1] for row in table.rows} == {"one": "0.000420", "two": "0.500"}


def test_tables_below_the_grid(make_record, tmp_path):
    """Formats a: six images, three positive; b: four, none, so that a model may predict from the format."""
    confusion = {"test": (((6, 1), (2, 1)),)}
    make_record({"name": "one"}, quality=2.0, formats="aaabaaabbb", confusion=confusion)
    make_record({"name": "two", "model.dense_width": 8}, quality=0.1, formats="aaabaaabbb", confusion=confusion)
    found = read(tmp_path)
    tables = {table.caption: table for table in metric_tables(found)}
    assert list(tables) == [
        "Cells on test",
        "one minus the others, on test",
        "Metrics of each split",
        "Confusion matrix on test",
        "one by pixel format, on test",
        "Probabilities on test",
        "Reliability of any, one, on test",
        "Operating points on test",
        "Net benefit on test",
    ]
    assert tables["Confusion matrix on test"].rows[0] == ("one", "1", "2", "1", "6", "1.00", "1.00", "0.500")
    assert tables["one by pixel format, on test"].rows == (
        ("a", "6", "50.0%", "1.00", "1.00"),
        ("b", "4", "0.0%", "-", "-"),
    )
    assert tables["one by pixel format, on test"].notes[1:] == (
        "No interval of some formats: 5 patients, at least 10 are needed.",
    )
    assert [row[:2] for row in tables["Metrics of each split"].rows][:3] == [
        ("one", each) for each in ("train", "val", "test")
    ]


def test_each_calibration_error_has_a_head_of_its_own(make_record, tmp_path):
    """Of one trial both stand in the report: in 15 bins of equal width, from the record, and in bins of equal count."""
    make_record({"name": "one"}, many=True, metrics={"test": {"auroc": 0.9, "calibration_error": 0.018}})
    heads = [(table.caption, head) for table in metric_tables(read(tmp_path)) for head in table.head if "ECE" in head]
    assert heads == [
        ("Metrics of each split", "ECE (equal width)"),
        ("Probabilities on test", "ECE (equal count)"),
    ]
