"""PhysioNet's ct-ich, version 1.0.0: slices as JPEG and a table of diagnoses, to one table of files for hemo.

    python examples/ct_ich.py /data/ct-ich runs/ct_ich.csv
    hemo convert --config conf/convert/ct_ich.yaml
    hemo curate --config conf/curate/ct_ich.yaml

The folder holds `Patients_CT/049/brain/1.jpg` and `hemorrhage_diagnosis.csv`, with a row a slice. Pictures have no
position in mm, so slices are learned one by one; later versions (NIfTI) are not read.
"""

import csv
import sys
from pathlib import Path

SUBTYPES = ("Epidural", "Intraparenchymal", "Intraventricular", "Subarachnoid", "Subdural")
"""Columns of the table; hemo's classes are these in small letters, after `any`."""

TABLE = "hemorrhage_diagnosis.csv"


def file_rows(folder: Path) -> list[dict[str, str | int]]:
    """Return a row a slice that has a picture: path, ids, and labels of the classes.

    Raises:
        SystemExit: If the table is of another form, a slice contradicts itself, or no slice has a picture.
    """
    with (folder / TABLE).open(encoding="utf-8-sig", newline="") as text:
        table = list(csv.DictReader(text))
    wanted = ("PatientNumber", "SliceNumber", *SUBTYPES, "No_Hemorrhage")
    lacking = [name for name in wanted if not table or name not in table[0]]
    if lacking:
        raise SystemExit(f"{folder / TABLE} has no column {', '.join(lacking)}; give version 1.0.0 of ct-ich")
    rows: list[dict[str, str | int]] = []
    for line in table:
        number, place = int(line["PatientNumber"]), int(line["SliceNumber"])
        labels = {name.lower(): int(line[name]) for name in SUBTYPES}
        if int(line["No_Hemorrhage"]) == int(any(labels.values())):
            named = f"slice {place} of patient {number}"
            raise SystemExit(f"{folder / TABLE}: {named} has a subtype and No_Hemorrhage, or neither")
        path = f"Patients_CT/{number:03d}/brain/{place}.jpg"
        if (folder / path).exists():
            ids = {"image_id": f"{number:03d}-{place:02d}", "patient": f"{number:03d}", "series": f"{number:03d}"}
            rows.append({"path": str(folder / path), **ids, "any": int(any(labels.values())), **labels})
    if not rows:
        raise SystemExit(f"{folder} has no Patients_CT/NUMBER/brain/SLICE.jpg of the table")
    return rows


def main(folder: Path, out: Path) -> None:
    """Write the table of files, and print counts."""
    rows = file_rows(folder.resolve())
    with out.open("w", encoding="utf-8", newline="") as text:
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    positive = sum(int(row["any"]) for row in rows)
    print(f"{len(rows)} slices of {len({row['patient'] for row in rows})} patients, {positive} with a hemorrhage")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
