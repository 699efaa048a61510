"""A report as Chromium shows it: what it asked for, what went wrong, what does not fit, what cannot be read."""

from __future__ import annotations

import base64
from collections.abc import Iterator
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
# The least contrast of a text with what it stands on (WCAG 2.2, 1.4.3: 4.5 can be read), outside pictures; `light` is relative luminance.
_CONTRAST = """(() => {
    const rgb = text => (text.match(/[0-9.]+/g) || []).map(Number), opaque = one => { const [,,, alpha = 1] = rgb(getComputedStyle(one).backgroundColor); return alpha > 0 };
    const light = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4).reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
    return Math.min(...[...document.querySelectorAll("body *:not(svg):not(svg *):not(style)")]
        .filter(one => [...one.childNodes].some(node => node.nodeType === 3 && node.textContent.trim()))
        .map(one => { let below = one; while (below && !opaque(below)) below = below.parentElement;
            const both = [light(rgb(getComputedStyle(one).color)), light(below ? rgb(getComputedStyle(below).backgroundColor) : [255, 255, 255])].sort((a, b) => b - a);
            return (both[0] + .05) / (both[1] + .05) })) })()"""
_TILE = 4000  # pixels of a page's height in one picture: of more Chromium draws the first part again


@dataclass(frozen=True)
class Seen:
    """`requests`: addresses asked for beside the page's own; `errors`: what stood on the console or was thrown; `width`: of all that
    can be scrolled to; `letters`: the smallest in a picture, in CSS pixels; `cut`: texts that reach beyond their picture;
    `unnamed`: pictures without words for who does not see them; `contrast`: the least of a text; `beyond`: tables wider than the page."""

    requests: list[str]
    errors: list[str]
    width: int
    letters: float
    cut: list[str]
    unnamed: int
    pictures: int
    contrast: float
    beyond: list[str]


def look(report: Path, folder: Path, width: int, scheme: str = "light") -> Seen:
    """Open the page as a person with such a screen does, who has set it to `light` or `dark`, with everything unfolded. Leaves
    `folder`/WIDTH-SCHEME-N.png, from the top down."""
    with browser.page(folder / f"chromium-{width}-{scheme}", width) as page:
        for domain in ("Network", "Log", "Runtime", "Page"):
            page.send(f"{domain}.enable")
        page.send("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width == PHONE)
        page.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        page.open(report.as_uri())
        until(lambda: page.ask("document.readyState") == "complete" and page.ask("location.href") == report.as_uri(), "the page never loaded", 60)
        page.ask("document.querySelectorAll('details').forEach(one => one.open = true)")
        for number, picture in enumerate(_pictures(page, width)):
            (folder / f"{width}-{scheme}-{number}.png").write_bytes(picture)
        return Seen(
            requests=[address for one in page.events if one["method"] == "Network.requestWillBeSent" and (address := one["params"]["request"]["url"]) != report.as_uri()],
            errors=[str(one["params"]) for one in page.events if one["method"] in ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")],
            width=page.ask("document.documentElement.scrollWidth"),
            letters=page.ask(f"Math.min(...{_LETTERS})"),
            cut=page.ask(_CUT),
            unnamed=page.ask("document.querySelectorAll('svg:not([role=img][aria-label]), img:not([alt])').length"),
            pictures=page.ask("document.querySelectorAll('svg').length"),
            contrast=page.ask(_CONTRAST),
            beyond=page.ask("[...document.querySelectorAll('.scroll')].filter(one => one.scrollWidth > one.clientWidth + 1).map(one => one.innerText.slice(0, 60))"),
        )


def _pictures(page: browser.Page, width: int) -> Iterator[bytes]:
    height = page.ask("document.documentElement.scrollHeight")
    for top in range(0, height, _TILE):
        page.ask(f"window.scrollTo(0, {top})")
        area: dict[str, Any] = {"x": 0, "y": top, "width": width, "height": min(_TILE, height - top), "scale": 1}
        yield base64.b64decode(page.send("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=area)["data"])
