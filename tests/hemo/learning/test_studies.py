"""Studies out of slices."""

import pyarrow as pa
import pytest

from hemo.learning.studies import study_probabilities


def _predictions(rows: list[tuple[str | None, float, float]]) -> pa.Table:
    studies, first, second = zip(*rows, strict=True)
    return pa.table(
        {
            "image_id": [f"i{row}" for row in range(len(rows))],
            "patient": [None if study is None else f"patient of {study}" for study in studies],
            "study": pa.array(studies, pa.string()),
            "probability_any": pa.array(first, pa.float32()),
            "probability_subdural": pa.array(second, pa.float32()),
        }
    )


def test_maximum_and_noisy_or_by_hand() -> None:
    """Of b: 1 - 1/2 * 3/4 = 5/8, and 1 - 0.9 * 0.8 = 0.28."""
    found = study_probabilities(
        _predictions([("b", 0.5, 0.1), ("a", 0.125, 1.0), ("b", 0.25, 0.2), (None, 0.9, 0.9)]), ("any", "subdural")
    )
    one, two = found.to_pylist()
    assert one == {
        "study": "a", "patient": "patient of a", "images": 1,
        "max_any": 0.125, "noisy_or_any": pytest.approx(0.125), "max_subdural": 1.0, "noisy_or_subdural": 1.0,
    }  # fmt: skip
    assert (two["study"], two["images"], two["max_any"]) == ("b", 2, 0.5)
    assert two["noisy_or_any"] == pytest.approx(0.625)
    assert two["max_subdural"] == pytest.approx(0.2)
    assert two["noisy_or_subdural"] == pytest.approx(0.28)


def test_images_without_a_study_make_none() -> None:
    assert study_probabilities(_predictions([(None, 0.5, 0.5)]), ("any", "subdural")).num_rows == 0


def test_many_unlikely_slices_are_not_rounded_away() -> None:
    found = study_probabilities(_predictions([("a", 1e-7, 0.0)] * 40), ("any", "subdural"))
    assert found["noisy_or_any"][0].as_py() == pytest.approx(4e-6, rel=1e-5)
