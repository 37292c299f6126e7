"""Shards as an object, and shards of one's own rows."""

import pickle
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hemo.errors import ConfigError, OutputError, SourceError
from hemo.library.shards import Shards, ShardWriter
from tests.made_shards import write_conversion


def write_images(folder: Path, image_ids: Iterable[str]) -> None:
    """Write one black image of 2 x 2 pixels an id, each a unit of its own."""
    with ShardWriter(str(folder), channels=("grey",), side_px=2, unit_rows=1) as writer:
        for image_id in image_ids:
            writer.write(np.zeros((2, 2), np.uint8), image_id=image_id)


@pytest.fixture
def own(tmp_path: Path) -> str:
    """Five images of 2 x 3 pixels in units of two: image `i` is `i` everywhere."""
    with ShardWriter(str(tmp_path / "own"), channels=("grey",), side_px=(2, 3), unit_rows=2) as writer:
        for number in range(5):
            image = np.full((2, 3), number, np.uint8)
            writer.write(
                image, image_id=f"i{number}", patient=f"p{number // 2}", source_class="odd" if number % 2 else None
            )
    return str(tmp_path / "own")


def test_rows_of_ones_own_come_back(own: str) -> None:
    shards = Shards(own)
    assert (len(shards), shards.channels, shards.shape) == (5, ("grey",), (1, 2, 3))
    assert [int(row["image"].sum()) for row in shards] == [0, 6, 12, 18, 24]
    assert [row["source_class"] for row in shards] == [None, "odd", None, "odd", None]
    assert shards.index["unit"].tolist() == [0, 0, 1, 1, 2]
    assert shards.index["patient"].nunique() == 3
    assert len(shards.rejects) == 0


@pytest.mark.parametrize("which", [3, "i3"])
def test_one_image_by_row_or_id(own: str, which: int | str) -> None:
    np.testing.assert_array_equal(Shards(own).image(which), np.full((1, 2, 3), 3, np.uint8))


def test_an_image_behind_several_row_groups(tmp_path: Path) -> None:
    """Row groups of two in units of three: the third of a unit is in its second group."""
    shards = Shards(write_conversion(tmp_path / "made", [{}] * 5))
    assert [int(shards.image(row)[0, 0, 0]) for row in range(5)] == [0, 1, 2, 3, 4]


def test_a_unit_whose_files_vanished_has_no_shard(tmp_path: Path) -> None:
    folder = write_conversion(tmp_path / "made", [{}] * 5)
    Path(folder, "shards/unit-000000.parquet").unlink()
    assert [row["image_id"] for row in Shards(folder)] == ["ID_003", "ID_004"]


@pytest.mark.parametrize(("which", "says"), [(5, "5 is no row of .*, which has 5 images"), ("x", "'x' is no image_id")])
def test_no_such_image(own: str, which: int | str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Shards(own).image(which)


def test_a_folder_without_shards_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"is no finished conversion .*`hemo convert` makes one"):
        Shards(str(tmp_path))


@pytest.mark.parametrize(
    ("file", "use"),
    [
        ("index.parquet", lambda shards: shards.index),
        ("rejects.parquet", lambda shards: shards.rejects),
        ("shards/unit-000001.parquet", lambda shards: shards.image(2)),
        ("shards/unit-000001.parquet", lambda shards: shards.show()),
    ],
)
def test_a_file_that_is_gone_is_one_line(own: str, file: str, use: Callable[[Shards], object]) -> None:
    Path(own, file).unlink()
    with pytest.raises(SourceError, match=rf"{file} does not exist; run `hemo convert` again"):
        use(Shards(own))


def test_pickles_without_index_and_images(own: str) -> None:
    shards = Shards(own)
    assert len(shards.index) == 5
    assert len(pickle.dumps(shards)) < 2000
    assert len(pickle.loads(pickle.dumps(shards)).index) == 5


def test_shows_itself(own: str) -> None:
    shards = Shards(own)
    sheet = shards.show(3)
    assert sheet.size == (3 * 132, 146)
    assert sheet.getpixel((0, 0)) == (0, 0, 0)
    assert sheet.getpixel((2 * 132, 0)) == (4, 4, 4)  # the last of five
    chosen = shards.show(shards.index.index[[3, 1]])
    assert [chosen.getpixel((column * 132, 0)) for column in range(2)] == [(3, 3, 3), (1, 1, 1)]
    assert shards.show([str(shards.index["image_id"][2])]).getpixel((0, 0)) == (2, 2, 2)
    assert "5 of 5 files, 3 patients" in shards._repr_html_()
    assert repr(shards).endswith("5 images of 1 x 2 x 3)")


def test_nothing_is_left_of_an_interrupted_writer(tmp_path: Path) -> None:
    def images() -> Iterator[str]:
        yield "a"
        assert len(list((tmp_path / "own/shards").iterdir())) == 1
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_images(tmp_path / "own", images())
    assert not (tmp_path / "own").exists()


def test_a_finished_folder_gets_no_more_images(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    with ShardWriter(str(folder), channels=("grey",), side_px=2, unit_rows=2) as writer:
        writer.write(np.zeros((2, 2), np.uint8), image_id="a")
    with pytest.raises(ConfigError, match=r"b: .*own is not open; write within its `with` block"):
        writer.write(np.zeros((2, 2), np.uint8), image_id="b")
    assert [row["image_id"] for row in Shards(str(folder))] == ["a"]


def test_a_writer_without_a_block_writes_nothing(tmp_path: Path) -> None:
    writer = ShardWriter(str(tmp_path / "own"), channels=("grey",), side_px=2, unit_rows=1)
    with pytest.raises(ConfigError, match=r"a: .*own is not open; write within its `with` block"):
        writer.write(np.zeros((2, 2), np.uint8), image_id="a")
    assert not (tmp_path / "own").exists()


def test_a_writer_begins_anew_after_an_exception(tmp_path: Path) -> None:
    """Of the first attempt a whole unit was written, and an image waited for the second."""
    writer = ShardWriter(str(tmp_path / "own"), channels=("grey",), side_px=2, unit_rows=2)
    with suppress(RuntimeError), writer:
        for number in range(3):
            writer.write(np.zeros((2, 2), np.uint8), image_id=f"first-{number}")
        raise RuntimeError("stop")
    with writer:
        writer.write(np.zeros((2, 2), np.uint8), image_id="second")
    shards = Shards(str(tmp_path / "own"))
    assert [row["image_id"] for row in shards] == shards.index["image_id"].tolist() == ["second"]
    assert (shards.card.files, shards.card.rows) == (1, 1)


def test_what_a_killed_writer_left_is_begun_anew(own: str) -> None:
    Path(own, "card.json").unlink()
    with ShardWriter(own, channels=("grey",), side_px=(2, 3)) as writer:
        writer.write(np.zeros((2, 3), np.uint8), image_id="new")
    assert [row["image_id"] for row in Shards(own)] == ["new"]


def test_finished_shards_are_not_overwritten(own: str) -> None:
    with pytest.raises(OutputError, match="holds shards already"), ShardWriter(own, channels=("grey",), side_px=2):
        pass
    assert len(Shards(own)) == 5


def test_a_file_that_is_no_shard_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "thesis.parquet").write_bytes(b"years of work")
    with (
        pytest.raises(OutputError, match="is no shard of hemo's"),
        ShardWriter(str(tmp_path), channels=("grey",), side_px=2),
    ):
        pass
    assert (tmp_path / "shards" / "thesis.parquet").read_bytes() == b"years of work"


def test_two_writers_of_one_folder(tmp_path: Path) -> None:
    with ShardWriter(str(tmp_path), channels=("grey",), side_px=2) as first:
        with (
            pytest.raises(OutputError, match="another run is writing"),
            ShardWriter(str(tmp_path), channels=("grey",), side_px=2),
        ):
            pass
        first.write(np.zeros((2, 2), np.uint8), image_id="a")
    assert len(Shards(str(tmp_path))) == 1


def test_an_id_twice_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="would both be image a"):
        write_images(tmp_path / "own", ["a", "a"])
    assert not (tmp_path / "own").exists()


@pytest.mark.parametrize(
    ("image", "columns", "says"),
    [
        (
            np.zeros((2, 3), np.uint8),
            {},
            r"a: the image is uint8 of shape \(1, 2, 3\), and must be uint8 of shape \(1, 2, 2\)",
        ),
        (np.zeros((2, 2)), {}, "a: the image is float64"),
        (np.zeros((2, 2), np.uint8), {"pacient": "p"}, "a: 'pacient' is no column of a shard; you may give frame"),
        (np.zeros((2, 2), np.uint8), {"height_px": 7}, "a: 'height_px' follows from the image; you may give frame"),
        (
            np.zeros((2, 2), np.uint8),
            {"flags": "blank"},
            r"flags 'blank' must be list<.*string> \(a list, not a text",
        ),
        (np.zeros((2, 2), np.uint8), {"source_path": None}, "a: source_path None must be string .it cannot be null"),
        (np.zeros((2, 2), np.uint8), {"position_mm": "far"}, "a: position_mm 'far' must be float"),
    ],
)
def test_a_row_that_does_not_fit(tmp_path: Path, image: np.ndarray, columns: dict[str, str], says: str) -> None:
    with (
        pytest.raises(ConfigError, match=says),
        ShardWriter(str(tmp_path / "own"), channels=("grey",), side_px=2) as writer,
    ):
        writer.write(image, image_id="a", **columns)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"channels": (), "side_px": 2}, "channels"),
        ({"channels": ("a", "a"), "side_px": 2}, "none twice"),
        ({"channels": "grey", "side_px": 2}, "channels: 'grey' must be a list of names"),
        ({"channels": ("a",), "side_px": 0}, "side_px: 0 must be a positive integer, or two: height and width"),
        ({"channels": ("a",), "side_px": (2, 3, 4)}, r"side_px: \(2, 3, 4\) must be a positive integer, or two"),
        ({"channels": ("a",), "side_px": 2.5}, "side_px: 2.5 must be a positive integer, or two"),
        ({"channels": ("a",), "side_px": 2, "unit_rows": 0}, "unit_rows: 0 must be positive"),
        ({"channels": ("a",), "side_px": 2, "dtype": "grey"}, "'grey' must be uint8 or int16"),
        ({"channels": ("a",), "side_px": 2, "dtype": "float32"}, "must be uint8 or int16"),
    ],
)
def test_a_writer_that_cannot_be(tmp_path: Path, arguments: dict, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        ShardWriter(str(tmp_path), **arguments)


@pytest.mark.parametrize("dtype", [np.uint8, np.dtype("uint8"), "u1"])
@pytest.mark.parametrize("side_px", [[2, 3], (np.int64(2), np.int64(3)), np.array([2, 3])])
def test_dtype_and_sides_as_numpy_has_them(tmp_path: Path, own: str, dtype: Any, side_px: Any) -> None:
    """The card, and with it the digest, is that of plain arguments."""
    with ShardWriter(
        str(tmp_path / "other"), channels=["grey"], side_px=side_px, dtype=dtype, unit_rows=np.int64(2)
    ) as writer:
        for row in Shards(own):
            columns = {name: row[name] for name in ("patient", "source_class")}
            writer.write(row["image"], image_id=np.str_(row["image_id"]), **columns)
    made, card = Shards(str(tmp_path / "other")), Shards(own).card
    assert (made.card.digest, made.card.image_shape, made.card.dtype) == (card.digest, (1, 2, 3), "uint8")


def test_one_side_of_numpy(tmp_path: Path) -> None:
    with ShardWriter(str(tmp_path / "own"), channels=("hu",), side_px=np.int64(2), dtype=np.int16) as writer:
        writer.write(np.zeros((2, 2), np.int16), image_id="a")
    assert Shards(str(tmp_path / "own")).card.image_shape == (1, 2, 2)


def test_an_id_that_is_no_text_is_refused_with_its_row(tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigError, match="5: image_id 5 must be string"),
        ShardWriter(str(tmp_path / "own"), channels=("grey",), side_px=2) as writer,
    ):
        writer.write(np.zeros((2, 2), np.uint8), image_id=5)


def test_no_image_at_all(tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigError, match="no image was written"),
        ShardWriter(str(tmp_path / "own"), channels=("grey",), side_px=2),
    ):
        pass
    assert not (tmp_path / "own").exists()


def test_hounsfield_units_are_drawn_through_the_brain_window(tmp_path: Path) -> None:
    with ShardWriter(str(tmp_path), channels=("hu",), side_px=2, dtype="int16") as writer:
        writer.write(np.full((2, 2), 40, np.int16), image_id="a")
    shards = Shards(str(tmp_path))
    assert (shards.card.dtype, shards.index["pixel_format"][0]) == ("int16", "i16")
    assert shards.show().getpixel((0, 0)) == (128, 128, 128)
