"""The report in Chromium, at a phone's width and a desktop's: no error, no request, nothing cut off or too small to read."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.stage import Made
from tests.flows import browser
from tests.tasks.reporting.looking import DESKTOP, PHONE, Seen, look
from tests.tasks.reporting.test_report import made, page  # noqa: F401  # `made` is a fixture

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.skipif(not browser.CHROMIUM, reason="not installed: chromium")]
BAD = "<p style='color: #999'>pale</p><div class='scroll'><p style='width: 500px'>wide</p></div><img src='http://example.com/x.png'><svg width='900' height='9'><text x='890' font-size='4'>beyond the edge</text></svg>"


def seen(text: str, folder: Path, width: int, scheme: str = "light") -> Seen:
    folder.mkdir(exist_ok=True)
    (folder / "report.html").write_text(text, encoding="utf-8")
    return look(folder / "report.html", folder, width, scheme)


@pytest.mark.parametrize(("width", "scheme"), [(PHONE, "light"), (DESKTOP, "light"), (PHONE, "dark")])
def test_it_can_be_read(made: dict[str, Made], tmp_path: Path, width: int, scheme: str) -> None:  # noqa: F811
    text = page(made, tmp_path)
    assert len(text.encode()) < 3_000_000
    found = seen(text, tmp_path / "good", width, scheme)
    assert (found.requests, found.errors, found.cut, found.unnamed, found.beyond) == ([], [], [], 0, [])
    assert found.width == width and found.letters >= 9 and found.pictures > 9 and found.contrast >= 4.5


def test_the_look_can_fail(made: dict[str, Made], tmp_path: Path) -> None:  # noqa: F811
    """The page's own policy forbids every request, so that one is an error on the console."""
    bad = seen(page(made, tmp_path).replace("</html>", f"{BAD}</html>").replace("max-width: 100%; height: auto", ""), tmp_path / "bad", PHONE)
    assert any("example.com" in error for error in bad.errors)
    assert bad.unnamed == 2 and bad.letters < 5 and "beyond the edge" in bad.cut and bad.width > PHONE
    assert 2 < bad.contrast < 3 and bad.beyond == ["wide"]
