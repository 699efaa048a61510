"""Lists of XPath expressions that look at nothing but elements' names and attributes, answered in one pass and from memory.

Much of trafilatura's time goes into expressions like `.//*[self::div or self::p][re:test(@class, 'footer|share|...')]`. A page has a
thousand elements but far fewer different names and attributes, and a site's next page has the same again, so each combination is
tested once and remembered, and expressions that are asked one after the other look at each element together.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice

from lxml import etree

from data.corpus.xpath_predicates import NotUnderstood, OwnPart, own_part

_OTHER = "other"  # stands for every name that no test asks for
_MOST_ELEMENTS = 1 << 14  # of a page; those of a larger one are not held in memory all at once
_MOST_REMEMBERED = 1 << 20  # characters of attributes, and _EACH for every combination; then all are forgotten
_EACH = 50
_ALL = re.compile(r"\s*\)?\s*")  # what may follow the tests of an expression: of all that they find is taken
_FIRST = re.compile(r"\s*\)\s*\[\s*1\s*\]\s*")  # the first of the page
_FIRST_OF_EACH = re.compile(r"\s*\[\s*1\s*\]\s*")  # the first of each parent's children

Signature = tuple[str, tuple[tuple[str, str], ...]]  # name, attributes in their order


class AttributeTests:
    """Finds what XPath expressions find, those of the first, then those of the second and so on; called like one.

    Raises ValueError where one does not begin with tests of names and attributes alone. Where more follows them (a look at
    descendants) the expression itself is asked, but only where its beginning finds anything; it has to be the first one, for
    what the others find may be cut out of the tree before a later one looks.
    """

    def __init__(self, *expressions: etree.XPath) -> None:
        self._expressions = expressions
        parts = [own_part(expression.path) for expression in expressions]
        self._tests = [part.test for part in parts]
        self._rests = [_rest(expression, part) for expression, part in zip(expressions, parts, strict=True)]
        if any(rest is None for rest in self._rests[1:]):
            raise NotUnderstood("only the first expression may look further than at names and attributes")
        self.paths = [expression.path for expression in expressions]
        self._attributes = frozenset[str]().union(*(part.attributes for part in parts))
        self._names = frozenset[str]().union(*(part.names for part in parts))
        found = frozenset[str]().union(*(part.found for part in parts))
        self._tags = ["*"] if "*" in found else sorted(found)
        self._remembered: dict[Signature, tuple[bool, ...] | None] = {}  # what each expression says; None = all no
        self._size = 0

    def __call__(self, tree: etree._Element) -> list[etree._Element]:
        elements = list(islice(tree.iterdescendants(*self._tags), _MOST_ELEMENTS + 1))
        if len(elements) > _MOST_ELEMENTS:
            return [element for expression in self._expressions for element in expression(tree)]
        hits = self._hits(elements)
        if not hits:
            return []
        found: list[etree._Element] = []
        for number, rest in enumerate(self._rests):
            own = [element for element, says in hits if says[number]]
            if own:
                found += self._expressions[number](tree) if rest is None else _of(own, rest)
        return found

    def _hits(self, elements: Sequence[etree._Element]) -> list[tuple[etree._Element, tuple[bool, ...]]]:
        attributes, names, remembered = self._attributes, self._names, self._remembered
        hits = []
        for element in elements:
            tag = element.tag
            signature = (tag if tag in names else _OTHER, tuple([item for item in element.items() if item[0] in attributes]))
            try:
                says = remembered[signature]
            except KeyError:
                says = self._remember(signature)
            if says is not None:
                hits.append((element, says))
        if self._size > _MOST_REMEMBERED:
            remembered.clear()
            self._size = 0
        return hits

    def _remember(self, signature: Signature) -> tuple[bool, ...] | None:
        name, items = signature
        attributes = dict(items)
        self._size += _EACH + sum(map(len, attributes.values()))
        says = tuple([test(name, attributes) for test in self._tests])
        self._remembered[signature] = known = says if True in says else None
        return known


def _rest(expression: etree.XPath, part: OwnPart) -> re.Pattern[str] | None:
    """Which of all that its beginning finds an expression takes: _ALL, _FIRST, _FIRST_OF_EACH; None = it must say itself."""
    rest = expression.path[part.end :]
    return next((pattern for pattern in (_ALL, _FIRST, _FIRST_OF_EACH) if pattern.fullmatch(rest)), None)


def _of(found: list[etree._Element], rest: re.Pattern[str]) -> list[etree._Element]:
    if rest is _FIRST:
        return found[:1]
    if rest is _FIRST_OF_EACH:
        first: dict[etree._Element | None, etree._Element] = {}
        for element in found:
            first.setdefault(element.getparent(), element)
        return list(first.values())
    return found
