"""A page that follows its records, in headless Chromium: trials come, and what its reader chose stays."""

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

import hemo
from hemo.trials.progress import TrialProgress, write_progress

expect = pytest.importorskip("playwright.sync_api").expect

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def watch(tmp_path):
    with hemo.watch(records=str(tmp_path / "records"), port=0, refresh_s=0.2, bootstrap_samples=10) as watch:
        yield watch


def progress(tmp_path: Path, epochs: int) -> None:
    losses = tuple(1 / (1 + epoch) for epoch in range(epochs))
    found = TrialProgress(
        name="<b>runs",
        epochs=9,
        epoch=epochs,
        val={"loss": losses[-1]},
        best_val_loss=losses[-1],
        curves={"val loss": losses},
        seconds=5.0 * epochs,
        updated=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    write_progress(str(tmp_path / "records"), "r", found)


def test_it_waits_then_shows_what_runs_then_what_ended(open_page, watch, make_record, tmp_path, serious_faults):
    page = open_page(watch.url)
    page.get_by_text("holds no trials yet; this page waits for them.").wait_for()
    progress(tmp_path, 1)
    page.get_by_role("cell", name="1 of 9").wait_for()
    progress(tmp_path, 3)
    page.get_by_role("cell", name="3 of 9").wait_for()
    page.wait_for_selector("#progress svg.main-svg")
    expect(page.locator("#sweeps td").first).to_have_text("<b>runs")
    assert serious_faults(page) == []
    make_record({"name": "ended"}, many=True)
    expect(page.locator("#now")).to_have_text("ended")
    expect(page.locator("#sweeps p")).to_have_text("trials outside sweeps: 1 complete, 1 running")


def test_a_new_trial_appears_and_the_selection_stays(open_page, watch, make_record, tmp_path):
    """The new one is the best, but the reader has selected another; pins, search, slider and columns stay as well."""
    for number, (name, quality) in enumerate([("fair", 0.6), ("poor", 0.1)]):
        make_record({"name": name, "seed": number}, quality=quality, many=True)
    page = open_page(watch.url)
    expect(page.locator("#now")).to_have_text("fair")
    page.get_by_role("link", name="poor").click()
    expect(page.locator("#now")).to_have_text("poor")
    page.get_by_role("button", name="Pin poor").click()
    page.get_by_placeholder("name or value").fill("oo")
    page.check("#complete")
    page.select_option("#scatter-y", "loss")
    page.locator("#slider").focus()
    page.keyboard.press("End")
    page.fill("#prevalence", "10")
    page.evaluate("table.column(3).visible(false)")
    page.evaluate("document.getElementById('trials').scrollIntoView({ behavior: 'instant' })")
    page.wait_for_timeout(300)
    (part, before), version = page.evaluate("place()"), page.evaluate("LIVE.version")
    time.sleep(0.5)
    make_record({"name": "good", "seed": 7}, quality=0.9, many=True)
    page.wait_for_selector(f"html[data-live]:not([data-live='{version}'])")
    assert page.inner_text("#now") == "poor"
    expect(page.locator("#table tbody td.name a")).to_have_text(["good", "poor"])
    assert page.get_by_role("button", name="Pin poor").get_attribute("aria-pressed") == "true"
    assert page.get_by_placeholder("name or value").input_value() == "oo"
    assert page.is_checked("#complete")
    assert page.input_value("#scatter-y") == "loss"
    assert page.locator("#matrix td b").all_inner_texts() == ["0", "20", "0", "20"]
    assert page.input_value("#prevalence") == "10.0"
    assert page.evaluate("table.column(3).visible()") is False
    page.wait_for_timeout(300)
    assert abs(page.locator(f"#{part}").bounding_box()["y"] - before) < 5
    expect(page.locator("#changed")).to_have_text("New: good (complete).")


def test_who_has_selected_nothing_sees_the_best(open_page, watch, make_record):
    make_record({"name": "fair"}, quality=0.5, many=True)
    page = open_page(watch.url)
    expect(page.locator("#now")).to_have_text("fair")
    make_record({"name": "good", "seed": 7}, quality=0.9, many=True)
    expect(page.locator("#now")).to_have_text("good")


def test_a_server_that_ended_is_said(open_page, watch, make_record):
    make_record({"name": "only"}, many=True)
    page = open_page(watch.url)
    expect(page.locator("#now")).to_have_text("only")
    page.route("**/now.json", lambda route: route.fulfill(body="no longer hemo"))
    page.get_by_text("hemo watch does not answer").wait_for()
    page.unroute("**/now.json")
    page.wait_for_selector("#trouble", state="hidden")
