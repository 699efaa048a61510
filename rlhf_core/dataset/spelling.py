"""Text as what it says: a special token that somebody wrote into a text stands there in letters and does nothing.

Tokenizers look for special tokens in every text they are given. A page with "<|end|>" in it would end there, and a user's turn
could go on with an assistant's mark and an answer of its own. What a chat template writes is meant as tokens; what a turn or a
page says never is.
"""

from __future__ import annotations

import re
from typing import Any

# Behind the first character of a special token's name: the text is tokenized in two parts there, and neither holds the name.
# A noncharacter, which Unicode keeps out of texts; one that is in a text all the same is a cut and nothing else.
_CUT = "\ufdd0"


class Spelling:
    """What a tokenizer's special tokens are called, and texts tokenized without them.

    Marks that are no tokens ("### User:") are words like any other: no tokenizer can tell a template's own from a user's.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        names = sorted(token.content for token in tokenizer.added_tokens_decoder.values() if token.special)
        anywhere = "|".join(map(re.escape, names)) or "(?!)"
        self._begins = re.compile(f"(?=(?:{anywhere})).", re.DOTALL)

    def spelled(self, text: str) -> str:
        """The text with cuts, to be put into a template: `rendered` reads the template's own tokens and no other."""
        return self._begins.sub(lambda first: first[0] + _CUT, text)

    def rendered(self, texts: list[str]) -> list[list[int]]:
        """Token ids of texts whose uncut special tokens are meant."""
        pieces = [text.split(_CUT) for text in texts]
        flat = [piece for parts in pieces for piece in parts]
        if not flat:
            return []
        ids = iter(self._tokenizer(flat, add_special_tokens=False, verbose=False)["input_ids"])
        return [[token for _ in parts for token in next(ids)] for parts in pieces]

    def ids(self, texts: list[str]) -> list[list[int]]:
        """Token ids of texts in which nothing but letters is meant."""
        return self.rendered([self.spelled(text) for text in texts])
