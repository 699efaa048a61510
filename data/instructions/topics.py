"""Topics of a set of short texts: clusters of TF-IDF or embedding vectors, their key phrases and typical sentence patterns.

English and Chinese are clustered apart, since they share no terms. Terms are words and pairs of words, or two and three characters of
Chinese. Key phrases are those whose share of the topic's texts is largest against all texts (class-based TF-IDF,
Grootendorst 2022, "BERTopic", eq. 2, with texts counted instead of occurrences). A pattern is a text with everything
but its topic-wide frequent words left open: how do i … a …?
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from data.instructions.language import HAN, foreign, script_language
from data.instructions.novelty import tokens
from data.instructions.settings import TopicSettings

OPEN = "…"
_CHARACTERS = 500  # of a text's beginning: what says its topic
_FRAME_SHARE = 0.4  # of a topic's texts that hold a word: then it belongs to patterns, as function words do
_STOP_ENGLISH = frozenset(
    """a about after all also an and any are as at be because been before between both but by can could did do does for from
    get had has have he her his how i if in into is it its just like made make me more my need new no not now of on one only
    or our out over please s she should so some such t than that the their them then there these they this those to too up us
    use very want was we were what when where which who why will with would you your""".split()  # noqa: SIM905
)
_STOP_CHINESE = frozenset("的了是在和有我你他她它们这那个吗呢吧啊怎么样什为何请能可以会要不没就都也还把被让给对从到与及或")
_CHINESE = re.compile(f"[{HAN}]")


Embed = Callable[[Sequence[str]], Any]  # texts -> (texts, dimensions) floats, rows of length 1


@dataclass(frozen=True)
class Topic:
    """`members`: indices of its texts, nearest to its centre first."""

    lang: str
    members: list[int]
    phrases: list[str]
    patterns: list[str]

    def as_dict(self, texts: Sequence[str]) -> dict[str, Any]:
        return {
            "lang": self.lang, "texts": len(self.members), "phrases": self.phrases, "patterns": self.patterns,
            "nearest": [texts[index] for index in self.members[:3]],
        }  # fmt: skip


def find_topics(texts: Sequence[str], settings: TopicSettings, embed: Embed | None = None) -> tuple[list[Topic], dict[str, int]]:
    """Topics, the largest first, and the texts left out by reason: wrong_language, no_words, small_topic, noise (DBSCAN).

    Args:
        embed: gives each text a vector of length 1, (texts, dimensions); null = TF-IDF.

    Raises:
        ModuleNotFoundError: scikit-learn is not installed; names the extra that brings it.
    """
    left_out: Counter[str] = Counter()
    by_language: dict[str, list[int]] = {lang: [] for lang in settings.languages}
    for index, text in enumerate(texts):
        lang = script_language(text)
        if lang is None or not _terms(text):
            left_out["no_words"] += 1
        elif lang not in by_language or foreign(text[:_CHARACTERS], settings.languages):
            left_out["wrong_language"] += 1
        else:
            by_language[lang].append(index)
    topics: list[Topic] = []
    for lang, members in by_language.items():
        everything = document_counts([texts[index] for index in members])
        for cluster in _cluster([texts[index] for index in members], settings, embed, left_out):
            found = [members[index] for index in cluster]
            own = [texts[index] for index in found]
            phrases = key_phrases(own, everything, len(members), settings.phrases)
            topics.append(Topic(lang, found, phrases, sentence_patterns(own, settings.patterns)))
    topics.sort(key=lambda topic: (-len(topic.members), topic.members[0]))
    return topics, dict(sorted(left_out.items()))


def _cluster(texts: list[str], settings: TopicSettings, embed: Embed | None, left_out: Counter[str]) -> list[list[int]]:
    """Clusters of texts, each nearest to its centre first."""
    if not texts:
        return []
    try:
        import numpy as np
        from sklearn.cluster import DBSCAN, KMeans
        from sklearn.feature_extraction.text import TfidfVectorizer
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("topics need scikit-learn, which is not installed: pip install 'crawl2chat[topics]'") from error
    if embed is not None:
        vectors: Any = embed([text[:_CHARACTERS] for text in texts])
    else:
        vectors = TfidfVectorizer(analyzer=_terms, sublinear_tf=True).fit_transform(texts)
    if settings.method == "dbscan":
        labels = DBSCAN(eps=settings.max_distance, min_samples=settings.min_texts, metric="cosine").fit_predict(vectors)
    else:
        count = min(len(texts), settings.topics or max(1, round(math.sqrt(len(texts) / 2))))
        labels = KMeans(count, n_init=4, random_state=settings.seed).fit_predict(vectors)
    clusters = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if label < 0 or len(members) < settings.min_texts:
            left_out["noise" if label < 0 else "small_topic"] += len(members)
            continue
        centre = np.asarray(vectors[members].mean(axis=0)).ravel()
        nearness = np.round(vectors[members] @ centre, 9)  # rounded: equal texts keep their order on every machine
        clusters.append([int(members[place]) for place in np.argsort(-nearness, kind="stable")])
    return clusters


# ---- terms, phrases, patterns ------------------------------------------------------------------------------------


def _words(text: str) -> list[str]:
    return tokens(text[:_CHARACTERS])


def _is_stop(word: str) -> bool:
    return word in _STOP_ENGLISH or word in _STOP_CHINESE


def _terms(text: str) -> list[str]:
    """What TF-IDF counts: words and pairs; of Chinese, runs of two and three characters."""
    words = _words(text)
    return [_joined(run) for run in _runs(words, (1, 2), (2, 3)) if not (_is_stop(run[0]) or _is_stop(run[-1]))]


def _runs(words: Sequence[str], spaced: tuple[int, int], chinese: tuple[int, int]) -> Iterable[tuple[str, ...]]:
    for start, word in enumerate(words):
        is_chinese = bool(_CHINESE.match(word))
        least, most = chinese if is_chinese else spaced
        for size in range(least, most + 1):
            run = tuple(words[start : start + size])
            if len(run) == size and all(bool(_CHINESE.match(other)) == is_chinese for other in run):
                yield run


def _joined(run: Sequence[str]) -> str:
    return ("" if _CHINESE.match(run[0]) else " ").join(run)


def key_phrases(texts: Sequence[str], everything: Counter[tuple[str, ...]], of: int, count: int) -> list[str]:
    """The phrases of `texts` that tell them from all `of` texts, whose counts are `everything`; of phrases that overlap one stays."""
    least = 2 if len(texts) > 3 else 1
    score = {
        run: number / len(texts) * math.log(1 + of / everything[run]) * math.sqrt(len(run))
        for run, number in document_counts(texts).items()
        if number >= least and not (len(run) == 1 and (run[0].isdecimal() or len(run[0]) == 1))
    }
    chosen: list[tuple[str, ...]] = []
    for run in sorted(score, key=lambda run: (-score[run], run)):
        if len(chosen) == count:
            break
        if not any(_overlap(run, other) for other in chosen):
            chosen.append(run)
    return [_joined(run) for run in chosen]


def document_counts(texts: Sequence[str]) -> Counter[tuple[str, ...]]:
    """How many of the texts hold each phrase: one to three words, two to five characters of Chinese."""
    counts: Counter[tuple[str, ...]] = Counter()
    for text in texts:
        counts.update({run for run in _runs(_words(text), (1, 3), (2, 5)) if not any(map(_is_stop, (run[0], run[-1])))})
    return counts


def _overlap(first: tuple[str, ...], second: tuple[str, ...]) -> bool:
    """True where one is part of the other, or one goes on where the other ends."""
    shorter, longer = sorted((first, second), key=len)
    if any(longer[start : start + len(shorter)] == shorter for start in range(len(longer) - len(shorter) + 1)):
        return True
    return any(first[-size:] == second[:size] or second[-size:] == first[:size] for size in range(2, len(shorter) + 1))


def sentence_patterns(texts: Sequence[str], count: int) -> list[str]:
    """The most frequent patterns that at least two texts share."""
    holding: Counter[str] = Counter()
    for text in texts:
        holding.update(set(_words(text)))
    frequent = {word for word, number in holding.items() if number >= max(2, 0 if _is_stop(word) else _FRAME_SHARE * len(texts))}
    patterns: Counter[str] = Counter()
    for text in texts:
        frame: list[str] = []
        for word in _words(text):
            if word in frequent:
                frame.append(word)
            elif not frame or frame[-1] != OPEN:
                frame.append(OPEN)
        if len(frame) > 2 and OPEN in frame and sum(word != OPEN for word in frame) >= 2:
            patterns[_spelled(frame)] += 1
    return [pattern for pattern, number in sorted(patterns.items(), key=lambda item: (-item[1], item[0])) if number >= 2][:count]


def _spelled(frame: Sequence[str]) -> str:
    text = " ".join(frame)
    return re.sub(f"(?<=[{HAN}{OPEN}]) (?=[{HAN}{OPEN}])", "", text)
