"""The page of a data set in headless Chromium: sheets, rejects, histograms, accessibility."""

from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pytest

from hemo.config.report import ReportConfig
from hemo.reporting.build import write_report
from hemo.shards.schema import REJECT_SCHEMA
from hemo.shards.writer import write_table
from tests.made_shards import write_conversion

expect = pytest.importorskip("playwright.sync_api").expect
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
HOSTILE = "<img src=x onerror=alert(1)>.dcm"


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> str:
    """Return where the page of six images and twenty rejects is; three images have a flag."""
    place = tmp_path_factory.mktemp("data")
    rows = [{"flags": ["blank"] if number % 2 else [], "study": f"s{number // 2}"} for number in range(6)]
    folder = write_conversion(place / "converted", rows)
    rejects = [
        {"source_path": f"a{number}.dcm", "frame": 0, "reason": "truncated", "detail": "short"} for number in range(19)
    ]
    rejects.append({"source_path": HOSTILE, "frame": 0, "reason": "not_dicom", "detail": "<b>no</b>"})
    write_table(f"{folder}/rejects.parquet", pa.Table.from_pylist(rejects, schema=REJECT_SCHEMA))
    return f"file://{Path(write_report(ReportConfig(data=folder, out=str(place / 'report'))))}"


def test_a_sheet_is_chosen_and_rejects_are_searched(open_page, address):
    page = open_page(address)
    page.select_option("#sheet", label="flag blank (3)")
    expect(page.locator("#sheet-note")).to_have_text("flag blank: 3 of 3 images")
    expect(page.locator("#tiles .tile")).to_have_count(3)
    page.locator("#tiles .tile").nth(1).focus()
    name = page.locator("#tile-name")
    expect(name).to_have_text("ID_003")
    for key, tile in (("ArrowLeft", "ID_001"), ("End", "ID_005"), ("ArrowUp", "ID_001"), ("ArrowRight", "ID_003")):
        page.keyboard.press(key)
        expect(name).to_have_text(tile)
    expect(page.locator("#tiles .tile[tabindex='0']")).to_have_attribute("aria-label", "ID_003")
    expect(page.locator("#table tbody tr")).to_have_count(15)
    page.get_by_placeholder("reason or path").fill("not_dicom")
    expect(page.locator("#table tbody td")).to_have_text(["not_dicom", HOSTILE, "0", "<b>no</b>"])
    assert page.locator("img[src=x]").count() == 0
    page.locator("#figure-histogram-0").scroll_into_view_if_needed()
    page.wait_for_selector("#histogram-0 svg.main-svg")


def test_near_duplicates_stay_side_by_side_at_any_width(open_page, make_training_set, tmp_path):
    folder = make_training_set()
    sides = [{"image_id_1": f"train-00{n}", "patient_1": "<b>p</b>", "split_1": "train"} for n in range(5)]
    pair = {"cosine": 0.9, "image_id_2": "val-003", "patient_2": "q", "split_2": "val"}
    write_table(f"{folder}/near_duplicates.parquet", pa.Table.from_pylist([side | pair for side in sides]))
    report = write_report(ReportConfig(data=folder, out=str(tmp_path / "report")))
    page = open_page(f"file://{Path(report)}")
    page.select_option("#sheet", label="near-duplicates of two patients (10)")
    expect(page.locator("#tiles .pair").nth(1)).to_have_text(
        "cosine 0.900. Left: train-001, patient <b>p</b>, train. Right: val-003, patient q, val"
    )
    for width in (400, 800, 1200):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_function("width => document.documentElement.scrollWidth === width", arg=width)
        places = [each.bounding_box() for each in page.locator("#tiles .tile").all()]
        steps = [(right["x"] - left["x"], right["y"] - left["y"]) for left, right in pairwise(places)]
        assert steps[::2] == [(68, 0)] * 5


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault_and_nothing_sticks_out(open_page, address, serious_faults, scheme):
    page = open_page(address, color_scheme=scheme)
    assert serious_faults(page) == []
    for width in (400, 800, 1400):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_function("width => document.documentElement.scrollWidth === width", arg=width)
