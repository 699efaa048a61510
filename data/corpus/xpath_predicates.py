"""XPath expressions that look at nothing but an element's name and attributes, as Python functions of these.

What is understood is what `.//*[self::div or self::p][re:test(@class, 'footer|share') or contains(@id, 'nav')]` is made of; libxml2
crosses into Python for every such test of every element, so a function that is asked once a combination is much cheaper. The function
is one Python expression, compiled: closures for its dozens of terms take several times as long as the terms. The expressions are a
library's constants, and nothing of them but their strings, by repr(), gets into it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Attributes = Mapping[str, str]  # in the element's order: of `@id|@class` the string is that of the first
Predicate = Callable[[str, Attributes], bool]  # of the name and the attributes

_TOKEN = re.compile(
    r"\s*(?:(?P<string>'[^']*'|\"[^\"]*\")|@(?P<attribute>[\w-]+)|self::(?P<name>[\w-]+)|\.//(?P<step>\*|[\w-]+)(?=[|\[)\s]|$)"
    r"|(?P<function>re:test|contains|starts-with|translate|not)(?=\()|(?P<sign>and\b|or\b|[()\[\],=|])|(?P<end>$))"
)
_NAMES = re.compile(r"\s*\[\s*self::[\w-]+(\s+or\s+self::[\w-]+)*\s*\]")  # a predicate that asks for nothing but names


class NotUnderstood(ValueError):
    """An expression, or a part of it, that looks at more than names and attributes."""


@dataclass
class OwnPart:
    """The beginning of an expression that looks at names and attributes alone."""

    test: Predicate
    end: int  # where it ends in the expression
    names: set[str] = field(default_factory=set)  # that are asked for anywhere
    attributes: set[str] = field(default_factory=set)
    found: set[str] = field(default_factory=set)  # names of elements that can be found; "*" = any


def own_part(path: str) -> OwnPart:
    """The longest beginning of `path` that is understood: paths `.//name[...][...]` joined by `|`, in brackets or not.

    Raises NotUnderstood where there is none, or where it is not all of the path's alternatives.
    """
    parser = _Parser(path, len(path) - len(path.lstrip("( \n\t")))
    steps = [parser.step()]
    while parser.take("sign", "|"):
        steps.append(parser.step())
    if _has_alternatives(path[parser.at :]):
        raise NotUnderstood(f"tests more than names and attributes: {path}")
    source = f"lambda tag, attributes: {_joined('or', steps)}"
    test = eval(source, {"first_of": _first_of, **parser.given})  # noqa: S307 made of this module's own words and repr()
    return OwnPart(test, parser.at, parser.names, parser.attributes, parser.found)


def _has_alternatives(rest: str) -> bool:
    """Whether `|` stands in what follows the own part, outside of its predicates."""
    depth = 0
    for sign in re.findall(r"'[^']*'|\"[^\"]*\"|[\[\]|]", rest):
        depth += (sign == "[") - (sign == "]")
        if sign == "|" and not depth:
            return True
    return False


class _Parser:
    """Descends by recursion; each rule returns the source of a Python expression over `tag` and `attributes`."""

    def __init__(self, path: str, start: int) -> None:
        self._path = path
        self.at = start
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.found: set[str] = set()
        self.given: dict[str, Any] = {}  # what the Python expression calls by name

    def take(self, kind: str, wanted: str | None = None) -> str | None:
        """The next token, passed over, if it is of that kind; else None."""
        token = _TOKEN.match(self._path, self.at)
        if token is None or token.lastgroup != kind or (wanted is not None and token[kind] != wanted):
            return None
        self.at = token.end()
        return token[kind]

    def _must(self, kind: str, wanted: str | None = None) -> str:
        taken = self.take(kind, wanted)
        if taken is None:
            raise NotUnderstood(f"tests more than names and attributes: {self._path}")
        return taken

    def step(self) -> str:
        """`.//name` and its predicates; one that is not understood ends it, and what stands before is the own part."""
        name = self._must("step")
        tests = []
        found = {name}
        if name != "*":
            self.names.add(name)
            tests.append(f"tag == {name!r}")
        while (start := self.at, self.take("sign", "["))[1]:
            names, attributes = set(self.names), set(self.attributes)
            try:
                tests.append(self._either())
                self._must("sign", "]")
            except NotUnderstood:
                self.at, self.names, self.attributes = start, names, attributes
                break
            if found == {"*"} and _NAMES.fullmatch(inside := self._path[start : self.at]):
                found = set(re.findall(r"self::([\w-]+)", inside))
        self.found |= found
        return _joined("and", tests)

    def _either(self) -> str:
        tests = [self._both()]
        while self.take("sign", "or"):
            tests.append(self._both())
        return _joined("or", tests)

    def _both(self) -> str:
        tests = [self._single()]
        while self.take("sign", "and"):
            tests.append(self._single())
        return _joined("and", tests)

    def _single(self) -> str:
        if self.take("sign", "("):
            inner = self._either()
            self._must("sign", ")")
            return inner
        if (name := self.take("name")) is not None:
            self.names.add(name)
            return f"tag == {name!r}"
        if (function := self.take("function")) is None:
            return self._of_attributes(self._union())
        self._must("sign", "(")
        if function == "not":
            inner = self._either()
            self._must("sign", ")")
            return f"not {inner}"
        if function == "translate":
            raise NotUnderstood(self._path)  # is no test
        text = self._text()
        self._must("sign", ",")
        wanted = self._string()
        flags = self._string() if self.take("sign", ",") else ""
        self._must("sign", ")")
        if function == "contains":
            return f"{wanted!r} in {text}"
        if function == "starts-with":
            return f"{text}.startswith({wanted!r})"
        search = f"search_{len(self.given)}"
        self.given[search] = re.compile(wanted, re.IGNORECASE if "i" in flags else 0).search
        return f"{search}({text}) is not None"

    def _union(self) -> list[str]:
        union = [self._must("attribute")]
        while self.take("sign", "|"):
            union.append(self._must("attribute"))
        self.attributes.update(union)
        return union

    def _of_attributes(self, union: list[str]) -> str:
        if self.take("sign", "="):
            wanted = self._string()
            return _joined("or", [f"attributes.get({name!r}) == {wanted!r}" for name in union])
        return _joined("or", [f"{name!r} in attributes" for name in union])

    def _text(self) -> str:
        """A string: of an attribute, of the first of several that is there, or translated."""
        if self.take("function", "translate"):
            self._must("sign", "(")
            inner = self._text()
            self._must("sign", ",")
            source = self._string()
            self._must("sign", ",")
            target = self._string()
            self._must("sign", ")")
            table = {ord(char): target[at] if at < len(target) else None for at, char in reversed(list(enumerate(source)))}
            return f"{inner}.translate({table!r})"
        union = self._union()
        return f"attributes.get({union[0]!r}, '')" if len(union) == 1 else f"first_of(attributes, {union!r})"

    def _string(self) -> str:
        return self._must("string")[1:-1]


def _first_of(attributes: Attributes, names: list[str]) -> str:
    return next((value for name, value in attributes.items() if name in names), "")


def _joined(word: str, tests: list[str]) -> str:
    """Python's `and` and `or` of no, one or several expressions."""
    return f"({f' {word} '.join(tests)})" if tests else "True"
