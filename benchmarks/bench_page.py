"""How fast a page of `hemo report` opens and filters in headless Chromium, and how large it is.

    python benchmarks/bench_page.py runs/demo/report/index.html [PAGE ...]

Wall time depends on what else runs; the processor time of the page's main thread does so much less, and has `cpu` in
its name. `opened`: until the table stands and the best trial is selected, or the contact sheet stands. `painted`: until
the next picture of the screen after that. `filter`: a search in the table, `kept`: a checkbox that filters table and
plots, `select`: another trial is selected, `sheet`: another contact sheet is shown. Each is the median of several, and
the least. `benchmarks/made_study.py` makes a study of 500 trials, `benchmarks/made_data.py` shards with 2,000 images.
"""

import json
import shutil
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

REPEATS = 5
ACTIONS = {
    "filter": (
        ".dt-search input",
        """const box = document.querySelector(".dt-search input"); box.value = box.value ? "" : "a";
        box.dispatchEvent(new Event("input", { bubbles: true }));""",
    ),
    "kept": ("#complete", """document.getElementById("complete").click();"""),
    "select": (
        "#trial",
        """const list = document.getElementById("trial"); list.selectedIndex = (list.selectedIndex + 1) % list.length;
        list.dispatchEvent(new Event("change", { bubbles: true }));""",
    ),
    "sheet": (
        "#sheet",
        """const list = document.getElementById("sheet"); list.selectedIndex = (list.selectedIndex + 1) % list.length;
        list.dispatchEvent(new Event("change", { bubbles: true }));""",
    ),
}
"""Name -> what must be on the page, and what is run and timed until the page is laid out again."""
TIMED = "() => {{ const start = performance.now(); {} document.body.offsetHeight; return performance.now() - start; }}"


def measure(browser: Any, place: Path) -> dict[str, float | str]:
    """Open a page several times and return medians and minima in ms."""
    found: dict[str, list[float]] = defaultdict(list)
    for _ in range(REPEATS):
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})
        page.goto(place.resolve().as_uri(), wait_until="commit")
        page.wait_for_selector("html[data-ready]")
        found["opened"].append(page.evaluate("performance.now()"))
        found["opened_cpu"].append(cpu_ms(session))
        page.evaluate("new Promise((shown) => requestAnimationFrame(() => setTimeout(shown)))")
        found["painted"].append(page.evaluate("performance.now()"))
        for name, (needed, script) in ACTIONS.items():
            for _ in range(4 if page.locator(needed).count() else 0):
                before = cpu_ms(session)
                found[name].append(page.evaluate(TIMED.format(script)))
                found[f"{name}_cpu"].append(cpu_ms(session) - before)
        page.close()
    return {
        "page": str(place),
        "megabytes": round(place.stat().st_size / 1e6, 1),
        **{f"{name}_ms": round(statistics.median(values)) for name, values in found.items()},
        **{f"least_{name}_ms": round(min(values)) for name, values in found.items()},
    }


def cpu_ms(session: Any) -> float:
    """Return the processor time of the page's main thread so far."""
    metrics = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
    return 1000 * float(metrics.get("ThreadTime", metrics["TaskDuration"]))


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
