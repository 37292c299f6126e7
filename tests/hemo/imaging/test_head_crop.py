from pathlib import Path

import numpy as np
import pydicom
import pytest

from hemo.imaging.dicom.read import quiet_pydicom
from hemo.imaging.head_crop import Box, head_box


def slice_hu(rows: int = 512, cols: int = 512) -> np.ndarray:
    return np.full((rows, cols), -1000, np.int16)


def test_the_box_is_a_square_around_the_head_with_a_margin():
    """A head of 200 x 160 px: 200 x 1.08 = 216 px, up to 7 x 32 = 224, centred: rows 88 to 312, columns 188 to 412."""
    hu = slice_hu()
    hu[100:300, 220:380] = 30
    assert head_box(hu) == Box(top=88, left=188, height=224, width=224)


def test_a_headrest_and_a_table_do_not_widen_it():
    """A shell, 6 px thick, and a tube that joins it to the head: a pixel of the reduced image may stay, 4 px."""
    hu = slice_hu()
    hu[100:300, 220:380] = 30
    alone = head_box(hu)
    hu[320:326, 100:500] = 200  # the shell
    hu[200:326, 100:106] = 200
    hu[100:326, 294:298] = 200  # the tube
    hu[460:512] = -800  # a table of foam
    np.testing.assert_allclose(head_box(hu), alone, atol=4)


def test_the_largest_part_is_the_head():
    hu = slice_hu()
    hu[100:300, 220:380] = 30
    alone = head_box(hu)
    hu[400:440, 40:100] = 40  # a hand
    assert head_box(hu) == alone


def test_a_box_at_the_edge_is_moved_inwards():
    hu = slice_hu()
    hu[0:200, 312:512] = 30
    assert head_box(hu) == Box(top=0, left=288, height=224, width=224)


def test_a_box_is_no_larger_than_the_slice():
    hu = slice_hu(512, 400)
    hu[20:500, 100:300] = 30
    assert head_box(hu) == Box(top=0, left=0, height=512, width=400)


@pytest.mark.parametrize("hu", [slice_hu(), np.full((3, 5), -1000, np.int16), np.full((1, 1), 40, np.int16)])
def test_a_slice_without_a_head_has_no_box(hu):
    assert head_box(hu) is None


def test_a_thin_shell_alone_is_no_head():
    hu = slice_hu()
    hu[400:408, 40:480] = 300
    assert head_box(hu) is None


def test_real_heads_are_found_whole(shared_data: Path):
    """All but a thousandth of the bone lies within the box; of the 27 slices one shows a headrest and no head."""
    shares = []
    for file in sorted((shared_data / "rsna").rglob("*.dcm")):
        with quiet_pydicom():
            dataset = pydicom.dcmread(file)
            hu = (dataset.pixel_array.astype(np.int32) + int(dataset.RescaleIntercept)).astype(np.int16)
        if box := head_box(hu):
            bone = hu > 500
            inside = bone[box.top : box.top + box.height, box.left : box.left + box.width]
            assert inside.sum() >= 0.999 * bone.sum()
            shares.append(inside.size / hu.size)
    assert len(shares) == 26
    assert np.median(shares) < 0.75
