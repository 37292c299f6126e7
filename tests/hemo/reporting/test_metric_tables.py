"""Tables below the grid: cells, splits, confusion matrix, classes, pixel formats, probabilities."""

import numpy as np
import pyarrow as pa
import pytest

from hemo.reporting.comparison import compare_trials
from hemo.reporting.metric_tables import metric_tables
from hemo.trials.record import PREDICTION_SCHEMA, read_records, write_record


def read(tmp_path):
    folder = str(tmp_path / "records")
    (found,) = compare_trials(read_records(folder), folder, samples=50, seed=0)
    return found


@pytest.fixture
def of_classes(make_record, tmp_path):
    """Return a function that writes a trial of several classes, with two FN of the last one in forty images."""

    def make(task, classes):
        labels = np.eye(len(classes), dtype=np.uint8)[np.arange(40) % len(classes)]
        logits = 4.0 * labels - 2
        logits[len(classes) - 1 :: len(classes), :][:2] = 2.0 - 4.0 * np.eye(len(classes))[-1]
        columns = [["test"] * 40, [f"i{row}" for row in range(40)], [f"p{row}" for row in range(40)], ["u8"] * 40]
        table = pa.table(
            dict(zip(PREDICTION_SCHEMA.names, [*columns, labels.tolist(), logits.tolist()], strict=True)),
            schema=PREDICTION_SCHEMA,
        )
        matrix = tuple(tuple(int(row == column) * 5 for column in range(len(classes))) for row in range(len(classes)))
        matrices = (matrix,) if task == "multi_class" else (((30, 2), (1, 7)),) * len(classes)
        thresholds = () if task == "multi_class" else (0.5,) * len(classes)
        record = make_record({"task": task, "name": "one"}, confusion={"test": matrices}, thresholds=thresholds)
        record = record.model_copy(update={"classes": tuple(classes)})
        write_record(str(tmp_path / "records"), record, table)

    return make


def test_each_class_of_several_has_a_row(of_classes, tmp_path):
    of_classes("multi_label", ["epidural", "subdural", "any"])
    table = next(table for table in metric_tables(read(tmp_path)) if "by class" in table.caption)
    assert [row[:3] for row in table.rows] == [("epidural", "14", "14"), ("subdural", "13", "13"), ("any", "13", "11")]


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
        ("a", "6", "0.50", "1.00", "1.00"),
        ("b", "4", "0.00", "-", "-"),
    )
    assert tables["one by pixel format, on test"].notes[1:] == (
        "No interval of some formats: 5 patients, at least 10 are needed.",
    )
    assert [row[:2] for row in tables["Metrics of each split"].rows][:3] == [
        ("one", each) for each in ("train", "val", "test")
    ]
