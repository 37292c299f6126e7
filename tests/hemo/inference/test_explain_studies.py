"""Which slices carried a sequence model's decision."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import hemo
from hemo.errors import ConfigError, OutputError, SourceError
from hemo.inference.explain_studies import LEADING, _case, label_of_study, study_png
from tests.hemo.inference.test_sequence import _trained, _with_ids
from tests.series_sets import SLICES, SeriesSet
from tests.trial_runs import run_to_record

Maker = Callable[..., SeriesSet]

SUPPORT = [0.1, -0.9, 0.5, 0.0, 2.0, -0.3, 0.2, 0.05]
"""Of eight slices: without the third and the eighth smallest, six are left."""


def slices(labels: list[int | None]) -> pa.Table:
    number = len(labels)
    return pa.table(
        {
            "image_id": [f"i{place}" for place in range(number)],
            "series": ["s"] * number,
            "position_mm": pa.array([5.0 * place for place in range(number)], pa.float32()),
            "label": pa.array(labels, pa.int8()),
            "probability_any": pa.array(np.linspace(0, 1, number), pa.float32()),
            "support_any": pa.array(SUPPORT[:number], pa.float32()),
        }
    )


def test_the_slices_of_the_largest_support_are_shown_in_their_order() -> None:
    case = _case(slices([0] * 7 + [1]), ("study", "patient"), 0.25, "any")
    assert [each["image_id"] for each in case["slices"]] == ["i0", "i1", "i2", "i4", "i5", "i6"]
    assert len(case["slices"]) == LEADING
    assert case["slices"][3] == {
        "image_id": "i4",
        "series": "s",
        "position_mm": 20.0,
        "label": 0,
        "probability": pytest.approx(4 / 7),
        "support": 2.0,
    }
    assert (case["label"], case["loss"]) == (1, pytest.approx(np.log(4)))


@pytest.mark.parametrize(("of_slices", "label"), [([0, 1, None], 1), ([0, 0], 0), ([0, None], None), ([None], None)])
def test_a_study_has_what_a_slice_has(of_slices: list[int | None], label: int | None) -> None:
    assert label_of_study(of_slices) == label


def test_support_is_drawn_red_above_and_blue_below() -> None:
    """Of two slices one speaks for the class, the other against it; the study is one whose name is no formula."""
    table = slices([1, 0])
    case = _case(table, ("a$b_c", None), 0.5, "any")
    grey = {name: np.full((1, 16, 16), 128, np.uint8) for name in ("i0", "i1")}
    picture = np.asarray(Image.open(io.BytesIO(study_png(table, case, grey))).convert("RGB")).astype(int)
    red = np.argwhere((picture[..., 0] - picture[..., 2]) > 100)
    blue = np.argwhere((picture[..., 2] - picture[..., 0]) > 100)
    assert len(red) > 100
    assert len(blue) > 100
    assert red[:, 1].min() < blue[:, 1].min()  # the first slice is at the left
    bars = picture.shape[0] * 0.6
    assert red[red[:, 0] < bars][:, 0].min() < blue[blue[:, 0] < bars][:, 0].max()


def test_the_hardest_studies_of_a_split_are_drawn(make_series_set: Maker, tmp_path: Path) -> None:
    made = make_series_set()
    digest = _trained(made, tmp_path / "records")
    _with_ids(made)
    given = {"checkpoint": f"{tmp_path}/records/{digest}", "images": made.training_set, "out": str(tmp_path / "out")}
    explained = hemo.explain(**given, highest_loss=3)
    losses = [case["loss"] for case in explained.cases]
    assert losses == sorted(losses, reverse=True)
    first = explained.cases[0]
    assert (first["file"], first["class"], len(first["slices"])) == ("case-001.png", "any", SLICES)
    assert {case["image_id"] for case in explained.cases} <= {f"study-test-{number}" for number in range(12)}
    assert first["label"] == 1 - int(first["image_id"].rpartition("-")[2]) % 2  # every other study has blood
    assert [each["position_mm"] for each in first["slices"]] == [-40, -35, -30, -25, -20, -15]
    stored = json.loads((tmp_path / "out/cases.json").read_text())
    assert stored["cases"] == explained.cases
    with Image.open(tmp_path / "out/case-003.png") as picture:
        assert picture.size[0] > 500
    named = hemo.explain(**{**given, "out": str(tmp_path / "named")}, image_ids=["study-test-4", "study-test-1"])
    assert [case["image_id"] for case in named.cases] == ["study-test-4", "study-test-1"]
    with pytest.raises(OutputError, match="holds other explanations"):
        hemo.explain(**given, highest_loss=2)
    with pytest.raises(ConfigError, match=r"image_ids: 'nobody' is no study of .* \(1 missing\)"):
        hemo.explain(**{**given, "out": str(tmp_path / "other")}, image_ids=["nobody"])
    for part in Path(made.embeddings, "embeddings").iterdir():
        pq.write_table(pq.read_table(part).slice(1), part)
    card = json.loads(Path(made.embeddings, "card.json").read_text())
    Path(made.embeddings, "card.json").write_text(json.dumps({**card, "rows": card["rows"] - 2}))
    with pytest.raises(SourceError, match=r"embeddings: .* has no vector of \d+ of 72 images of"):
        hemo.explain(**{**given, "out": str(tmp_path / "lacking")}, from_split="test", highest_loss=12)


def test_studies_numbered_within_each_patient_are_apart(make_series_set: Maker, tmp_path: Path) -> None:
    """All of test are named 1, each of another patient: by its name all are shown, by loss the hardest."""
    made = make_series_set()
    digest = _trained(made, tmp_path / "records")
    for part in Path(made.training_set, "test").iterdir():
        table = pq.read_table(part)
        for name in ("study", "series"):
            place = table.schema.get_field_index(name)
            table = table.set_column(place, name, pa.array(["1"] * len(table)))
        pq.write_table(table, part, row_group_size=8, write_page_checksum=True)
    given = {"checkpoint": f"{tmp_path}/records/{digest}", "images": made.training_set}
    hardest = hemo.explain(**given, out=str(tmp_path / "hardest"), highest_loss=3).cases
    named = hemo.explain(**given, out=str(tmp_path / "named"), image_ids=["1"]).cases
    assert [case["patient"] for case in named] == sorted(f"test-{number}" for number in range(12))
    assert {(case["image_id"], len(case["slices"])) for case in named} == {("1", SLICES)}
    by_loss = sorted(named, key=lambda case: -case["loss"])[:3]
    assert [case["patient"] for case in hardest] == [case["patient"] for case in by_loss]


def test_embeddings_are_not_for_a_model_of_images(make_series_set: Maker, tmp_path: Path) -> None:
    made = make_series_set()
    config = made.trial(epochs=1).model_copy(update={"model": type(made.trial().model)(backbone="test_resnet")})
    digest = run_to_record(config, made.training_set, tmp_path / "records").digest
    with pytest.raises(ConfigError, match="embeddings: test_resnet takes images, not embeddings"):
        hemo.explain(
            checkpoint=f"{tmp_path}/records/{digest}",
            images=made.training_set,
            out=str(tmp_path / "out"),
            embeddings=made.embeddings,
        )
