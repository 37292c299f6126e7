"""The page of a training set or of shards: flow, sheets, histograms, rejects, without its HTML."""

import base64
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from hemo.config.report import ReportConfig
from hemo.curation.card import Step
from hemo.errors import ConfigError, SourceError
from hemo.reporting.build import write_report
from hemo.reporting.leak_table import Estimate, LeakRow, LeaksCard, MetricLeak
from hemo.reporting.page.data_page import (
    _histogram,
    contact_sheets,
    data_page,
    flow,
    histograms,
    images_of_a_sheet,
    rejects,
    slice_spacings,
    split_boxes,
)
from hemo.reporting.page.data_set import near_rows, read_data_set, read_pixels
from hemo.reporting.page.gallery import TILE_PX, make_sprite
from hemo.shards.schema import REJECT_SCHEMA
from hemo.shards.writer import write_table
from hemo.storage import read_json, write_json
from tests.made_shards import write_conversion

ROWS = [
    {"flags": ["blank"], "study": "s1", "series": "a", "position_mm": 0.0},
    {"pixel_format": "i16", "study": "s1", "series": "a", "position_mm": 5.0},
    {"study": "s1", "series": "a", "position_mm": 10.0},
    {"study": "s2", "series": "b", "position_mm": 1.0, "flags": ["blank", "noise"]},
]


@pytest.fixture
def shards(tmp_path):
    """Return the folder of four made-up images in two units, and one reject."""
    folder = write_conversion(tmp_path / "converted", ROWS)
    reject = {"source_path": "a.dcm", "frame": 0, "reason": "truncated", "detail": "<b>short</b>"}
    write_table(f"{folder}/rejects.parquet", pa.Table.from_pylist([reject], schema=REJECT_SCHEMA))
    return folder


def test_sheets_stand_for_flags_and_formats_and_windows(shards):
    """Two channels: every image is in the sprite once, and each channel of it once more."""
    sheets, pixels = contact_sheets(read_data_set(shards))
    found = {(sheet["kind"], sheet["name"]): (sheet["count"], [name for _, name in sheet["tiles"]]) for sheet in sheets}
    assert found["flag", "blank"] == (2, ["ID_000", "ID_003"])
    assert found["flag", "none"] == (2, ["ID_001", "ID_002"])
    assert found["pixel format", "i16"] == (1, ["ID_001"])
    assert [key for key in found if key[0] == "window"] == [("window", "brain"), ("window", "subdural")]
    assert len(pixels) == 4 + 2 * 4
    assert [int(image[0, 0, 0]) for image in pixels[:4]] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("counts", "most", "expected"),
    [((10_000, 3), 2000, 240), ((10_000, 500), 300, 150), ((10_000, 500, 20), 300, 140), ((5, 7), 12, 240)],
)
def test_sheets_share_what_a_page_may_have(counts, most, expected):
    """240 and 3 are below 2,000; two of 150 are 300; with 20 of a small group 280 are left, 140 for each other."""
    assert images_of_a_sheet(counts, most) == expected


def test_pixels_come_from_their_row_groups(shards):
    data = read_data_set(shards)
    assert {row: int(image.max()) for row, image in read_pixels(data, [3, 1]).items()} == {1: 1, 3: 3}


def test_rare_groups_choose_first_and_common_ones_take_what_is_read_anyway(shards):
    """Row groups are (0, 1), (2) and (3): once that of image 1 is read, image 0 costs nothing."""
    data = read_data_set(shards)
    chosen = near_rows(data, {"rare": np.array([1]), "common": np.array([0, 1, 2, 3])}, 2)
    assert chosen == {"rare": [1], "common": [0, 1]}


def test_histograms_of_slices(shards):
    """Series a lies at 0, 5 and 10 mm, b has one slice; study s1 has three images, s2 one."""
    rows = read_data_set(shards).rows
    assert slice_spacings(rows).tolist() == [5.0]
    found = {each["title"]: each for each in histograms(rows)}
    assert found["Slices a study"]["counts"] == [1, 0, 1]
    assert found["Slices a study"]["edges"] == [0.5, 1.5, 2.5, 3.5]
    assert found["Brain fraction"]["median"] == 0.5
    assert "Slice thickness" not in found


@pytest.mark.parametrize(
    ("values", "counts", "edges"),
    [
        ([-32768, 32767], [1, *[0] * 28, 1], (-32768, 32767)),  # the difference wraps to -1 in int16
        ([-2000, 30767], [1, *[0] * 28, 1], (-2000, 30767)),
        ([32767, 32767, 32766], [1, 2], (32765.5, 32767.5)),  # the highest + 1 wraps
        ([3, 5, 5], [1, 0, 2], (2.5, 5.5)),
    ],
)
def test_hounsfield_units_of_int16_do_not_wrap(values, counts, edges):
    found = _histogram("HU", "HU", np.array(values, np.int16))
    assert found["counts"] == counts
    assert (found["edges"][0], found["edges"][-1]) == edges
    assert found["known"] == len(values)


def test_rejects_are_rows(shards):
    found = rejects(read_data_set(shards).rejects)
    assert found["rows"] == [["truncated", "a.dcm", 0, "<b>short</b>"]]
    assert found["count"] == 1


def test_the_flow_of_a_training_set(make_training_set, tmp_path):
    """Of 100 files 4 are rejects; the splits are the last boxes."""
    folder = make_training_set()
    data = read_data_set(folder)
    first = flow(data)[0]
    assert (first["title"], first["count"]) == ("Files of the corpus", "100")
    assert first["out"] == {"title": "Rejected files or frames", "count": "4", "reasons": ["truncated 4"]}
    boxes = split_boxes(data.card)
    assert [(box["title"], box["count"], box["labels"]) for box in boxes] == [
        ("train", "48", ["any 24 (50.0%)"]),
        ("val", "16", ["any 8 (50.0%)"]),
        ("test", "16", ["any 8 (50.0%)"]),
    ]


def test_each_step_of_the_flow_says_what_it_left_out(make_training_set):
    data = read_data_set(make_training_set())
    first = Step(name="converted", removed=0, left=data.card.splits["train"])
    removed = {"labelled": 1, "clean": 2, "balance": 3, "subset": 4}
    steps = [first.model_copy(update={"name": name, "removed": count}) for name, count in removed.items()]
    boxes = flow(replace(data, card=data.card.model_copy(update={"steps": (first, *steps)})))[1:]
    assert [(box["out"]["title"], box["out"]["count"]) for box in boxes if box["out"]] == [
        ("Without a row in the label table", "1"),
        ("Left out for a flag", "2"),
        ("Left out to balance train", "3"),
        ("Left out by the subset", "4"),
    ]


def test_labels_have_sheets_with_and_without(make_training_set):
    sheets, _ = contact_sheets(read_data_set(make_training_set()))
    counts = {(sheet["kind"], sheet["name"]): sheet["count"] for sheet in sheets}
    assert counts["label", "any"] == 40
    assert counts["label", "no any"] == 40


def test_near_duplicates_stand_side_by_side_those_in_two_splits_first(make_training_set):
    """Of three pairs the second is in two splits, and of the third one image is not in the set."""
    folder = make_training_set()
    pairs = [
        ("train-001", "train-030", "train", "train", 0.95),
        ("train-002", "val-003", "train", "val", 0.9),
        ("train-004", "elsewhere", "train", None, 0.85),
    ]
    table = pa.Table.from_pylist(
        [
            {"cosine": cosine, "image_id_1": one, "patient_1": "p", "split_1": its, "image_id_2": other}
            | {"patient_2": "q", "split_2": others}
            for one, other, its, others, cosine in pairs
        ]
    )
    write_table(f"{folder}/near_duplicates.parquet", table)
    data = read_data_set(folder)
    sheets, images = contact_sheets(data)
    (sheet,) = [each for each in sheets if each["kind"] == "near-duplicates"]
    assert [image_id for _, image_id in sheet["tiles"]] == ["train-002", "val-003", "train-001", "train-030"]
    assert sheet["pairs"] == [
        "cosine 0.900. Left: train-002, patient p, train. Right: val-003, patient q, val",
        "cosine 0.950. Left: train-001, patient p, train. Right: train-030, patient q, train",
    ]
    assert sheet["count"] == 4
    row = data.rows["image_id"].to_pylist().index("val-003")
    np.testing.assert_array_equal(images[sheet["tiles"][1][0]], read_pixels(data, [row])[row])


def test_of_many_near_duplicates_twelve_are_shown_and_all_counted(make_training_set):
    """Of 30 pairs the last two are in two splits; the most similar of the others follow."""
    folder = make_training_set()
    others = [f"train-{number:03d}" for number in range(1, 29)] + ["val-000", "test-000"]
    table = pa.Table.from_pylist(
        [
            {"cosine": 0.99 - number / 1000, "image_id_1": "train-000", "patient_1": "p", "split_1": "train"}
            | {"image_id_2": other, "patient_2": "q", "split_2": other[:-4]}
            for number, other in enumerate(others)
        ]
    )
    write_table(f"{folder}/near_duplicates.parquet", table)
    (sheet,) = [each for each in contact_sheets(read_data_set(folder))[0] if each["kind"] == "near-duplicates"]
    assert sheet["count"] == 60
    assert [name for _, name in sheet["tiles"]][1::2] == ["val-000", "test-000", *others[:10]]
    assert len(sheet["pairs"]) == 12
    assert sheet["pairs"][2] == "cosine 0.990. Left: train-000, patient p, train. Right: train-001, patient q, train"


def test_pseudonyms_have_no_images(shards):
    card = read_json(f"{shards}/card.json")
    card["image"]["key_fingerprint"] = "abc"
    write_json(f"{shards}/card.json", card)
    found = data_page(read_data_set(shards))
    assert (found["sheets"], found["gallery"]["sprite"]) == ([], "")


def test_a_sprite_has_forty_tiles_in_a_row():
    """41 images make two rows; a wide image is centred between black bars."""
    wide = np.full((1, 2, 4), 255, np.uint8)
    content = make_sprite([wide] * 41).partition(",")[2]
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(content))).convert("L"))
    assert picture.shape == (2 * TILE_PX, 40 * TILE_PX)
    assert picture[TILE_PX // 2, 10] > 200
    assert picture[2, 10] < 50
    assert picture[TILE_PX + 32, TILE_PX + 32] < 50
    assert make_sprite([]) == ""


def test_a_report_of_data_alone(shards, tmp_path):
    page = write_report(ReportConfig(data=shards, out=str(tmp_path / "report")))
    assert page.endswith("data.html")
    html = (tmp_path / "report" / "data.html").read_text()
    assert "<b>short</b>" not in html
    assert "Flow of inclusion" in html
    assert not (tmp_path / "report" / "index.html").exists()


def test_shards_of_the_phantom_are_said_to_be_synthetic(tmp_path):
    rows = [{"scanner": "hemo synthetic phantom"}, {"scanner": "hemo synthetic phantom"}, {"scanner": "GE"}, {}]
    folder = write_conversion(tmp_path / "converted", rows)
    write_report(ReportConfig(data=folder, out=str(tmp_path / "report")))
    page = (tmp_path / "report" / "data.html").read_text()
    assert "2 images are synthetic, made by <code>hemo phantom</code>" in page


def test_what_is_no_data_is_refused(tmp_path):
    with pytest.raises(SourceError, match="holds no images; give an output folder of `hemo convert` or `hemo curate`"):
        read_data_set(str(tmp_path))
    with pytest.raises(ValueError, match="give records of trials, data for a page"):
        ReportConfig(out="report")
    with pytest.raises(ValueError, match="leaks stand in the page of a training set: give data as well"):
        ReportConfig(records="r", leaks="l", out="report")
    with pytest.raises(ValueError, match="give records and data as well"):
        ReportConfig(records="r", heat_maps="h", out="report")


def test_mistakes_of_trials_have_their_images(make_record, make_training_set, tmp_path):
    """The trial's images are i00, i01, ... which the set does not have: mistakes are listed without a picture."""
    from hemo.curation.card import read_card
    from hemo.reporting.comparison import compare_trials
    from hemo.reporting.page.gallery import add_mistakes
    from hemo.reporting.page.study_data import study_data
    from hemo.trials.record import read_records

    folder = make_training_set()
    record = make_record({"name": "one"}, quality=0.1, many=True, training_set=read_card(folder).digest)
    records = str(tmp_path / "records")
    found = compare_trials(read_records(records), records, samples=10, seed=0)
    shown = study_data(found, {}, seed=0)
    add_mistakes(shown, found, records, read_data_set(folder), "")
    (trial,) = shown["comparisons"][0]["trials"]
    probabilities = [float(mistake[3]) for mistake in trial["mistakes"]]
    assert probabilities == sorted(probabilities, reverse=True)
    assert all(mistake[4] is None for mistake in trial["mistakes"])
    write_json(
        f"{tmp_path}/explained/cases.json",
        {"cases": [{"image_id": "i00", "class": "any", "probability": 2.0, "file": "case-001.png"}]},
    )
    with pytest.raises(ConfigError, match=r"is of another trial than one: i00 has probability 2\.000 there"):
        add_mistakes(shown, found, records, read_data_set(folder), f"{tmp_path}/explained")
    assert record.digest == trial["digest"]


def test_the_page_says_what_leaks_are_worth(make_training_set, tmp_path):
    leak = MetricLeak(own=Estimate(value=0.95), unseen=Estimate(value=0.85), leak=Estimate(value=0.1))
    counts = {"train": 48, "val": 16, "test": 16, "holdout": 16}
    row = LeakRow(rule="by_image", seeds=(0,), images=counts, patients=counts, auroc=leak, accuracy=leak)
    card = LeaksCard(
        digest="d",
        config={},
        training_set="feedfacefeedface",
        trial="t",
        classes=("any",),
        rows=(row,),
        conclusions=("A split by image is worth <10> points.",),
        versions={},
        finished="",
    )
    write_json(f"{tmp_path}/leaks/card.json", card.model_dump(mode="json"))
    config = ReportConfig(data=make_training_set(), leaks=f"{tmp_path}/leaks", out=f"{tmp_path}/report")
    html = Path(write_report(config)).read_text()
    assert "A split by image is worth &lt;10&gt; points." in html
    assert "0.95" in html.split('id="leaks"')[1].split("</section>")[0]
