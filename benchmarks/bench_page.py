"""How fast a page of `hemo report` opens and filters in headless Chromium, and how large it is.

    python benchmarks/bench_page.py runs/demo/report/index.html [PAGE ...]

Wall time depends on what else runs; the processor time of the page's main thread does so much less. `opened`: until the
table stands and the best trial is selected. `filter`: a search in the table, `kept`: a checkbox that filters table and
plots. Each is the median of several.
"""

import json
import shutil
import statistics
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

REPEATS = 5
FILTER = """() => {
  const box = document.querySelector(".dt-search input"), start = performance.now();
  box.value = box.value ? "" : "a";
  box.dispatchEvent(new Event("input", { bubbles: true }));
  document.body.offsetHeight;
  return performance.now() - start;
}"""
KEPT = """() => {
  const start = performance.now();
  document.getElementById("complete").click();
  document.body.offsetHeight;
  return performance.now() - start;
}"""


def measure(browser: Any, place: Path) -> dict[str, float | str]:
    """Open a page several times and return medians."""
    opened, busy, filtered, kept = [], [], [], []
    for _ in range(REPEATS):
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})
        page.goto(place.resolve().as_uri(), wait_until="commit")
        page.wait_for_selector("html[data-ready]")
        opened.append(page.evaluate("performance.now()"))
        metrics = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
        busy.append(1000 * metrics.get("ThreadTime", metrics["TaskDuration"]))
        if page.locator(".dt-search input").count():
            filtered += [page.evaluate(FILTER) for _ in range(4)]
        if page.locator("#complete").count():
            kept += [page.evaluate(KEPT) for _ in range(4)]
        page.close()
    found = {"opened_ms": opened, "main_thread_ms": busy, "filter_ms": filtered, "kept_ms": kept}
    return {
        "page": str(place),
        "megabytes": round(place.stat().st_size / 1e6, 1),
        **{name: round(statistics.median(values)) for name, values in found.items() if values},
        **{f"least_{name}": round(min(values)) for name, values in found.items() if values},
    }


def main() -> None:
    """Print a line for each page."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for place in sys.argv[1:]:
            print(json.dumps(measure(browser, Path(place))))
        browser.close()


if __name__ == "__main__":
    main()
