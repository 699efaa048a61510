"""Sensitive content: terms by topic (found in one pass, so a list may have hundreds of thousands), patterns, and personal data."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
import pyarrow as pa

from data import kernels
from data.character_tables import Forms, forms_of
from data.corpus.personal_data import MARKS, find_personal_data
from data.corpus.reading.charset import read_words
from data.corpus.term_matcher import TermMatcher, read_list
from data.document import label_schema, views
from data.settings import SensitiveSettings
from data.text import Text, as_str, count_words, normalise
from data.unchanged import kept_while_unchanged

_UNSEEN = re.compile("[\u00ad\u200b-\u200f\u2060-\u2064\ufeff]")
_UNSEEN_CODES = 0x10000  # they are all below
DEFAULT_TOPIC = "listed"  # of terms without a topic
_MIN_WORDS = 500  # a density is taken over at least so many words: one mention in a short text is none


@dataclass(frozen=True)
class Term:
    """A term as texts are compared, or a regular expression over such texts."""

    topic: str
    text: str
    is_pattern: bool = False


def parse_terms(text: str) -> list[Term]:
    """Terms from lines `term`, `topic<TAB>term`, `/pattern/` or `topic<TAB>/pattern/`.

    Raises ValueError for what is no regular expression, or one that matches an empty text.
    """
    terms = []
    for line in read_list(text):
        topic, term = _parts(line)
        if len(term) > 2 and term[0] == term[-1] == "/":
            try:
                empty = re.compile(term[1:-1], re.IGNORECASE).search("")
            except re.error as error:
                raise ValueError(f"sensitive terms: {term} is no regular expression: {error}") from None
            if empty:
                raise ValueError(f"sensitive terms: {term} matches an empty text")
            terms.append(Term(topic, term[1:-1], is_pattern=True))
        elif folded := fold(term):
            terms.append(Term(topic, folded))
    return terms


def _parts(line: str) -> tuple[str, str]:
    """Topic, as its label is called, and term of a line of a list."""
    before, tab, after = line.partition("\t")
    topic, term = (before, after.strip()) if tab else (DEFAULT_TOPIC, before)
    return "_".join(re.findall(r"\w+", topic.lower())) or DEFAULT_TOPIC, term


def fold(text: Text) -> str:
    """`text` as terms are looked for: NFKC (full-width forms), lower case, simplified characters, white space folded, and
    without what is not seen (soft hyphens, zero-width characters)."""
    folded = kernels.fold(text, _folded_forms())
    if folded is None:
        folded = " ".join(normalise(_UNSEEN.sub("", as_str(text))).translate(_simplified()).split())
    return folded


@cache
def _folded_forms() -> Forms:
    unseen = {code: "" for code in range(_UNSEEN_CODES) if _UNSEEN.match(chr(code))}
    blanks = {code: " " for code in range(_UNSEEN_CODES) if chr(code).isspace() and chr(code) != "\n"}
    forms = forms_of(_simplified() | unseen | blanks)
    forms.table[ord("\n")] = ord(" ")  # forms_of tells characters apart by line ends
    return forms


@cache
def _simplified() -> dict[int, str]:
    """Traditional Chinese characters and their simplified forms, one for one (OpenCC, t2s)."""
    from opencc import OpenCC

    codes = [*range(0x3400, 0x4DC0), *range(0x4E00, 0xA000), *range(0xF900, 0xFB00)]
    forms = OpenCC("t2s").convert("\n".join(map(chr, codes))).split("\n")
    return {code: form for code, form in zip(codes, forms, strict=True) if form != chr(code) and len(form) == 1}


class Terms:
    """All terms in one trie, and the patterns. A term of a spaced script counts only as whole words."""

    def __init__(self, terms: Iterable[Term]) -> None:
        listed = sorted(set(terms), key=lambda term: (term.text, term.topic))
        self.topics = sorted({term.topic for term in listed})
        topics: dict[str, list[str]] = {}
        for term in listed:
            if not term.is_pattern:
                topics.setdefault(term.text, []).append(term.topic)
        self._matcher = TermMatcher(topics.items())
        self._patterns = [(re.compile(term.text, re.IGNORECASE), term.topic) for term in listed if term.is_pattern]

    def count(self, text: Text) -> tuple[Counter[str], int]:
        """Occurrences per topic, and of all terms."""
        found: Counter[str] = Counter()
        listed = self._matcher.find_folded(text, _folded_forms())
        folded = fold(text) if listed is None or self._patterns else ""
        if listed is None:
            listed = [match.value for match in self._matcher.find(folded)]
        for topics in listed:
            found.update(topics)
        total = len(listed)
        for pattern, topic in self._patterns:
            matches = sum(1 for _ in pattern.finditer(folded))
            total += matches
            found[topic] += matches
        return found, total


@kept_while_unchanged(4)
def _terms(file: str | None, bundled: bool) -> Terms:
    return Terms(term for text in _lists(file, bundled) for term in parse_terms(text))


def _lists(file: str | None, bundled: bool) -> Iterator[str]:
    if file:
        yield read_words(Path(file))
    if bundled:
        yield (resources.files("data.corpus") / "lists" / "sensitive_terms.txt").read_text(encoding="utf-8")


def topics_of(settings: SensitiveSettings) -> list[str]:
    """The topics of the lists' lines, without compiling their terms. Raises OSError, ValueError where the file cannot be read."""
    lists = _lists(settings.terms_file, settings.use_bundled_terms)
    return sorted({_parts(line)[0] for text in lists for line in read_list(text)})


def sensitive_labels(documents: pa.Table, settings: SensitiveSettings) -> pa.Table:
    """Counts: `<topic>_terms` for each topic, `sensitive_terms`, `sensitive_terms_per_1000_words` (of at least 500
    words), and emails, id_numbers, bank_cards, ip_addresses, phones, `personal_data` (all of them).
    """
    terms = _terms(settings.terms_file, settings.use_bundled_terms)
    schema = sensitive_schema(terms.topics)
    found = {field.name: np.zeros(documents.num_rows, field.type.to_pandas_dtype()) for field in list(schema)[1:]}
    for row, view in enumerate(views(documents, "text")):
        text = view or b""
        by_topic, total = terms.count(text)
        for topic, count in by_topic.items():
            found[f"{topic}_terms"][row] = count
        if total:
            found["sensitive_terms"][row] = total
            found["sensitive_terms_per_1000_words"][row] = 1000 * total / max(count_words(text), _MIN_WORDS)
        for item in find_personal_data(text):
            found[item.kind][row] += 1
            found["personal_data"][row] += 1
    return pa.table([documents["id"].combine_chunks(), *map(pa.array, found.values())], schema=schema)


def sensitive_schema(topics: list[str]) -> pa.Schema:
    counts: dict[str, pa.DataType] = {f"{topic}_terms": pa.int64() for topic in topics}
    counts |= {"sensitive_terms": pa.int64(), "sensitive_terms_per_1000_words": pa.float32()}
    return label_schema(counts | {name: pa.int64() for name in [*MARKS, "personal_data"]})
