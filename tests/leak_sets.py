"""A training set whose images show who the patient is and nothing else: all that a model can learn is memory."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hemo.curation.card import Count, TrainingSetCard, label_counts
from hemo.imaging.image import pixel_digest
from hemo.shards.schema import ROW_SCHEMA
from tests.training_sets import CONVERSION

SIDE_PX = 8
STUDIES_EACH, IMAGES_A_STUDY = 3, 2


def write_fingerprints(folder: Path, patients: int = 80, *, twins: int = 4) -> str:
    """Write a set of patients with a pattern of their own each, of three studies with two images; half are positive.

    Args:
        folder: Where to.
        patients: How many.
        twins: Pairs of patients of the same label with one image in common.

    Returns:
        The training set; its own splits are of the first to the last image, whatever the patient.
    """
    generator = np.random.default_rng(0)
    rows = []
    for patient in range(patients):
        pattern = generator.integers(40, 216, (1, SIDE_PX, SIDE_PX))
        for number in range(STUDIES_EACH * IMAGES_A_STUDY):
            image = (pattern + generator.integers(-40, 40, pattern.shape)).astype(np.uint8)
            if number == 0 and patient % 4 > 1 and patient < 2 * twins:  # the same image as of the patient two before
                image = rows[-2 * STUDIES_EACH * IMAGES_A_STUDY]["pixels"]
            rows.append({"patient": f"P{patient:03d}", "number": number, "pixels": image, "label_odd": patient % 2})
    count = len(rows)
    bounds = {"train": (0, count // 2), "val": (count // 2, 3 * count // 4), "test": (3 * count // 4, count)}
    for split, (start, stop) in bounds.items():
        _write_part(folder / "set" / split, rows[start:stop])
    counts = {split: _count(rows[start:stop]) for split, (start, stop) in bounds.items()}
    card = TrainingSetCard(
        digest="feedfacefeedface",
        inputs_digest="0",
        config={},
        image={"corpus": "own"},
        classes=("odd",),
        channels=("grey",),
        dtype="uint8",
        height_px=SIDE_PX,
        width_px=SIDE_PX,
        split="by_patient",
        splits=counts,
        conversion=CONVERSION,
        steps=(),
        findings=(),
    )
    (folder / "set" / "card.json").write_text(card.model_dump_json())
    none = pa.array([], pa.string())
    pq.write_table(
        pa.table({"image_id": none, "patient": none, "linked_patient": none}), folder / "set" / "audit.parquet"
    )
    return str(folder / "set")


def _write_part(folder: Path, rows: list[dict]) -> None:
    folder.mkdir(parents=True)
    shape = {"height_px": SIDE_PX, "width_px": SIDE_PX, "source_rows": SIDE_PX, "source_cols": SIDE_PX, "frame": 0}
    table = pa.Table.from_pylist(
        [
            {
                **dict.fromkeys(ROW_SCHEMA.names),
                **shape,
                "image_id": f"{row['patient']}-{row['number']}",
                "source_path": f"{row['patient']}-{row['number']}",
                "image": row["pixels"].tobytes(),
                "patient": row["patient"],
                "study": f"{row['patient']}-study-{row['number'] // IMAGES_A_STUDY}",
                "position_mm": float(row["number"]),
                "flags": [],
                "pixel_digest": pixel_digest(row["pixels"]),
                "pixel_format": "u8",
            }
            for row in rows
        ],
        schema=ROW_SCHEMA,
    )
    labels = pa.array([row["label_odd"] for row in rows], pa.uint8())
    table = table.append_column(pa.field("label_odd", pa.uint8()), labels)
    pq.write_table(table, folder / "part-000000.parquet", row_group_size=16, write_page_checksum=True)


def _count(rows: list[dict]) -> Count:
    labels = np.array([[row["label_odd"]] for row in rows], np.uint8)
    patient = np.array([int(row["patient"][1:]) for row in rows])
    counts = label_counts(("odd",), labels, patient)
    return Count(rows=len(rows), patients=len(set(patient)), grouped_by={"patient": len(rows)}, **counts)
