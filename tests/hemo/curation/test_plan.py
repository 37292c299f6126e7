from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from hemo.config.convert import ConvertConfig
from hemo.config.curate import CurateConfig
from hemo.corpus.labels import NULL_LABEL, LabelTable
from hemo.corpus.sources import media_of
from hemo.curation.plan import PART_BYTES, ImageLayout, adjacent, plan_copies, shuffled_parts
from hemo.curation.select import Selection, select
from hemo.errors import ConfigError
from hemo.imaging.dicom.read import images_of_dicom, quiet_pydicom
from hemo.imaging.image import Image
from hemo.imaging.settings import image_settings
from hemo.pseudonym import Pseudonymiser
from hemo.shards.schema import INDEX_SCHEMA
from tests.made_shards import index_of

LAYOUT = ImageLayout(("brain", "subdural"), "uint8", 2, 2, slots=1)
WITH_NEIGHBOURS = ImageLayout(("brain", "subdural"), "uint8", 2, 2, slots=3)

IDS = pa.array([f"ID_{number:05d}" for number in range(4000)])


def selected() -> Selection:
    images = [{"series": f"S{n // 4}", "patient": f"P{n // 4}", "position_mm": float(n)} for n in range(60)]
    values = np.array([NULL_LABEL if n == 7 else n % 2 for n in range(60)], np.uint8)[:, None]
    table = LabelTable(("any",), pa.array([f"ID_{n:03d}" for n in range(60)]), values, 0)
    return select(CurateConfig(shards="s", labels="l", out="o"), index_of(images), table)


def test_bytes_and_channels_of_a_layout():
    assert ImageLayout(("hu",), "int16", 4, 8, slots=1).image_bytes == 64
    assert WITH_NEIGHBOURS.all_channels == (
        "brain_previous",
        "subdural_previous",
        "brain",
        "subdural",
        "brain_next",
        "subdural_next",
    )
    assert LAYOUT.all_channels == ("brain", "subdural")


def test_each_row_is_copied_from_where_it_lies_to_where_its_labels_stand():
    selection = selected()
    plan = plan_copies(selection, LAYOUT, part_rows=10, seed=0)
    names = [part["image_id"].to_pylist() for part in plan.rows]
    went = {}
    for copy in plan.copies.to_pylist():
        went[copy["unit"] * 3 + copy["row"]] = names[copy["part"]][copy["position"]]
    assert went == {number: f"ID_{number:03d}" for number in range(60)}
    assert plan.rows[0].column_names == [*INDEX_SCHEMA.names, "label_any"]
    assert max(len(part) for part in plan.rows) <= 10
    labels = {row["image_id"]: row["label_any"] for part in plan.rows for row in part.to_pylist()}
    assert labels == {f"ID_{n:03d}": None if n == 7 else n % 2 for n in range(60)}


def test_parts_are_numbered_within_their_split():
    selection = selected()
    plan = plan_copies(selection, LAYOUT, part_rows=10, seed=0)
    train = -(-int((selection.splits == 0).sum()) // 10)
    assert list(plan.parts[:train]) == [f"train/part-{number:06d}.parquet" for number in range(train)]
    assert plan.parts[train] == "val/part-000000.parquet"


def test_copies_come_unit_by_unit():
    tables = list(plan_copies(selected(), LAYOUT, part_rows=10, seed=0).copies_by_read())
    assert [set(table["unit"].to_pylist()) for table in tables] == [{unit} for unit in range(20)]
    assert [len(table) for table in tables] == [3] * 20


def test_neighbours_are_copied_to_their_slots():
    """Images 4 to 7 are a series; the one before 4 is 4 itself."""
    plan = plan_copies(selected(), WITH_NEIGHBOURS, part_rows=100, seed=0)
    names = [part["image_id"].to_pylist() for part in plan.rows]
    slots: dict[str, list[int]] = {}
    for copy in sorted(plan.copies.to_pylist(), key=lambda copy: copy["slot"]):
        slots.setdefault(names[copy["part"]][copy["position"]], []).append(copy["unit"] * 3 + copy["row"])
    assert [slots[f"ID_{number:03d}"] for number in (4, 5, 7)] == [[4, 4, 5], [4, 5, 6], [6, 7, 7]]


def test_large_images_make_small_parts():
    side = 4096
    large = ImageLayout(("hu",), "int16", side, side, slots=1)
    plan = plan_copies(selected(), large, part_rows=4096, seed=0)
    assert max(len(part) for part in plan.rows) <= PART_BYTES // (side * side * 2) == 16


def test_a_unit_of_more_pixels_than_a_read_may_hold_is_read_in_pieces():
    """An image of 8192 x 8192 int16 takes 128 MiB, two are READ_BYTES: the three of a unit take two reads."""
    large = ImageLayout(("hu",), "int16", 8192, 8192, slots=1)
    reads = list(plan_copies(selected(), large, part_rows=4096, seed=0).copies_by_read())
    places = [set(zip(table["unit"].to_pylist(), table["row"].to_pylist(), strict=True)) for table in reads]
    assert places[:4] == [{(0, 0), (0, 1)}, {(0, 2)}, {(1, 0), (1, 1)}, {(1, 2)}]
    assert [set(table["read"].to_pylist()) for table in reads] == [{number} for number in range(40)]


def test_every_row_is_in_one_part_and_parts_are_of_equal_size():
    parts = shuffled_parts(IDS, 1500, seed=0)
    assert [len(part) for part in parts] == [1334, 1333, 1333]
    assert sorted(np.concatenate(parts).tolist()) == list(range(4000))


def test_any_part_is_a_fair_sample_and_so_is_any_stretch_of_it():
    """Of ids in order, a quarter of each part comes from each quarter; four standard deviations of 1,000 draws."""
    for part in shuffled_parts(IDS, 1000, seed=0):
        np.testing.assert_allclose(np.bincount(part // 1000), 250, atol=4 * np.sqrt(1000 * 0.25 * 0.75))
        assert abs(part[:100].mean() - 2000) < 4 * 4000 / np.sqrt(12 * 100)


def test_order_is_a_function_of_ids_and_seed():
    names = [IDS.take(part).to_pylist() for part in shuffled_parts(IDS, 1000, seed=0)]
    backwards = IDS.take(np.arange(3999, -1, -1))
    assert [backwards.take(part).to_pylist() for part in shuffled_parts(backwards, 1000, seed=0)] == names
    assert [IDS.take(part).to_pylist() for part in shuffled_parts(IDS, 1000, seed=1)] != names


def test_a_part_larger_than_all_rows_is_one_part():
    assert [len(part) for part in shuffled_parts(IDS.slice(0, 3), 4096, seed=0)] == [3]


ONE_PATIENT = np.zeros(5, np.int64)


def test_neighbours_are_by_position_within_the_series():
    """Series A lies at 5, -5 and 0 mm in rows 0, 2 and 3; series B at 1 and 2 mm in rows 1 and 4."""
    places = [("A", 5.0), ("B", 1.0), ("A", -5.0), ("A", 0.0), ("B", 2.0)]
    before, after = adjacent(index_of([{"series": series, "position_mm": at} for series, at in places]), ONE_PATIENT)
    assert before.tolist() == [3, 1, 2, 2, 1]
    assert after.tolist() == [0, 4, 3, 0, 4]


def test_what_lies_in_no_stack_is_its_own_neighbour():
    images = [
        {"series": "A", "position_mm": 1.0},
        {"series": "A", "position_mm": 2.0, "flags": ["localizer"]},
        {"series": "A", "position_mm": None},
        {"series": None, "position_mm": 2.5},
        {"series": "A", "position_mm": 3.0},
    ]
    before, after = adjacent(index_of(images), ONE_PATIENT)
    assert before.tolist() == [0, 1, 2, 3, 0]
    assert after.tolist() == [4, 1, 2, 3, 4]


def test_slices_of_different_patients_are_no_neighbours():
    index = index_of([{"series": "A", "position_mm": float(at)} for at in range(4)])
    before, after = adjacent(index, np.array([0, 1, 0, 2]))
    assert before.tolist() == [0, 1, 0, 3]
    assert after.tolist() == [2, 1, 2, 3]


def test_slices_at_one_position_are_no_neighbours_of_each_other():
    """Two scans at 5 mm, two at 10 mm, one at 15 mm: the first by name counts for both, in any order of rows."""
    places = [("d", 10.0), ("b", 5.0), ("a", 5.0), ("e", 15.0), ("c", 10.0)]
    index = index_of([{"series": "A", "position_mm": at, "image_id": name} for name, at in places])
    before, after = adjacent(index, ONE_PATIENT)
    assert before.tolist() == [2, 1, 2, 4, 2]
    assert after.tolist() == [3, 4, 4, 3, 3]


def test_two_series_of_one_study_at_the_same_positions_stay_apart():
    """A thin and a bone series of one study, interleaved in position; a series of one slice is its own neighbour."""
    places = [("thin", 0.0), ("bone", 0.0), ("thin", 2.5), ("bone", 5.0), ("scout", 1.0)]
    images = [{"study": "T", "series": series, "position_mm": at} for series, at in places]
    before, after = adjacent(index_of(images), ONE_PATIENT)
    assert before.tolist() == [0, 1, 0, 1, 4]
    assert after.tolist() == [2, 3, 2, 3, 4]


def neighbours_at(*positions_mm: float, thickness_mm: float | None = None) -> tuple[list[int], list[int]]:
    """Return the rows before and after each slice of one series; rows are in the order of the positions given."""
    rows = [{"series": "A", "position_mm": at, "slice_thickness_mm": thickness_mm} for at in positions_mm]
    before, after = adjacent(index_of(rows), np.zeros(len(rows), np.int64))
    return before.tolist(), after.tolist()


def test_a_gap_is_an_end():
    """After 0, 5, 10 mm comes 200 mm: 190 exceeds 1.5 x 5. Beyond it 205 and 210 are a stack of their own."""
    assert neighbours_at(0, 5, 10, 200) == ([0, 0, 1, 3], [1, 2, 2, 3])
    assert neighbours_at(0, 5, 10, 200, 205, 210) == ([0, 0, 1, 3, 3, 4], [1, 2, 2, 4, 5, 5])


def test_one_missing_slice_is_a_gap():
    """0, 5, 15, 20: 10 exceeds 1.5 x 5 = 7.5; 7.5 does not."""
    assert neighbours_at(0, 5, 15, 20) == ([0, 0, 2, 2], [1, 1, 3, 3])
    assert neighbours_at(0, 5, 12.5, 17.5) == ([0, 0, 1, 2], [1, 2, 3, 3])


def test_thin_slices_and_then_thick_ones_are_one_stack():
    """4 and then 7 mm: the spacings beside the first 7 are 4 and 7. So may a spacing of 1 mm be between them."""
    assert neighbours_at(0, 4, 8, 15, 22) == ([0, 0, 1, 2, 3], [1, 2, 3, 4, 4])
    assert neighbours_at(0, 4, 8, 9, 16, 23) == ([0, 0, 1, 2, 3, 4], [1, 2, 3, 4, 5, 5])


def test_a_spacing_of_thick_slices_is_no_gap():
    """0, 2, 10: 8 mm exceeds 1.5 x 2; of slices 7 mm thick, 1.5 x 7 = 10.5 are expected."""
    assert neighbours_at(0, 2, 10) == ([0, 0, 2], [1, 1, 2])
    assert neighbours_at(0, 2, 10, thickness_mm=7.0) == ([0, 0, 1], [1, 2, 2])
    assert neighbours_at(0, 11, thickness_mm=7.0) == ([0, 1], [0, 1])
    assert neighbours_at(0, 10, thickness_mm=7.0) == ([0, 0], [1, 1])


AXIAL, CORONAL, SAGITTAL = [1, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, -1], [0, 1, 0, 0, 0, -1]


@pytest.mark.parametrize(("second_mm", "together"), [(12, True), (13, False)])
def test_where_nothing_else_is_known_the_series_median_counts(second_mm, together):
    """Axial slices every 5 mm and two coronal ones: these may lie 2.5 x 5 = 12.5 mm apart, the median of 5, 5, 5, d."""
    places = [(0, AXIAL), (5, AXIAL), (10, AXIAL), (15, AXIAL), (0, CORONAL), (second_mm, CORONAL)]
    rows = [{"series": "A", "position_mm": float(at), "orientation": plane} for at, plane in places]
    before, after = adjacent(index_of(rows), np.zeros(6, np.int64))
    assert before.tolist() == [0, 0, 1, 2, 4, 4 if together else 5]
    assert after.tolist() == [1, 2, 3, 3, 5 if together else 4, 5]


def test_another_orientation_is_another_stack():
    """Axial and sagittal slices of one series at interleaved positions, a third plane, and cosines a little off."""
    nearly = [0.9999, 0.0005, 0, 0, 1, 0]
    places = [(0, AXIAL), (1, SAGITTAL), (5, nearly), (6, SAGITTAL), (10, AXIAL), (11, SAGITTAL), (7, CORONAL)]
    rows = [{"series": "A", "position_mm": float(at), "orientation": plane} for at, plane in places]
    before, after = adjacent(index_of(rows), np.zeros(7, np.int64))
    assert before.tolist() == [0, 1, 0, 1, 2, 3, 6]
    assert after.tolist() == [2, 3, 4, 5, 4, 5, 6]


def test_a_tilt_of_a_degree_is_another_orientation():
    """cos 1 degree is 0.9998, sin 1 degree 0.0175: above the tolerance of 0.01; half of it, 0.0087, is below."""
    tilts = {1.0: [0, 1], 0.5: [0, 0]}
    for degrees, wanted in tilts.items():
        tilted = [1, 0, 0, 0, np.cos(np.radians(degrees)), np.sin(np.radians(degrees))]
        rows = [
            {"series": "A", "position_mm": float(at), "orientation": plane} for at, plane in ((0, AXIAL), (5, tilted))
        ]
        assert adjacent(index_of(rows), np.zeros(2, np.int64))[0].tolist() == wanted


def test_positions_apart_by_rounding_are_one():
    """Two scans, 0.004 mm apart: as gaps of 0.004 and 4.996 mm every slice would be alone."""
    before, after = neighbours_at(0, 0.004, 5, 5.004, 10, 10.004)
    assert before == [0, 1, 0, 0, 2, 2]
    assert after == [2, 2, 4, 4, 4, 5]


def slices_of(files: list[Path]) -> pa.Table:
    """Return the index of real files, of one patient."""
    public = Pseudonymiser()
    config = ConvertConfig(source="s", out="o", corpus="dicom", public_ids=True, side_px=16)
    settings = image_settings(config, media_of(config.source, config.corpus), public)
    with quiet_pydicom():
        images = [images_of_dicom(file.read_bytes(), settings, public)[0] for file in files]
    names = ("series", "position_mm", "orientation", "slice_thickness_mm", "flags")
    return index_of([{name: getattr(image, name) for name in names} for image in images if isinstance(image, Image)])


def test_a_real_series_with_gantry_tilt_is_in_the_scanner_s_order(shared_data):
    """28 slices tilted by 18.5 degrees, 4 and 7 mm apart, one gap of 1 mm: files are numbered as they were scanned."""
    index = slices_of(sorted((shared_data / "head_ct_bsd" / "GE").rglob("*.dcm")))
    for known in (index, index.set_column(*_without(index, "slice_thickness_mm"))):
        before, after = adjacent(known, np.zeros(28, np.int64))
        assert before.tolist() == [0, *range(27)]
        assert after.tolist() == [*range(1, 28), 27]


def _without(index: pa.Table, name: str) -> tuple[int, str, pa.Array]:
    return index.schema.get_field_index(name), name, pa.nulls(len(index), index.schema.field(name).type)


def test_a_real_series_with_a_gap_is_two_stacks(shared_data):
    """Six axial slices of a phantom: one at 696 mm, the others from 741 mm on every 5 mm."""
    index = slices_of(sorted(file for file in (shared_data / "head_ct_bsd/Philips").rglob("*") if file.is_file()))
    before, after = adjacent(index, np.zeros(len(index), np.int64))
    position = index["position_mm"].to_numpy()
    seen = {round(float(position[row]), 1) for row in np.flatnonzero(before != np.arange(len(before)))}
    assert seen == {746.2, 751.2, 756.2, 761.2}
    alone = (before == np.arange(len(before))) & (after == np.arange(len(after)))
    assert round(float(position[alone & (position > 690)][0]), 1) == 696.2


def test_stacks_are_counted_for_the_card():
    """Series A is cut by a gap, B is whole, C has one slice."""
    places = [("A", 0), ("A", 5), ("A", 10), ("A", 100), ("A", 105), ("B", 0), ("B", 5), ("C", 0)]
    rows = [
        {"series": series, "patient": series, "position_mm": float(at), "pixel_format": "u12"} for series, at in places
    ]
    table = LabelTable(("any",), pa.array([f"ID_{n:03d}" for n in range(8)]), np.array([[0, 1] * 4], np.uint8).T, 0)
    selection = select(CurateConfig(shards="s", labels="l", out="o", split="by_image"), index_of(rows), table)
    plan = plan_copies(selection, WITH_NEIGHBOURS, part_rows=10, seed=0)
    assert plan.stacks == {"series": 3, "stacks": 3, "without_neighbour": 1}
    assert plan_copies(selection, LAYOUT, part_rows=10, seed=0).stacks == {}


def test_a_corpus_without_stacks_is_refused():
    with pytest.raises(ConfigError, match="neighbours: 1 needs slices with a series and a position"):
        adjacent(index_of([{"series": "A"}, {"position_mm": 1.0}]), ONE_PATIENT[:2])
