"""The two pictures of the README, from the report of the demo, by headless Chromium.

    make demo
    python benchmarks/page_pictures.py runs/demo/report docs/images

The page of the trials opens with its best trial selected; nothing is clicked.
"""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

PICTURES = {"page-trials.png": ("index.html", "#evidence", 1160), "page-data.png": ("data.html", "#flow", 930)}
"""Picture -> page, the part that is at the top, and the picture's height in pixels."""
WIDTH_PX = 1280
COLOURS = 256


def main() -> None:
    """Write the pictures."""
    report, images = map(Path, sys.argv[1:3])
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name, (page, part, height_px) in PICTURES.items():
            tab = browser.new_page(viewport={"width": WIDTH_PX, "height": height_px})
            tab.goto((report / page).resolve().as_uri())
            tab.wait_for_selector("html[data-ready]")
            tab.evaluate("(part) => document.querySelector(part).scrollIntoView({ behavior: 'instant' })", part)
            tab.wait_for_timeout(3000)  # plots are drawn when they come into view
            tab.evaluate("(part) => document.querySelector(part).scrollIntoView({ behavior: 'instant' })", part)
            tab.wait_for_timeout(1000)
            picture = Image.open(io.BytesIO(tab.screenshot()))
            picture.quantize(COLOURS).save(images / name, optimize=True)
        browser.close()


if __name__ == "__main__":
    main()
