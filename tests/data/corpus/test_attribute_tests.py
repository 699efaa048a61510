from __future__ import annotations

import random

import pytest
from lxml import etree, html
from trafilatura import xpaths

from data.corpus.attribute_tests import AttributeTests

NAMESPACES = {"re": "http://exslt.org/regular-expressions"}
WORDS = [
    "post", "entry-content", "footer", "share-this", "nav", "comment-list", "main", "hidden", "Comments", "mvp-post-add-box", "x",
    "story-body", "content-body", "disqus_thread", "comments-", "",
]  # fmt: skip


def _page(seed: int) -> html.HtmlElement:
    """A tree of elements with names, ids, classes, roles and styles drawn from what the expressions look for, in either order."""
    draw = random.Random(seed)

    def element(depth: int) -> str:
        name = draw.choice(["div", "section", "p", "span", "ul", "article", "aside", "h1", "o:p", "svg"])
        names = draw.sample(["id", "class", "role", "style", "data-x", "aria-hidden"], draw.randint(0, 4))
        attributes = "".join(f' {key}="{" ".join(draw.sample(WORDS, draw.randint(1, 2)))}"' for key in names)
        inside = "".join(element(depth + 1) for _ in range(draw.randint(0, 4))) if depth < 5 else "text"
        return f"<{name}{attributes}>{inside}</{name}>tail"

    return html.document_fromstring(f"<html><body>{element(0)}{element(0)}{element(0)}</body></html>")


@pytest.mark.parametrize(
    "path",
    [
        *(
            expression.path
            for name in ("BODY_XPATH", "OVERALL_DISCARD_XPATH", "REMOVE_COMMENTS_XPATH", "COMMENTS_XPATH", "RAW_TREE_PRUNE_XPATH")
            for expression in getattr(xpaths, name, [])
            if "re:test" in expression.path
        ),
        ".//aside|.//div[contains(@class|@id, 'footer')]|.//*[re:test(@class, 'share')]",
        "(.//*[self::div or self::p][@class='x'])[1]",
        ".//*[@id='nav'][1]",
        "  (.//*[@id='nav' or @class = 'x'] )[1] ",
        ".//div[@class|@id='x'][@role or not(@style)]",
        ".//*[not(self::div or self::span) and (starts-with(@class, 'com') or contains(translate(@id|@style, 'CSx', 'cs'), 'comments'))]",
        ".//section[re:test(@class, 'COMMENTS', 'i')]|.//p[@id=\"main\"]",
        ".//div[re:test(@class, 'a|share')][not(.//p|.//h1) or @id]",
        ".//*[count(p) > 1]",
    ],
)
def test_finds_what_the_expression_finds(path: str) -> None:
    expression = etree.XPath(path, namespaces=NAMESPACES)
    test = AttributeTests(expression)
    found = 0
    for seed in range(20):
        page = _page(seed)
        expected = expression(page)
        found += len(expected)
        assert test(page) == expected
        assert test(page) == expected  # now from memory
    assert found


@pytest.mark.parametrize("name", ["OVERALL_DISCARD_XPATH", "RAW_TREE_PRUNE_XPATH", "COMMENTS_XPATH"])
def test_several_find_one_after_the_other_what_each_finds(name: str) -> None:
    expressions = getattr(xpaths, name)
    tests = AttributeTests(*expressions)
    found = 0
    for seed in range(20):
        page = _page(seed)
        expected = [element for expression in expressions for element in expression(page)]
        found += len(expected)
        assert tests(page) == expected
    assert found


def test_one_that_looks_further_comes_first() -> None:
    further, own = etree.XPath(".//div[@id][count(p) > 1]"), etree.XPath(".//p[@id]")
    AttributeTests(further, own)
    with pytest.raises(ValueError, match="only the first"):
        AttributeTests(own, further)


def test_names_and_values_of_which_no_element_can_be_made() -> None:
    page = html.document_fromstring('<body><div class="a&#8;b share">1</div><o:p class="share">2</o:p><p class="share">3</p></body>')
    for path in (".//*[re:test(@class, 'share')]", ".//*[self::div or self::p][re:test(@class, 'share')]"):
        expression = etree.XPath(path, namespaces=NAMESPACES)
        assert AttributeTests(expression)(page) == expression(page) != []


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data.corpus.attribute_tests._MOST_REMEMBERED", 300)
    test = AttributeTests(etree.XPath(".//*[@id='n7']"))
    for start in range(0, 40, 4):
        page = html.document_fromstring("".join(f"<p id=n{number}></p>" for number in range(start, start + 4)))
        assert [element.get("id") for element in test(page)] == ["n7"] * (start == 4)
        assert len(test._remembered) <= 6


def test_a_large_page_is_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data.corpus.attribute_tests._MOST_ELEMENTS", 10)
    page = html.document_fromstring("<p class=share>1</p>" + "<p>2</p>" * 20 + "<div class=share>3</div>")
    for path in (".//*[re:test(@class, 'share')]", "(.//*[re:test(@class, 'share')])[1]"):
        test, expression = AttributeTests(etree.XPath(path, namespaces=NAMESPACES)), etree.XPath(path, namespaces=NAMESPACES)
        assert test(page) == expression(page) != []
        assert not test._remembered


@pytest.mark.parametrize("path", ["//div[@class='x']", ".//div/p[@class]", "string(@class)", ".//div[@a]|//p", "(.//div[@a])[1]|(.//main)[1]"])
def test_an_expression_that_looks_further_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="tests more than names and attributes"):
        AttributeTests(etree.XPath(path))
