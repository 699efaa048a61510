"""Curves by hand: where their points lie, and that it is one whole SVG document."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

from tasks.reporting.sketches import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, sketch

SVG = "{http://www.w3.org/2000/svg}"


def points(document: str) -> list[list[tuple[float, float]]]:
    return [
        [(float(x), float(y)) for x, y in re.findall(r"([\d.]+),([\d.]+)", line.attrib["points"])]
        for line in ElementTree.fromstring(document).iter(f"{SVG}polyline")
    ]


def test_first_and_last_step_and_lowest_and_highest_value_lie_at_the_borders() -> None:
    document = sketch({"loss": [(10, 4.0), (20, 1.0), (30, 2.5)]})
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    assert points(document) == [[(LEFT, TOP), ((LEFT + right) / 2, bottom), (right, (TOP + bottom) / 2)]]
    assert [text.text for text in ElementTree.fromstring(document).iter(f"{SVG}text")] == ["loss", "4", "1", "10", "step 30"]


def test_four_curves_take_two_rows_and_their_names_are_only_text() -> None:
    document = ElementTree.fromstring(sketch({name: [(1, 0.0), (2, 1.0)] for name in ("a", "b", "<c> & d", "e")}))
    assert (document.attrib["width"], document.attrib["height"]) == (str(3 * WIDTH), str(2 * HEIGHT))
    assert [group.attrib["transform"] for group in document.iter(f"{SVG}g")][2:] == [f"translate({2 * WIDTH} 0)", f"translate(0 {HEIGHT})"]
    assert "<c> & d" in [text.text for text in document.iter(f"{SVG}text")]


def test_a_value_that_never_changes_and_a_step_that_stays_are_drawn() -> None:
    assert points(sketch({"flat": [(1, 0.5), (3, 0.5)], "still": [(2, 0.0), (2, 1.0)]})) == [
        [(LEFT, HEIGHT - BOTTOM), (WIDTH - RIGHT, HEIGHT - BOTTOM)],
        [(LEFT, HEIGHT - BOTTOM), (LEFT, TOP)],
    ]
