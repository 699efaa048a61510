"""The language of an instruction: a cheap guess from its script, and a careful test for what is surely foreign."""

from __future__ import annotations

import re
from collections.abc import Sequence

from data.corpus.language import identify

HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
KANA = "\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f"
HANGUL = "\u1100-\u11ff\u3130-\u318f\uac00-\ud7af"

_HAN = re.compile(f"[{HAN}]")
_KANA = re.compile(f"[{KANA}]")
_HANGUL = re.compile(f"[{HANGUL}]")
_LATIN_WORD = re.compile("[A-Za-z\u00c0-\u024f]+")

# A Japanese sentence is about half kana; a Chinese one that quotes a Japanese name holds a few per cent.
_MIN_KANA_SHARE = 0.2

# On the recorded completions foreign items give the expected languages 0.006 at most, good ones 0.6 at least.
_MAX_EXPECTED = 0.1
_MIN_FOREIGN = 0.65  # the score that FineWeb asks for a document's language


def script_language(text: str, limit: int = 4000) -> str | None:
    """`zh`, `ja`, `ko`, `en` (any Latin script) or None where the first `limit` characters hold none of these.

    Enough to keep English and Chinese instructions apart. One Chinese character is weighed as one Latin word: 把“Good morning”翻译成中文 is Chinese.
    """
    text = text[:limit]
    han, kana, hangul = (len(pattern.findall(text)) for pattern in (_HAN, _KANA, _HANGUL))
    words = len(_LATIN_WORD.findall(text))
    best = max(han + kana, hangul, words)
    if best == 0:
        return None
    if words == best:
        return "en"
    if hangul == best:
        return "ko"
    return "ja" if kana >= _MIN_KANA_SHARE * (han + kana) else "zh"


def foreign(text: str, languages: Sequence[str]) -> str | None:
    """The language of `text` where it is surely none of `languages`, else None.

    Han, kana and hangul are told by their characters (lid.176 calls short Chinese names Japanese); other scripts by
    the corpus half's fastText model, since a short text of invented names is rarely named with certainty.
    """
    script = script_language(text)
    if script in ("zh", "ja", "ko"):
        return None if script in languages else script
    found = identify(text)
    if not found or sum(found.get(code, 0.0) for code in languages) >= _MAX_EXPECTED:
        return None
    best = max(found, key=lambda code: found[code])
    return best if found[best] >= _MIN_FOREIGN else None
