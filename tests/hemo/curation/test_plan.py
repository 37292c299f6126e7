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


def test_a_real_series_with_gantry_tilt_is_in_the_scanner_s_order(shared_data):
    """28 slices tilted by 18.5 degrees, 4 and 7 mm apart, one gap of 1 mm: files are numbered as they were scanned."""
    public = Pseudonymiser()
    config = ConvertConfig(source="s", out="o", corpus="dicom", public_ids=True, side_px=16)
    files = sorted((shared_data / "head_ct_bsd" / "GE").rglob("*.dcm"))
    with quiet_pydicom():
        slices = [
            images_of_dicom(
                file.read_bytes(), image_settings(config, media_of(config.source, config.corpus), public), public
            )[0]
            for file in files
        ]
    index = index_of([{"series": image.series, "position_mm": image.position_mm} for image in slices])
    before, after = adjacent(index, np.zeros(28, np.int64))
    assert before.tolist() == [0, *range(27)]
    assert after.tolist() == [*range(1, 28), 27]


def test_a_corpus_without_stacks_is_refused():
    with pytest.raises(ConfigError, match="neighbours: 1 needs slices with a series and a position"):
        adjacent(index_of([{"series": "A"}, {"position_mm": 1.0}]), ONE_PATIENT[:2])
