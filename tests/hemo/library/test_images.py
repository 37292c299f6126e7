"""One file to an image, without Ray."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hemo.errors import ConfigError, SourceError
from hemo.library.images import read_image, read_images, read_rejects
from tests.dicom_files import dicom_bytes, head_file


def test_a_slice_at_hand_computed_values(tmp_path: Path) -> None:
    """40 HU is 127.5 in the brain window, 0 to 80 HU, and rounds to the even 128."""
    stored = np.full((16, 16), 1064, np.int16)  # intercept -1024
    (tmp_path / "a.dcm").write_bytes(dicom_bytes(stored, PatientID="P7"))
    image = read_image(tmp_path / "a.dcm", windows=("brain", "stroke"), side_px=8)
    assert image.channels == ("brain", "stroke")
    np.testing.assert_array_equal(image.pixels, np.stack([np.full((8, 8), 128), np.full((8, 8), 255)]))
    assert (image.pixels.dtype, image.facts["patient"], image.facts["source_rows"]) == (np.uint8, "P7", 16)


def test_an_image_shows_itself() -> None:
    """A tile a channel, and what is known of it; the digest's bytes tell nobody anything."""
    shown = read_image(head_file(PatientID="P<7>"), windows=("brain", "stroke"), side_px=8)._repr_html_()
    assert "data:image/png;base64" in shown
    assert "Image: 2 x 8 x 8, uint8" in shown
    assert "P&lt;7&gt;" in shown
    assert "pixel_digest" not in shown


def test_hounsfield_units_of_bytes() -> None:
    image = read_image(dicom_bytes(np.full((16, 16), 1064, np.int16)), pixels="hu16", side_px=8)
    assert (image.channels, image.pixels.dtype, image.pixels[0, 0, 0]) == (("hu",), np.int16, 40)


def test_a_picture_is_known_by_its_first_bytes() -> None:
    content = io.BytesIO()
    Image.new("RGB", (20, 20), (10, 20, 30)).save(content, format="PNG")
    image = read_image(content.getvalue(), side_px=8)
    assert image.channels == ("red", "green", "blue")
    np.testing.assert_array_equal(image.pixels[:, 0, 0], [10, 20, 30])


def test_a_frame_of_several() -> None:
    stored = np.stack([np.full((16, 16), 1024 + 20 * number, np.int16) for number in range(3)])
    data = dicom_bytes(stored, NumberOfFrames=3)
    assert read_image(data, pixels="hu16", side_px=8, frame=2).pixels[0, 0, 0] == 40
    with pytest.raises(SourceError, match="no frame 3; the file has 3"):
        read_image(data, frame=3)


def test_why_a_file_gives_no_image(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="bytes gives no image: not_dicom"):
        read_image(b"no DICOM")
    with pytest.raises(SourceError, match=r"nothing\.dcm: cannot be read .*; give a file"):
        read_image(tmp_path / "nothing.dcm")
    for corpus in ("manifest", "x"):
        with pytest.raises(ConfigError, match=f"corpus: must be rsna, dicom, image_folder or None, not '{corpus}'"):
            read_image(head_file(), corpus=corpus)
    with pytest.raises(ConfigError, match="'brian' is not a known window"):
        read_image(head_file(), windows=("brian",))
    with pytest.raises(ConfigError, match=r"no such key \(did you mean side_px\?\)"):
        read_image(head_file(), sidepx=8)


def test_settings_of_a_corpus_are_checked_before_ray_starts() -> None:
    with pytest.raises(ConfigError, match="read_rejects: unit_files: must be greater than 0, not 0"):
        read_rejects("/data", corpus="rsna", unit_files=0)
    with pytest.raises(ConfigError, match=r"read_images: unit_file: no such key .did you mean unit_files"):
        read_images("/data", corpus="rsna", unit_file=2)


def test_a_corpus_as_a_dataset(ray_cluster: None, tmp_path: Path) -> None:
    (tmp_path / "ID_a.dcm").write_bytes(head_file())
    rows = read_images(tmp_path, corpus="rsna", side_px=8).take_all()
    assert [(row["image_id"], row["image"].shape) for row in rows] == [("ID_a", (3, 8, 8))]
