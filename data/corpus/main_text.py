"""Who finds the main text of a page: trafilatura, resiliparse, or the one where the other finds too little.

On the labelled segments of 506 real pages, on which the limits below were chosen too (python -m benchmarks.extraction): trafilatura
with all its fallbacks finds .954 of what is to be kept and leaves out .896 of what is not; its fast mode alone .936 and .897 at six
tenths of the time; resiliparse .958 and .684 at a fourteenth. What fast mode loses are pages of which it keeps a paragraph or two.
There, one page in thirty, resiliparse finds the rest: together .956 and .887, with the same text as trafilatura on nine pages in ten.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from configparser import ConfigParser
from copy import deepcopy

from lxml.html import HtmlElement
from resiliparse.extract.html2text import extract_plain_text
from trafilatura import extract
from trafilatura.baseline import baseline
from trafilatura.htmlprocessing import convert_tags, prune_unwanted_nodes, tree_cleaning
from trafilatura.main_extractor import extract_content
from trafilatura.settings import DEFAULT_CONFIG
from trafilatura.settings import Extractor as Options
from trafilatura.utils import load_html, normalize_unicode
from trafilatura.xml import xmltotxt
from trafilatura.xpaths import RAW_TREE_PRUNE_XPATH, REMOVE_COMMENTS_AND_LISTS_XPATH

Engine = Callable[[str], str]  # main text of a page; "" where there is none

_UNSPACED = re.compile("[\u3040-\u30ff\u3400-\u9fff]")
_UNSPACED_LEADS = bytes(range(0xE3, 0xEA))  # first bytes of these characters in UTF-8, and of some others
_MIN_UNSPACED = 100  # characters of an unspaced script that make a page one of it; an article of 100 says as much as an English one of 250
_SHORT, _SHORT_UNSPACED = 1000, 400  # characters below which a text is held against the other engine's
_MIN_SHARE = 0.3  # of the other's text; a shorter one has missed the article
_MIN_LINE = 20  # characters (one of an unspaced script counts as two) of a line that ends no sentence; shorter ones are menus
_SENTENCE_END = re.compile(r"[.!?。！？…:;：；][\"'”’」』）)]*$")
_FORUM = "DiscussionForumPosting"  # what schema.org calls a thread
_FORUM_TYPE = re.compile(rf'"@type"\s*:\s*(?:\[[^\]]*)?"{_FORUM}"')


def _by_trafilatura(page: str, fast: bool = False) -> str:
    # No `deduplicate`: its cache would make a page's text depend on the pages before it.
    return extract(page, fast=fast, include_comments=False, config=_UNSPACED_CONFIG if _is_unspaced(page) else _SPACED_CONFIG) or ""


def _by_trafilatura_fast(page: str) -> str:
    return _by_trafilatura(page, fast=True)


def _by_resiliparse(page: str) -> str:
    return extract_plain_text(page, main_content=True, alt_texts=False, list_bullets=False, preserve_formatting=True)


def _by_rules(page: str) -> str:
    """trafilatura's fast mode, its steps one by one, without the last: a second run with laxer rules over pages of little text.
    `combined` holds these against another engine, and no tree is copied for it."""
    options = _UNSPACED_OPTIONS if _is_unspaced(page) else _SPACED_OPTIONS
    try:
        tree = _pruned(page, options)
        if tree is None:
            return ""
        body, found = extract_content(convert_tags(tree_cleaning(tree, options), options), options)
        if len(found) < options.min_extracted_size:
            other, text, length = baseline(_pruned(page, options))  # the tree is cut up by now; a copy of each page costs more
            if length > len(found):
                body, found = other, text
    except (TypeError, ValueError):  # what trafilatura itself takes for a page without text
        return ""
    return normalize_unicode(xmltotxt(body, include_formatting=False)).strip() if found else ""


def _pruned(page: str, options: Options) -> HtmlElement | None:
    """The page's tree without what its names and attributes call no content, comments among it, but for those of a forum."""
    tree = load_html(page, options.max_file_size)
    if tree is None:
        return None
    in_forum = _FORUM in page and _is_forum(tree)
    prune_unwanted_nodes(tree, RAW_TREE_PRUNE_XPATH)
    return tree if in_forum else prune_unwanted_nodes(tree, REMOVE_COMMENTS_AND_LISTS_XPATH)


def _is_forum(tree: HtmlElement) -> bool:
    return any(_FORUM_TYPE.search(script.text or "") for script in tree.iterfind('.//script[@type="application/ld+json"]'))


def _by_both(page: str) -> str:
    text = _by_rules(page)
    if len(text) >= _SHORT or (len(text) >= _SHORT_UNSPACED and _is_unspaced(text)):
        return text
    other = "\n".join(filter(_is_content, _by_resiliparse(page).split("\n"))).strip()
    return other if len(text) < _MIN_SHARE * len(other) else text


def _is_content(line: str) -> bool:
    """Not a short line that ends no sentence; blank ones stay."""
    trimmed = line.strip()
    return not trimmed or len(trimmed) + len(_UNSPACED.findall(trimmed)) >= _MIN_LINE or _SENTENCE_END.search(trimmed) is not None


def _is_unspaced(page: str) -> bool:
    if page.isascii():
        return False
    leads = page.encode("utf-8", "replace")
    if len(leads) - len(leads.translate(None, _UNSPACED_LEADS)) < _MIN_UNSPACED:
        return False  # seen in a tenth of the time that counting takes
    return len(_UNSPACED.findall(page)) >= _MIN_UNSPACED


def _config(min_extracted: str | None = None) -> ConfigParser:
    config = deepcopy(DEFAULT_CONFIG)
    config["DEFAULT"]["MAX_FILE_SIZE"] = str(1 << 31)  # ingest has bounded it
    if min_extracted:
        config["DEFAULT"]["MIN_EXTRACTED_SIZE"] = min_extracted
    return config


# Below 250 characters trafilatura falls back on coarser engines that lose lines and repeat layout tables.
_SPACED_CONFIG, _UNSPACED_CONFIG = _config(), _config(str(_MIN_UNSPACED))
_SPACED_OPTIONS, _UNSPACED_OPTIONS = (Options(config=config, fast=True, comments=False) for config in (_SPACED_CONFIG, _UNSPACED_CONFIG))

ENGINES: dict[str, Engine] = {
    "combined": _by_both, "trafilatura": _by_trafilatura, "trafilatura_fast": _by_trafilatura_fast, "resiliparse": _by_resiliparse,
}  # fmt: skip
