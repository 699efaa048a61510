"""A KenLM file as the language model of one language (extra `kenlm`).

Text is read as the file's tokens: sentencepiece pieces where <lang>.sp.model lies beside it (as CCNet's models have it), else
words, or characters for unspaced scripts; one sentence a line.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

from data.text import Text, as_str, normalise, unspaced_share, words

ENDINGS = (".arpa", ".klm", ".bin", ".arpa.bin")
_BITS = 1 / math.log10(2)  # bits in a decimal digit


class KenlmModel:
    """Raises ValueError where the extra is missing or the file is no KenLM model."""

    def __init__(self, path: Path) -> None:
        try:
            import kenlm
        except ImportError:
            raise ValueError(f"{path}: a KenLM file needs the extra kenlm: pip install 'crawl2chat[kenlm]'") from None
        try:
            self._model = kenlm.Model(str(path))
        except (OSError, RuntimeError) as error:
            raise ValueError(f"{path}: not a KenLM model: {error}") from None
        pieces = path.with_name(path.name.split(".")[0] + ".sp.model")
        self._pieces = _sentencepiece(pieces) if pieces.exists() else None

    def bits(self, text: Text, most: int = sys.maxsize) -> float:
        """Mean bits per character of the first `most` of `text`, white space folded; 0.0 for an empty text."""
        lines = [" ".join(line.split()) for line in normalise(as_str(text)[:most]).split("\n") if line.strip()]
        characters = sum(map(len, lines)) + max(len(lines) - 1, 0)
        if not characters:
            return 0.0
        return -_BITS * sum(self._model.score(" ".join(self._tokens(line))) for line in lines) / characters

    def _tokens(self, line: str) -> list[str]:
        if self._pieces is not None:
            return self._pieces.encode(line, out_type=str)
        return [character for character in line if not character.isspace()] if unspaced_share(line) > 0.5 else words(line)


def _sentencepiece(path: Path) -> Any:
    try:
        import sentencepiece
    except ImportError:
        raise ValueError(f"{path}: needs the extra kenlm: pip install 'crawl2chat[kenlm]'") from None
    return sentencepiece.SentencePieceProcessor(model_file=str(path))
