"""trafilatura with quicker parts in the place of its own, in this process; its texts stay the same."""

from __future__ import annotations

import re
import sys

from lxml import etree
from lxml.html import HtmlComment, HtmlElement, HtmlEntity, HtmlProcessingInstruction
from trafilatura import utils, xpaths

from data.corpus.attribute_tests import AttributeTests
from data.corpus.xpath_predicates import NotUnderstood

_COSTLY = "re:test("  # expressions without it are quick as they are
_TRIED_IN_TURN = ("BODY_XPATH",)  # lists of which the first that finds anything is taken, so each has its own turn
_CONTROL = bytes({*range(0x20)} - {*b"\t\n\r"})  # besides U+FFFE and U+FFFF, which begin with EF BF in UTF-8


def quicken_trafilatura() -> list[str]:
    """Put AttributeTests in the place of trafilatura's costly expressions; returns their paths. Once a process.

    Elements are made without asking Python for the class of each: trafilatura uses none of lxml's classes for forms.
    """
    taken: list[str] = []

    def quick(*expressions: etree.XPath) -> AttributeTests | None:
        if not any(_COSTLY in expression.path for expression in expressions):
            return None
        try:
            tests = AttributeTests(*expressions)
        except NotUnderstood:
            return None
        taken.extend(tests.paths)
        return tests

    for module in (xpaths, sys.modules["trafilatura.baseline"]):  # the name `trafilatura.baseline` is a function's
        for name, value in list(vars(module).items()):
            if isinstance(value, list) and value and all(isinstance(item, etree.XPath) for item in value):
                whole = None if name in _TRIED_IN_TURN else quick(*value)
                value[:] = [whole] if whole else [quick(item) or item for item in value]  # in its place: other modules hold the same list
            elif isinstance(value, etree.XPath):
                setattr(module, name, quick(value) or value)
    utils.INVALID_XML_CHARS = _NoXml(utils.INVALID_XML_CHARS)  # type: ignore[assignment]
    elements = {"element": HtmlElement, "comment": HtmlComment, "pi": HtmlProcessingInstruction, "entity": HtmlEntity}
    utils.HTML_PARSER.set_element_class_lookup(etree.ElementDefaultClassLookup(**elements))
    return taken


class _NoXml:
    """A pattern of the characters that XML has no place for, asked only where a page has one: most have none, seen in a third of the time."""

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self._pattern = pattern

    def sub(self, new: str, text: str) -> str:
        page = text.encode("utf-8", "surrogatepass")
        if b"\xef\xbf" not in page and len(page.translate(None, _CONTROL)) == len(page):
            return text
        return self._pattern.sub(new, text)
