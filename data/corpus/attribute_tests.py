"""XPath expressions that look at nothing but elements' names and attributes, answered from memory.

Half of trafilatura's time goes into expressions like `.//*[self::div or self::p][re:test(@class, 'footer|share|...')]`: libxml2
crosses into Python for every test of every element. A page has a thousand elements but far fewer different names and attributes,
and a site's next page has the same again, so each combination is tested once and remembered. The test stays the expression's own:
it is asked of copies of the elements, each by itself.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Collection
from itertools import islice

from lxml import etree
from lxml.html import HtmlComment, HtmlElement, HtmlEntity, HtmlProcessingInstruction

_NAMESPACES = {"re": "http://exslt.org/regular-expressions"}
_TOKEN = re.compile(
    r"\s+|'[^']*'|\"[^\"]*\"|@(?P<attribute>[\w-]+)|self::(?P<name>[\w-]+)|\.//(?P<step>\*|[\w-]+)(?=[|\[\s]|$)"
    r"|(?:re:test|contains|starts-with|translate|not)(?=\()|(?:and|or)\b|[()\[\],=|]"
)
_NAMED_FIRST = re.compile(r"\.//\*\[(\s*self::[\w-]+(?:\s+or\s+self::[\w-]+)*\s*)\]")
_COSTLY = "re:test("  # expressions without it are quick as they are
_OTHER = "other"  # stands for every name that no test asks for
_MOST_ELEMENTS = 1 << 14  # of a page; those of a larger one are not held in memory all at once
_MOST_REMEMBERED = 1 << 20  # characters of attributes, and _EACH for every combination; then all are forgotten
_EACH = 50

Signature = tuple[str, tuple[tuple[str, str], ...]]  # name, attributes in their order: of `@id|@class` the first is taken


class AttributeTest:
    """Finds what an XPath expression finds; called like it.

    Raises ValueError where the expression does not begin with tests of names and attributes alone. Where more follows them
    (a position, a look at descendants) the expression itself is asked, but only where its beginning finds anything.
    """

    def __init__(self, expression: etree.XPath) -> None:
        self.path: str = expression.path
        whole = self.path.strip()
        own = _own_part(whole.removeprefix("("))
        self._expression = None if own == whole else expression
        self._test = etree.XPath(own, namespaces=_NAMESPACES, smart_strings=False)
        tokens = list(_TOKEN.finditer(own))
        self._attributes = frozenset(token["attribute"] for token in tokens if token["attribute"])
        self._names = frozenset(token["name"] or token["step"] for token in tokens if token["name"] or token["step"])
        named = _NAMED_FIRST.match(own) if own.count(".//") == 1 else None
        self._tags = re.findall(r"self::([\w-]+)", named[1]) if named else ["*"]  # of elements that can be found at all
        self._remembered: dict[Signature, bool] = {}
        self._size = 0

    def __call__(self, tree: etree._Element) -> list[etree._Element]:
        found: list[etree._Element]
        elements = list(islice(tree.iterdescendants(*self._tags), _MOST_ELEMENTS + 1))
        try:
            found = self._found(elements) if len(elements) <= _MOST_ELEMENTS else self._test(tree)
        except ValueError:  # a name or an attribute that no element may be made of
            found = self._test(tree)
        return self._expression(tree) if found and self._expression else found

    def _found(self, elements: list[etree._Element]) -> list[etree._Element]:
        attributes, names = self._attributes, self._names
        signatures = [
            (tag if (tag := element.tag) in names else _OTHER, tuple([item for item in element.items() if item[0] in attributes]))
            for element in elements
        ]
        remembered = self._remembered
        if new := set(signatures).difference(remembered):
            self._remember(new)
        found = [element for element, signature in zip(elements, signatures, strict=True) if remembered[signature]]
        if self._size > _MOST_REMEMBERED:
            remembered.clear()
            self._size = 0
        return found

    def _remember(self, signatures: Collection[Signature]) -> None:
        self._size += sum(_EACH + sum(len(value) for _, value in attributes) for _, attributes in signatures)
        alone = etree.Element(_OTHER)
        asked = {etree.SubElement(alone, tag, dict(attributes)): (tag, attributes) for tag, attributes in signatures}
        found = set(self._test(alone))
        self._remembered.update((signature, element in found) for element, signature in asked.items())


def _own_part(path: str) -> str:
    """The longest beginning of `path` that tests names and attributes alone and ends with a step or a predicate."""
    at = end = depth = 0
    while token := _TOKEN.match(path, at):
        depth += (token[0] in ("(", "[")) - (token[0] in (")", "]"))
        if depth < 0 or (token["step"] and depth):
            break
        at = token.end()
        if not depth and (token["step"] or token[0] == "]"):
            end = at
    if not end or path[end:].strip().startswith("|"):
        raise ValueError(f"tests more than names and attributes: {path}")
    return path[:end]


def quicken_trafilatura() -> list[str]:
    """Put AttributeTests in the place of trafilatura's costly expressions, in this process; returns their paths.

    Elements are made without asking Python for the class of each: trafilatura uses none of lxml's classes for forms.
    """
    from trafilatura import utils, xpaths

    taken: list[str] = []

    def quick(value: object) -> object:
        if isinstance(value, etree.XPath) and _COSTLY in value.path:
            try:
                value = AttributeTest(value)
            except ValueError:
                return value
            taken.append(value.path)
        return value

    for module in (xpaths, sys.modules["trafilatura.baseline"]):  # the name `trafilatura.baseline` is a function's
        for name, value in list(vars(module).items()):
            if isinstance(value, list):
                value[:] = map(quick, value)  # in its place: other modules hold the same list
            else:
                setattr(module, name, quick(value))
    elements = {"element": HtmlElement, "comment": HtmlComment, "pi": HtmlProcessingInstruction, "entity": HtmlEntity}
    utils.HTML_PARSER.set_element_class_lookup(etree.ElementDefaultClassLookup(**elements))
    return taken
