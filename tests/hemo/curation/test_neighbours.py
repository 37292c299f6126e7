"""The slice before and the slice after."""

import numpy as np
import pytest

from hemo.config.convert import ConvertConfig
from hemo.corpus.sources import media_of
from hemo.curation.neighbours import adjacent
from hemo.errors import ConfigError
from hemo.imaging.dicom.read import images_of_dicom, quiet_pydicom
from hemo.imaging.settings import image_settings
from hemo.pseudonym import Pseudonymiser
from tests.made_shards import index_of

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
    """Two scans at 5 mm, two at 10 mm, one at 15 mm: the first by name stands for both, whatever the order of rows."""
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
