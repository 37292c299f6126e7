"""CQ500, head CTs that three radiologists read: a table of labels by majority, and how far the readers agree.

    hemo convert --source /data/cq500 --corpus dicom --public_ids true --side_px 256 --out runs/cq500/shards
    python examples/cq500.py /data/cq500/reads.csv runs/cq500/shards runs/cq500/labels.csv
    hemo curate --config conf/curate/cq500.yaml

`/data/cq500` holds the folders `CQ500CT0 CQ500CT0` of the corpus's zips; `reads.csv` has a row a study, `CQ500-CT-0`,
and columns `R1:ICH` to `R3:SAH`. A label is of the whole study, and each of its images gets it: train a sequence model
with `--trial.model.series.labels study`.
"""

import csv
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import hemo

CLASSES = {
    "any": "ICH",
    "epidural": "EDH",
    "intraparenchymal": "IPH",
    "intraventricular": "IVH",
    "subarachnoid": "SAH",
    "subdural": "SDH",
}
"""Class -> its name in `reads.csv`."""

READERS = ("R1", "R2", "R3")

Reads = dict[str, dict[str, tuple[int, ...]]]
"""Number of the study -> class -> what each reader saw, 0 or 1."""


def read_reads(file: Path) -> Reads:
    """Return what the readers saw.

    Raises:
        SystemExit: If a column is missing, or a cell is neither 0 nor 1.
    """
    with file.open(encoding="utf-8-sig", newline="") as text:
        rows = list(csv.DictReader(text))
    wanted = ["name", *(f"{reader}:{column}" for reader in READERS for column in CLASSES.values())]
    lacking = [name for name in wanted if not rows or name not in rows[0]]
    if lacking:
        raise SystemExit(f"{file} has no column {', '.join(lacking)}; give CQ500's reads.csv")
    reads: Reads = {}
    for row in rows:
        wrong = {name: row[name] for name in wanted[1:] if row[name] not in ("0", "1")}
        if wrong:
            raise SystemExit(f"{file}: {row['name']} has {wrong}, 0 or 1 is wanted")
        number = row["name"].strip().removeprefix("CQ500-CT-")
        reads[number] = {
            name: tuple(int(row[f"{reader}:{column}"]) for reader in READERS) for name, column in CLASSES.items()
        }
    return reads


def majority(votes: tuple[int, ...]) -> int:
    """Return 1 where more readers saw a class than did not."""
    return int(2 * sum(votes) > len(votes))


def agreement(votes: Iterable[tuple[int, ...]]) -> tuple[float, float]:
    """Return the fraction of studies on which all readers agree, and Fleiss' kappa; 1 where all votes are alike.

    Source:
        Fleiss 1971, Measuring nominal scale agreement among many raters, Psychol. Bull. 76.
    """
    studies = list(votes)
    readers, positives = len(studies[0]), [sum(study) for study in studies]
    unanimous = sum(count in (0, readers) for count in positives) / len(studies)
    pairs = readers * (readers - 1)
    observed = sum(
        (count * (count - 1) + (readers - count) * (readers - count - 1)) / pairs for count in positives
    ) / len(studies)
    positive = sum(positives) / (len(studies) * readers)
    chance = positive**2 + (1 - positive) ** 2
    return unanimous, 1.0 if chance == 1 else (observed - chance) / (1 - chance)


def study_number(source_path: str) -> str | None:
    """Return the number of the study in a path such as `CQ500CT42 CQ500CT42/Unknown Study/CT Plain/CT000000.dcm`."""
    found = re.search(r"CQ500-?CT-?(\d+)", source_path)
    return found[1] if found else None


def label_rows(reads: Reads, paths: Mapping[str, str]) -> list[dict[str, str | int]]:
    """Return a row an image; images of studies that nobody read have none.

    Args:
        reads: Of the studies.
        paths: image_id -> source_path of the shards.
    """
    rows = []
    for image_id, path in paths.items():
        votes = reads.get(study_number(path) or "")
        if votes is not None:
            rows.append({"image_id": image_id, **{name: majority(votes[name]) for name in CLASSES}})
    return rows


def main(reads_csv: Path, shards: str, out: Path) -> None:
    """Write the table, and print the agreement."""
    reads = read_reads(reads_csv)
    index = hemo.Shards(shards).index
    rows = label_rows(reads, dict(zip(index["image_id"], index["source_path"], strict=True)))
    if not rows:
        raise SystemExit(f"no image of {shards} lies below a folder such as CQ500CT0; convert with --public_ids true")
    with out.open("w", encoding="utf-8", newline="") as text:
        writer = csv.DictWriter(text, ["image_id", *CLASSES])
        writer.writeheader()
        writer.writerows(rows)
    print(f"{len(reads)} studies read; {len(rows)} of {len(index)} images are of one of them")
    print(f"{'class':>17} {'positive':>9} {'unanimous':>10} {'kappa':>6}")
    for name in CLASSES:
        unanimous, kappa = agreement(votes[name] for votes in reads.values())
        positive = sum(majority(votes[name]) for votes in reads.values())
        print(f"{name:>17} {positive:>9} {unanimous:>10.3f} {kappa:>6.3f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
