"""A corpus of any size from a few distinct phantom slices: hard links under further names, labels to match."""

import csv
import os
from pathlib import Path

from hemo.cluster.phantom import make_phantom
from hemo.config.convert import PhantomConfig

DISTINCT_SLICES = 512


def replicated_corpus(scratch: Path, slices: int) -> tuple[Path, Path]:
    """Return a folder of `slices` DICOM files below `scratch`, read once into the page cache, and their label table.

    Call it within `connected`.
    """
    make_phantom(PhantomConfig(out=str(scratch / "phantom"), slices=min(slices, DISTINCT_SLICES)))
    originals = sorted((scratch / "phantom" / "stage_2_train").glob("*.dcm"))
    with (scratch / "phantom" / "stage_2_train.csv").open() as file:
        label_of = {row["ID"]: row["Label"] for row in csv.DictReader(file)}
    corpus = scratch / "corpus"
    corpus.mkdir()
    with (scratch / "labels.csv").open("w") as table:
        table.write("image_id,any\n")
        for number in range(slices):
            original = originals[number % len(originals)]
            os.link(original, corpus / f"ID_{number:09x}.dcm")
            table.write(f"ID_{number:09x},{label_of[f'{original.stem}_any']}\n")
    for file in originals:
        file.read_bytes()
    return corpus, scratch / "labels.csv"
