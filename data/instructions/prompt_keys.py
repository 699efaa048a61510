"""What makes two prompts one, and where its hash says that a prompt belongs."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence

from data.instructions.records import Preference, Turn

STEPS = ("sft", "reward", "ppo")


def prompt_key(turns: Sequence[Turn]) -> str:
    """What makes two prompts the same: their letters and digits, NFKC, lower case; the system prompt does not count.

    A prompt without letters and digits ("?!") is compared by its characters.
    """
    parts = []
    for turn in turns:
        text = unicodedata.normalize("NFKC", turn.text).lower()
        parts.append("".join(char for char in text if char.isalnum()) or "".join(text.split()))
    return "\n".join(parts)


_MARKS = re.compile(r"""\s|(?<!\d)[.,;:!?'"“”‘’、。「」『』]|[.,;:!?'"“”‘’、。「」『』](?!\d)""")


def spelling(record: Preference) -> str:
    """What makes a PPO prompt a copy: the system prompt and the turns, NFKC, lower case, without spaces and the marks of sentences.

    Nearer to the text than `prompt_key`: to that 2 + 3 and 2 - 3 are one prompt, which may be dealt together but not left out.
    """
    texts = [record.system or "", *(turn.text for turn in record.turns)]
    return "\n".join(_MARKS.sub("", unicodedata.normalize("NFKC", text).lower()) for text in texts)


def prompt_digest(key: str, seed: int) -> bytes:
    """16 bytes that say where a prompt belongs: the first half draws its step, the second its side."""
    return hashlib.blake2b(key.encode("utf-8"), digest_size=16, key=f"splits:{seed}".encode()).digest()


def step_of(digest: bytes, shares: Sequence[float]) -> str:
    drawn, total, upto = _fraction(digest[:8]), sum(shares), 0.0
    for step, share in zip(STEPS, shares, strict=True):
        upto += share / total
        if share and drawn < upto:
            return step
    return next(step for step, share in reversed(list(zip(STEPS, shares, strict=True))) if share)


def side_of(digest: bytes, eval_share: float) -> str:
    """The same whatever the shares of the steps are."""
    return "eval" if _fraction(digest[8:]) < eval_share else "train"


def _fraction(eight: bytes) -> float:
    """Eight bytes as a number in [0, 1)."""
    return (int.from_bytes(eight, "big") >> 11) / (1 << 53)
