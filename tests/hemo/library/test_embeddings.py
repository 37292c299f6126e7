"""Embeddings in a folder, read with numpy and pyarrow alone."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import hemo
from hemo.errors import SourceError
from hemo.shards.embeddings import EmbeddingsCard, part_name
from hemo.shards.writer import write_table
from hemo.storage import write_json
from tests import series_sets

VECTORS = np.array([[11, 10], [9, 10], [10, 12], [10, 8], [12, 12], [8, 8]], np.float32)
"""Around their mean, (10, 10): right, left, up, down, and two diagonals."""


def write_embeddings(
    folder: Path, vectors: np.ndarray = VECTORS, ids: pa.Table | None = None, images: str = "feedfacefeedface"
) -> str:
    """Write embeddings in parts of 4, by default of images `image-0`, `image-1`, ... of one patient each."""
    rows = range(len(vectors))
    names = {"image_id": [f"image-{row}" for row in rows], "patient": [f"P{row}" for row in rows]}
    ids = pa.table(names) if ids is None else ids
    for number, start in enumerate(range(0, len(vectors), 4)):
        part = vectors[start : start + 4]
        column = pa.FixedSizeListArray.from_arrays(pa.array(part.reshape(-1)), vectors.shape[1])
        write_table(str(folder / part_name(number)), ids.slice(start, 4).append_column("embedding", column))
    card = EmbeddingsCard(
        source="runs/set", inputs={"images": images}, backbone="test_resnet", pooling="gap",
        channels=("brain",), height_px=16, width_px=16, side_px=0, mean=(0.5,), std=(0.25,),
        dimension=vectors.shape[1], dtype=str(vectors.dtype), rows=len(vectors), parts=number + 1,
    )  # fmt: skip
    write_json(str(folder / "card.json"), card.model_dump(mode="json"))
    return str(folder)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_vectors_are_in_the_order_of_the_ids(tmp_path: Path, dtype: type) -> None:
    embeddings = hemo.Embeddings(write_embeddings(tmp_path, VECTORS.astype(dtype)))
    assert len(embeddings) == 6
    assert embeddings.ids["image_id"].tolist() == [f"image-{row}" for row in range(6)]
    np.testing.assert_array_equal(embeddings.vectors, VECTORS)
    assert embeddings.vectors.dtype == np.float32
    assert "2 numbers of test_resnet" in repr(embeddings)
    assert "feedface" not in embeddings._repr_html_()


def test_vectors_cannot_be_edited(tmp_path: Path) -> None:
    embeddings = hemo.Embeddings(write_embeddings(tmp_path))
    with pytest.raises(ValueError, match="read-only"):
        embeddings.vectors[0] = 0
    np.testing.assert_array_equal(embeddings.vectors, VECTORS)


def test_probabilities_are_beside_the_vectors(tmp_path: Path) -> None:
    with_head, vectors = tmp_path / "head", np.array([[1, 2], [3, 4]], np.float32)
    probabilities = np.array([[0.25], [0.75]], np.float32)
    series_sets.write_embeddings(with_head, ["a", "b"], vectors, probabilities=probabilities)
    embeddings = hemo.Embeddings(str(with_head))
    assert embeddings.probabilities.to_dict("list") == {"any": [0.25, 0.75]}
    np.testing.assert_array_equal(embeddings.vectors, vectors)
    assert "probabilities" not in embeddings.ids.columns
    with pytest.raises(SourceError, match="no probabilities: test_resnet was a backbone without head"):
        _ = hemo.Embeddings(write_embeddings(tmp_path / "plain")).probabilities


def test_the_nearest_images_of_an_image(tmp_path: Path) -> None:
    """Of `right`: the upper diagonal at 45 degrees, then up at 90."""
    nearest = hemo.Embeddings(write_embeddings(tmp_path)).nearest("image-0", 2)
    assert nearest["image_id"].tolist() == ["image-4", "image-2"]
    np.testing.assert_allclose(nearest["cosine"], [np.sqrt(0.5), 0], atol=1e-6)


def test_an_unknown_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="has no image 'image-9'; `ids` lists its images"):
        hemo.Embeddings(write_embeddings(tmp_path)).nearest("image-9")


def test_what_is_no_finished_output_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"is no finished set of embeddings .*; `hemo embed` makes one"):
        hemo.Embeddings(str(tmp_path))


def test_a_missing_part_is_noticed(tmp_path: Path) -> None:
    folder = write_embeddings(tmp_path)
    (tmp_path / part_name(1)).unlink()
    with pytest.raises(SourceError, match="the parts have 4 rows, the card says 6"):
        _ = hemo.Embeddings(folder).vectors


def test_a_damaged_part_is_named(tmp_path: Path) -> None:
    folder = write_embeddings(tmp_path)
    (tmp_path / part_name(1)).write_bytes(b"PAR1 and no more")
    with pytest.raises(SourceError, match=r"part-000001\.parquet is damaged; remove it and run `hemo embed` again"):
        _ = hemo.Embeddings(folder).vectors
