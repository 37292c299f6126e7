"""The system's Chromium, headless."""

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Start a browser for the tests of a file; without one they are skipped."""
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    playwright = pytest.importorskip("playwright.sync_api")
    playwright.expect.set_options(timeout=30_000)
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Return a function that opens an address; at the end nothing else was requested, and nothing went wrong."""
    requests: list[str] = []
    errors: list[str] = []
    allowed = ["file://", "blob:", "data:"]

    def go(address: str, **context: Any) -> Any:
        page = browser.new_context(viewport={"width": 1200, "height": 900}, **context).new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        if not address.startswith("file://"):
            allowed.append(address.partition("#")[0])
        page.goto(address)
        page.wait_for_selector("html[data-ready]")
        return page

    yield go
    assert [url for url in requests if not url.startswith(tuple(allowed))] == []
    assert errors == []


@pytest.fixture
def serious_faults() -> Callable[[Any], list[str]]:
    """Return a function that lists what axe-core finds on a page that is serious or critical."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")

    def find(page: Any) -> list[str]:
        found = axe.Axe().run(page).response["violations"]
        return [
            f"{each['id']}: {[node['html'][:160] for node in each['nodes']][:4]}"
            for each in found
            if each["impact"] in ("serious", "critical")
        ]

    return find
