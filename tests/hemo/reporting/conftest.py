"""Made-up trials of several classes, and of sequence models."""

import numpy as np
import pyarrow as pa
import pytest

from hemo.storage import write_json
from hemo.trials.key import checkpoint_folder
from hemo.trials.record import PREDICTION_SCHEMA, write_record
from tests.series_sets import write_embeddings


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


@pytest.fixture
def make_sequence_record(make_record, tmp_path):
    """Return a function that writes a trial of a sequence model, 40 rows of 20 patients on test, and its encoder."""

    def make(labels="slice", backbone="BiGRU(128,64)", **changes):
        write_embeddings(tmp_path / "embedded", ["a", "b"], np.zeros((2, 4), np.float32))
        series = {"embeddings": str(tmp_path / "embedded"), "labels": labels, **changes}
        record = make_record(
            {"name": "sequence", "model": {"backbone": backbone, "series": series}},
            **{"many": True, "quality": 2.0, "image": "3 x 256 x 256", "rows": {"val": 40, "test": 40}},
            **{"patients": {"val": 20, "test": 20}, "positives": {"val": (20,), "test": (20,)}},
            confusion={"test": (((19, 1), (0, 20)),)},
        )
        inputs = {"backbone": "resnet18", "weights": f"sha256:{'0123456789abcdef' * 4}+sha256:{'f' * 64}"}
        card = {"embedded_by": {"dimension": 512, "classes": ["any"], "inputs": inputs}}
        write_json(f"{checkpoint_folder(str(tmp_path / 'records'), record.digest)}/checkpoint.json", card)
        return record

    return make
