"""Label tables of other hospitals' corpora, from files made in their format."""

import csv
from pathlib import Path

import pytest

from tests.test_examples import example

COLUMNS = ("ICH", "IPH", "IVH", "SDH", "EDH", "SAH")


def _write_reads(file: Path, *studies: tuple[str, str]) -> Path:
    """Write `reads.csv` of studies: number, and the readers who saw an intraparenchymal hemorrhage, such as `13`."""
    head = ["name", "Category", *(f"R{reader}:{name}" for reader in (1, 2, 3) for name in COLUMNS)]
    rows = [
        [
            f"CQ500-CT-{number}",
            "B1",
            *(int(str(r) in seen and name in ("ICH", "IPH")) for r in (1, 2, 3) for name in COLUMNS),
        ]
        for number, seen in studies
    ]
    with file.open("w", newline="") as text:
        csv.writer(text).writerows([head, *rows])
    return file


def test_cq500_has_the_majority_of_three_readers(tmp_path: Path) -> None:
    cq500 = example("cq500")
    reads = cq500.read_reads(_write_reads(tmp_path / "reads.csv", ("0", ""), ("1", "2"), ("21", "13"), ("3", "123")))
    paths = {
        "a": "CQ500CT0 CQ500CT0/Unknown Study/CT Plain/CT000000.dcm",
        "b": "CQ500CT1.zip/CQ500CT1 CQ500CT1/Unknown Study/CT Plain/CT000001.dcm",
        "c": "CQ500CT21 CQ500CT21/Unknown Study/CT PLAIN THIN/CT000002.dcm",
        "d": "CQ500CT7 CQ500CT7/Unknown Study/CT Plain/CT000000.dcm",
    }
    rows = cq500.label_rows(reads, paths)
    assert [(row["image_id"], row["any"], row["intraparenchymal"], row["subdural"]) for row in rows] == [
        ("a", 0, 0, 0),
        ("b", 0, 0, 0),
        ("c", 1, 1, 0),
    ]
    # of four studies two are unanimous; agreement of pairs (1 + 1/3 + 1/3 + 1) / 4 = 2/3, by chance 1/2: kappa 1/3
    assert cq500.agreement(votes["any"] for votes in reads.values()) == pytest.approx((0.5, 1 / 3))
    assert cq500.agreement(votes["epidural"] for votes in reads.values()) == (1, 1)


def test_another_table_than_reads_csv(tmp_path: Path) -> None:
    (tmp_path / "reads.csv").write_text("name,R1:ICH\nCQ500-CT-0,1\n")
    with pytest.raises(SystemExit, match=r"no column R1:EDH.*give CQ500's reads.csv"):
        example("cq500").read_reads(tmp_path / "reads.csv")
    file = _write_reads(tmp_path / "reads.csv", ("0", ""))
    file.write_text(file.read_text().replace("B1,0", "B1,maybe"))
    with pytest.raises(SystemExit, match=r"CQ500-CT-0 has .'R1:ICH': 'maybe'., 0 or 1"):
        example("cq500").read_reads(file)


def _write_ct_ich(folder: Path, *lines: str) -> None:
    types = "Intraventricular,Intraparenchymal,Subarachnoid,Epidural,Subdural"
    head = f"PatientNumber,SliceNumber,{types},No_Hemorrhage,Fracture_Yes_No"
    (folder / "hemorrhage_diagnosis.csv").write_text("\n".join([head, *lines]))
    for name in ("049/brain/1.jpg", "049/brain/2.jpg", "049/bone/1.jpg", "130/brain/14.jpg"):
        (folder / "Patients_CT" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "Patients_CT" / name).write_bytes(b"jpeg")


def test_ct_ich_becomes_a_table_of_files(tmp_path: Path) -> None:
    _write_ct_ich(tmp_path, "49,1,0,0,0,0,0,1,0", "49,2,0,1,0,0,1,0,0", "130,14,0,0,0,1,0,0,1", "130,15,0,0,0,0,0,1,0")
    example("ct_ich").main(tmp_path, tmp_path / "files.csv")
    with (tmp_path / "files.csv").open() as text:
        rows = list(csv.DictReader(text))
    assert [(row["image_id"], row["patient"], row["any"]) for row in rows] == [
        ("049-01", "049", "0"),
        ("049-02", "049", "1"),
        ("130-14", "130", "1"),
    ]
    assert [name for name in ("epidural", "intraparenchymal", "subdural") if rows[1][name] == "1"] == [
        "intraparenchymal",
        "subdural",
    ]
    assert rows[1]["path"].endswith("Patients_CT/049/brain/2.jpg")


def test_ct_ich_that_contradicts_itself(tmp_path: Path) -> None:
    _write_ct_ich(tmp_path, "49,1,0,1,0,0,0,1,0")
    with pytest.raises(SystemExit, match="slice 1 of patient 49 has a subtype and No_Hemorrhage"):
        example("ct_ich").file_rows(tmp_path)
    _write_ct_ich(tmp_path, "77,1,0,0,0,0,0,1,0")
    with pytest.raises(SystemExit, match="has no Patients_CT/NUMBER/brain"):
        example("ct_ich").file_rows(tmp_path)
