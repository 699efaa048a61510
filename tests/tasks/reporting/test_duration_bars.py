"""Bars of durations: longest first, lengths in proportion, names escaped."""

from __future__ import annotations

from xml.etree import ElementTree

from tasks.reporting.duration_bars import BARS, duration_bars


def bars(seconds: dict[str, float]) -> tuple[list[str], list[float]]:
    """Words, and widths of the bars (without the ground)."""
    tree = ElementTree.fromstring(duration_bars(seconds))
    return [text.text or "" for text in tree.iter("text")], [float(rect.attrib["width"]) for rect in tree.iter("rect")][1:]


def test_the_longest_comes_first_and_the_others_in_proportion() -> None:
    words, widths = bars({"sft": 25.0, "pretrain": 50.0, "card": 0.0})
    assert words == ["pretrain", "50.0", "sft", "25.0", "card", "0.0", "seconds"]
    assert widths == [BARS, BARS / 2, 1.0]  # what took no time is still seen


def test_a_name_cannot_break_the_page() -> None:
    words, _ = bars({'<script>"&': 1.0})
    assert words[0] == '<script>"&'


def test_no_stage_no_bar() -> None:
    assert bars({}) == (["seconds"], [])
