"""Made-up evaluations on other images."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from hemo.stats.calibration import Calibration
from hemo.trials.evaluation import (
    EVALUATED,
    IMAGE_SCHEMA,
    SUBGROUP,
    EvaluatedCheckpoint,
    EvaluatedImages,
    EvaluationRecord,
    evaluation_folder,
    write_evaluation,
)

DIGEST = "aaaabbbbccccdddd"
LOGITS = [2.0, -2.0] * 18 + [-2.0, 2.0, -2.0, 2.0]
"""Of forty images of twenty patients, each with a positive and a negative one; the last two patients are wrong."""


def write_made_evaluation(
    records: Path,
    *,
    logits: Sequence[Sequence[float]] | None = None,
    labels: Sequence[Sequence[int]] | None = None,
    subgroups: Mapping[str, Sequence[str]] | None = None,
    columns: Mapping[str, Any] | None = None,
    checkpoint: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    **record: Any,
) -> EvaluationRecord:
    """Write an evaluation below `records`; by default binary, of the images of `LOGITS`."""
    logits = logits or [[logit] for logit in LOGITS]
    labels = labels or [[1], [0]] * (len(logits) // 2)
    names = {
        "image_id": [f"i{row:02d}" for row in range(len(logits))],
        "patient": [f"p{row // 2:02d}" for row in range(len(logits))],
        "study": [f"s{row // 2:02d}" for row in range(len(logits))],
        "pixel_format": ["u12"] * len(logits),
        "flags": [[]] * len(logits),
        "part": [EVALUATED] * len(logits),
        "labels": labels,
        "logits": logits,
    }
    table = pa.table({**names, **(columns or {})}).cast(IMAGE_SCHEMA)
    for name, values in (subgroups or {}).items():
        table = table.append_column(f"{SUBGROUP}{name}", pa.array(values))
    of_checkpoint: dict[str, Any] = {"digest": "c", "name": "mine", "task": "binary", "classes": ("any",)}
    of_checkpoint |= {"training_set": "home", "operating_point": "balanced_accuracy", "thresholds": (0.5,)}
    of_checkpoint |= {"calibration": Calibration(), **(checkpoint or {})}
    positives = tuple(sum(row[column] for row in labels) for column in range(len(labels[0])))
    of_data: dict[str, Any] = {"name": "there", "source": "training_set", "digest": "other", "splits": ("test",)}
    of_data |= {
        "images": len(table),
        "patients": len(table) // 2,
        "positives": positives,
        "left_out": {},
        **(data or {}),
    }
    made = EvaluationRecord(
        digest=record.pop("digest", DIGEST),
        checkpoint=EvaluatedCheckpoint(**of_checkpoint),
        data=EvaluatedImages(**of_data),
        subgroups=tuple(subgroups or ()),
        **{"bootstrap_samples": 50, "finished": "2026-11-27T10:00:00+00:00", **record},
    )
    write_evaluation(evaluation_folder(str(records), made.digest), made, table)
    return made
