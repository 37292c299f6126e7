"""The page of the trials in headless Chromium: it opens without network, and follows its reader."""

import csv
import re
from pathlib import Path
from typing import Any

import pytest

from hemo.config.report import ReportConfig
from hemo.reporting import table_format
from hemo.reporting.build import write_report
from tests.records import record_maker

expect = pytest.importorskip("playwright.sync_api").expect
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
HOSTILE = "<img src=x onerror=alert(1)>"
BROKEN = "=1+1"
"""A name that a spreadsheet would evaluate, of the trial that failed."""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the page of four trials of forty images: a good one, two others, and one that failed."""
    folder = tmp_path_factory.mktemp("study")
    make_record = record_maker(folder)
    for number, (name, quality) in enumerate([("good", 0.9), (HOSTILE, 0.5), ("poor", 0.1)]):
        changes = {"name": name, "model.dense_width": 8 * (number + 1), "training.learning_rate": 10.0 ** -(number + 2)}
        points = {"balanced_accuracy": (0.5,), "sensitivity=0.95": (0.25,)}
        speed = {"latency_ms": 5.0 + number, "megabytes": 40.0}
        make_record(changes, quality=quality, many=True, operating_points=points, **speed)
    make_record({"name": BROKEN, "seed": 9}, status="failed", reason="out of memory")
    return Path(write_report(ReportConfig(records=str(folder / "records"), out=str(folder / "report"))))


@pytest.fixture
def opened(open_page, study):
    """Return a function that opens the page, with a part of its address and the browser's settings."""

    def go(link: str = "", **context: Any) -> Any:
        return open_page(f"file://{study}{link}", **context)

    return go


def digest_of(page: Any, name: str) -> str:
    return page.evaluate("(name) => DATA.comparisons[0].trials.find((trial) => trial.name === name).digest", name)


def require_names(page: Any, wanted: list[str]) -> None:
    """Require these trials in this order."""
    expect(page.locator("#table tbody td.name a")).to_have_text(wanted)


def test_the_best_trial_is_selected_and_every_part_is_drawn(opened):
    page = opened()
    expect(page.locator("#now")).to_have_text("good")
    expect(page.locator("tr.chosen td.name a")).to_have_text("good")
    for plot in ("scatter", "curves", "parallel", "roc", "precision", "calibration", "decision"):
        page.locator(f"#figure-{plot}").scroll_into_view_if_needed()
        page.wait_for_selector(f"#{plot} svg.main-svg")
    assert page.locator("#figure-importance").is_hidden()
    assert "hemo train \\\n  --training_set TRAINING_SET" in page.inner_text("#facts")


def test_a_link_opens_at_a_trial_and_its_name_stays_text(opened):
    page = opened()
    other = opened(f"#trial={digest_of(page, HOSTILE)}")
    expect(other.locator("#now")).to_have_text(HOSTILE)
    require_names(other, ["good", HOSTILE, "poor", BROKEN])
    assert other.locator("img[src=x]").count() == 0


def test_the_table_sorts_with_missing_values_last_and_searches(opened):
    page = opened()
    head = page.locator("#table_wrapper th", has_text="val loss").first
    head.click()
    require_names(page, ["good", HOSTILE, "poor", BROKEN])
    head.click()
    require_names(page, ["poor", HOSTILE, "good", BROKEN])
    page.get_by_placeholder("name or value").fill("poor")
    require_names(page, ["poor"])
    page.get_by_placeholder("name or value").fill("")
    page.check("#complete")
    require_names(page, ["poor", HOSTILE, "good"])


def test_a_name_selects_everywhere_by_keyboard(opened):
    page = opened()
    page.get_by_role("link", name="poor").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#now")).to_have_text("poor")
    expect(page.locator("#evidence h2")).to_have_text("Evidence: poor")
    assert page.url.endswith(f"#trial={digest_of(page, 'poor')}")


def test_a_failed_trial_says_why(opened):
    page = opened()
    page.select_option("#trial", digest_of(page, BROKEN))
    expect(page.locator("#no-evidence")).to_have_text("No curves: the trial failed. failed: out of memory")
    expect(page.locator("#evidence-parts")).to_be_hidden()


def test_the_confusion_matrix_follows_the_slider(opened):
    """At 0 all forty images are predicted, half of them rightly; at 1 none is."""
    page = opened()
    slider, matrix, rates = page.locator("#slider"), page.locator("#matrix td b"), page.locator("#rates dd")
    slider.focus()
    page.keyboard.press("Home")
    expect(matrix).to_have_text(["20", "0", "20", "0"])
    expect(rates.nth(2)).to_have_text(re.compile("^0.50"))
    page.keyboard.press("End")
    expect(matrix).to_have_text(["0", "20", "0", "20"])
    expect(rates.nth(2)).to_have_text("-")
    page.get_by_role("button", name="sensitivity 0.95").click()
    expect(slider).to_have_attribute("aria-valuetext", "0.250 (sensitivity=0.95)")


def test_numbers_have_the_digits_of_the_tables(opened):
    """Ties to even as in Python, without minus zero; times are rounded before they are split."""
    page, values = opened(), [0.625, 0.375, 0.8125, 2.5e-3, 0.025, -0.001, -0.625, 0.0, 0.72949, 123.456, 0.29, -2.675]
    for digits in (2, 3, 4):
        texts = page.evaluate("([values, digits]) => values.map((x) => fixed(x, digits))", [values, digits])
        assert texts == [table_format.number(value, digits) for value in values]
        texts = page.evaluate("([values, digits]) => values.map((x) => signed(x, digits))", [values, digits])
        assert texts == [table_format.number(value, digits, signed=True) for value in values]
    assert page.evaluate("[59.7, 119.6, 3599.6].map(hours)") == ["0:01:00", "0:02:00", "1:00:00"]


def test_the_downloaded_table_has_names_alone_and_no_formula(opened):
    page = opened()
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV").click()
    rows = csv.reader(download.value.path().read_text(encoding="utf-8-sig").split("\n"))
    assert [row[0] for row in rows if row] == ["trial", "good", HOSTILE, "poor", f"'{BROKEN}"]


def test_predictive_values_follow_the_prevalence(opened):
    """All images predicted: PPV is the prevalence itself."""
    page = opened()
    page.locator("#slider").focus()
    page.keyboard.press("Home")
    page.fill("#prevalence", "10")
    expect(page.locator("#rates dd").nth(2)).to_have_text(re.compile("^0.100"))


def test_two_pinned_trials_have_their_difference(opened):
    page = opened()
    page.get_by_role("button", name="Pin good").click()
    page.get_by_role("button", name="Pin poor").click()
    difference = page.locator("#pinned tr", has_text="test AUROC").locator("td").nth(2)
    expected = page.evaluate(
        """() => { const of = (name) => DATA.comparisons[0].trials.find((trial) => trial.name === name);
        const [a, b] = ["good", "poor"].map(of);
        return (a.auroc[0] - b.auroc[0]).toFixed(2); }"""
    )
    expect(difference).to_have_text(re.compile(rf"^\+{re.escape(expected)}.* to "))


def test_a_box_over_an_axis_keeps_the_trials_that_pass_there(opened):
    page = opened()
    page.locator("#figure-parallel").scroll_into_view_if_needed()
    page.wait_for_selector("#parallel svg.main-svg")
    good = digest_of(page, "good")
    page.evaluate("(digest) => brush(new Set([digest]))", good)
    require_names(page, ["good"])
    expect(page.locator("#brushed")).to_have_text("1 of 4 trials kept")
    page.click("#clear")
    require_names(page, ["good", HOSTILE, "poor", BROKEN])


def test_on_paper_a_plain_table_has_the_trials_that_are_kept_and_nothing_closed_is_left(opened):
    """The learning rate differs and is not in the names; what is filtered out is not printed."""
    page = opened()
    page.check("#complete")
    require_names(page, ["good", HOSTILE, "poor"])
    page.set_viewport_size({"width": 690, "height": 1000})
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    rows = [each.locator("th, td").all_inner_texts() for each in page.locator(".paper tr").all()]
    assert [row[0] for row in rows if row] == ["trial", "good", HOSTILE, "poor"]
    assert {"learning rate", "val loss", "test AUROC (95 %)"} < set(rows[0])
    assert [row[rows[0].index("learning rate")] for row in rows[1:]] == ["0.01", "0.001", "0.0001"]
    assert page.locator(".paper table").bounding_box()["width"] <= 690
    assert page.evaluate("document.documentElement.scrollWidth") == 690
    assert page.locator("#table, details, nav").filter(visible=True).count() == 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator(".paper").count() == 0


def test_what_is_left_of_a_row_is_filled(opened):
    """Without subgroups calibration is the last of five panels: it ends where the rows above it end."""
    page = opened()
    page.locator("#figure-calibration").scroll_into_view_if_needed()
    ends = [page.locator(f"#figure-{name}").bounding_box() for name in ("precision", "calibration")]
    rows = page.locator("#evidence-parts .charts").bounding_box()
    assert max(each["x"] + each["width"] for each in ends) == pytest.approx(rows["x"] + rows["width"], abs=1)


def test_the_navigation_marks_the_part_at_the_top_and_a_cut_table_says_so(opened):
    page = opened()
    page.locator("#evidence").evaluate("part => part.scrollIntoView({ behavior: 'instant' })")
    page.wait_for_selector(".side a[href='#evidence'][aria-current], .side a[href='#threshold'][aria-current]")
    expect(page.locator(".side a[aria-current]")).to_have_count(1)
    page.set_viewport_size({"width": 500, "height": 900})
    page.wait_for_selector(".dt-scroll.more")
    cell = page.locator(".dt-layout-full").first.evaluate("cell => getComputedStyle(cell).overflow")
    assert cell == "visible"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault_and_nothing_sticks_out(opened, serious_faults, scheme):
    page = opened(color_scheme=scheme)
    for part in ("#compare", "#evidence", "#ran"):
        page.locator(part).scroll_into_view_if_needed()
        page.wait_for_timeout(200)
    assert serious_faults(page) == []
    for width in (400, 800, 1400):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_function("width => document.documentElement.scrollWidth === width", arg=width)
