"""What a reasoning model says, without what it thought before it."""

from __future__ import annotations

import re

_THOUGHTS = re.compile(r"\s*<(think|thinking)>.*?(?:</\1>|\Z)", re.DOTALL)
_END = re.compile(r"</think(?:ing)?>")


def without_thoughts(text: str) -> str:
    """`text` without the <think>...</think> that it begins with; thoughts that never end are all of it. Tags further on are text.

    A chat template may open them itself (DeepSeek-R1's does): then only their end is said.
    """
    while (found := _THOUGHTS.match(text) or _opened_in_the_prompt(text)) is not None:
        text = text[found.end() :].lstrip()
    return text


def _opened_in_the_prompt(text: str) -> re.Match[str] | None:
    end = _END.search(text)
    return end if end and "<think" not in text[: end.start()] else None
