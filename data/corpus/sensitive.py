"""Sensitive content: terms by topic (Aho-Corasick, so a list may have hundreds of thousands), and personal data."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from importlib import resources
from pathlib import Path

import pyarrow as pa

from data.corpus.personal_data import MARKS, find_personal_data
from data.corpus.term_matcher import TermMatcher, read_list
from data.document import label_schema, values
from data.settings import SensitiveSettings
from data.text import count_words, normalise

DEFAULT_TOPIC = "listed"  # of terms without a topic
_MIN_WORDS = 500  # a density is taken over at least so many words: one mention in a short text is none


def parse_terms(text: str) -> dict[str, set[str]]:
    """Term (as texts are compared) -> topics, from lines `term` or `topic<TAB>term`."""
    terms: dict[str, set[str]] = {}
    for line in read_list(text):
        topic, tab, term = line.partition("\t")
        term, topic = (term, topic) if tab else (topic, DEFAULT_TOPIC)
        if folded := " ".join(normalise(term).split()):
            terms.setdefault(folded, set()).add("_".join(topic.lower().split()))
    return terms


class Terms:
    """All terms in one automaton. A term of a spaced script counts only as whole words."""

    def __init__(self, terms: dict[str, set[str]]) -> None:
        self.topics = sorted({topic for topics in terms.values() for topic in topics})
        self._matcher = TermMatcher((term, tuple(sorted(topics))) for term, topics in sorted(terms.items()))

    def count(self, text: str) -> tuple[Counter[str], int]:
        """Occurrences per topic, and of all terms."""
        found: Counter[str] = Counter()
        total = 0
        for match in self._matcher.find(" ".join(normalise(text).split())):
            total += 1
            found.update(match.value)
        return found, total


@lru_cache(maxsize=4)
def _terms(file: str | None, bundled: bool) -> Terms:
    terms: dict[str, set[str]] = {}
    texts = [Path(file).read_text(encoding="utf-8")] if file else []
    if bundled:
        texts.append((resources.files("data.corpus") / "lists" / "sensitive_terms.txt").read_text(encoding="utf-8"))
    for text in texts:
        for term, topics in parse_terms(text).items():
            terms.setdefault(term, set()).update(topics)
    return Terms(terms)


def sensitive_labels(documents: pa.Table, settings: SensitiveSettings) -> pa.Table:
    """Counts: `<topic>_terms` for each topic, `sensitive_terms`, `sensitive_terms_per_1000_words` (of at least 500
    words), and emails, id_numbers, bank_cards, ip_addresses, phones, `personal_data` (all of them).
    """
    terms = _terms(settings.terms_file, settings.use_bundled_terms)
    rows: list[dict[str, float]] = []
    for text in values(documents, "text"):
        by_topic, total = terms.count(text or "")
        personal = Counter(item.kind for item in find_personal_data(text or ""))
        row: dict[str, float] = {f"{topic}_terms": by_topic[topic] for topic in terms.topics}
        row["sensitive_terms"] = total
        row["sensitive_terms_per_1000_words"] = 1000 * total / max(count_words(text), _MIN_WORDS) if total else 0.0
        row |= {kind: personal[kind] for kind in MARKS}
        row["personal_data"] = personal.total()
        rows.append(row)
    schema = sensitive_schema(terms.topics)
    columns = [pa.array([row[name] for row in rows], schema.field(name).type) for name in schema.names[1:]]
    return pa.table([documents["id"].combine_chunks(), *columns], schema=schema)


def sensitive_schema(topics: list[str]) -> pa.Schema:
    counts: dict[str, pa.DataType] = {f"{topic}_terms": pa.int64() for topic in topics}
    counts |= {"sensitive_terms": pa.int64(), "sensitive_terms_per_1000_words": pa.float32()}
    return label_schema(counts | {name: pa.int64() for name in [*MARKS, "personal_data"]})
