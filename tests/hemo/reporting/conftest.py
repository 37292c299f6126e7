"""Made-up trials of several classes."""

import numpy as np
import pyarrow as pa
import pytest

from hemo.trials.record import PREDICTION_SCHEMA, write_record


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
