"""A report as Chromium shows it: what it asked for, what went wrong, what does not fit, what cannot be read."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.flows import browser
from tests.flows.stack import until

PHONE, DESKTOP = 390, 1280  # CSS pixels
_LETTERS = """[...document.querySelectorAll("svg text")].filter(one => one.textContent.trim()).map(one => {
    const scale = one.getScreenCTM(); return parseFloat(getComputedStyle(one).fontSize) * Math.hypot(scale.a, scale.b) })"""
_CUT = """[...document.querySelectorAll("svg text")].filter(one => { const own = one.getBoundingClientRect(),
    all = one.ownerSVGElement.getBoundingClientRect(); return own.width && (own.left < all.left - 1 || own.right > all.right + 1) }).map(one => one.textContent)"""


@dataclass(frozen=True)
class Seen:
    """`requests`: addresses asked for beside the page's own; `errors`: what stood on the console or was thrown; `width`: of all that
    can be scrolled to; `letters`: the smallest in a picture, in CSS pixels; `cut`: texts that reach beyond their picture;
    `unnamed`: pictures without words for who does not see them."""

    requests: list[str]
    errors: list[str]
    width: int
    letters: float
    cut: list[str]
    unnamed: int
    pictures: int


def look(report: Path, folder: Path, width: int) -> Seen:
    """Open the page as a person with such a screen does, with everything unfolded."""
    with browser.page(folder / f"chromium-{width}", width) as page:
        for domain in ("Network", "Log", "Runtime", "Page"):
            page.send(f"{domain}.enable")
        page.send("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width == PHONE)
        page.open(report.as_uri())
        until(lambda: page.ask("document.readyState") == "complete" and page.ask("location.href") == report.as_uri(), "the page never loaded", 60)
        page.ask("document.querySelectorAll('details').forEach(one => one.open = true)")
        (folder / f"{width}.png").write_bytes(_picture(page, width))
        return Seen(
            requests=[address for one in page.events if one["method"] == "Network.requestWillBeSent" and (address := one["params"]["request"]["url"]) != report.as_uri()],
            errors=[str(one["params"]) for one in page.events if one["method"] in ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")],
            width=page.ask("document.documentElement.scrollWidth"),
            letters=page.ask(f"Math.min(...{_LETTERS})"),
            cut=page.ask(_CUT),
            unnamed=page.ask("document.querySelectorAll('svg:not([role=img][aria-label]), img:not([alt])').length"),
            pictures=page.ask("document.querySelectorAll('svg').length"),
        )


def _picture(page: browser.Page, width: int) -> bytes:
    height = page.ask("document.documentElement.scrollHeight")
    area: dict[str, Any] = {"x": 0, "y": 0, "width": width, "height": min(height, 16_000), "scale": 1}
    return base64.b64decode(page.send("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=area)["data"])
