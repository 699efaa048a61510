"""Decides which parsed items join the pool. The first broken rule names the reason; reasons are stable.

Order: what the teacher left unfinished, what its form shows at once, and last what needs the pool.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from data.instructions.language import foreign
from data.instructions.novelty import Pool, tokens
from data.instructions.parsing import Item
from data.instructions.records import record_id
from data.instructions.settings import WritingSettings

REASONS = (
    "truncated", "unparsable", "no_output", "empty_output", "wrong_language", "leading_punctuation", "too_short",
    "too_long", "blocked_word", "output_equals_input", "conflicting_output", "not_novel",
)  # fmt: skip
# Of instances that had a call of their own: the reasons above that speak of outputs, and these.
INSTANCE_REASONS = ("duplicate", "too_many", "no_instance")

# What a model of text cannot see, hear or draw: after the word list of Self-Instruct, for both languages. Its `file`,
# `map` and `go to` are left out: they are mostly meant as words (a map of a name to a value, to go to the point).
BLOCKED_ENGLISH = (
    "image", "images", "picture", "pictures", "photo", "photos", "photograph", "photographs", "screenshot", "draw",
    "sketch", "diagram", "flowchart", "graph", "graphs", "plot a", "video", "videos", "audio", "listen to", "watch the",
    "attached file",
)  # fmt: skip
BLOCKED_CHINESE = (
    "图片", "图像", "照片", "截图", "图表", "流程图", "示意图", "插图", "画一", "画出", "画个", "绘制", "视频", "音频", "录音",
    "播放", "附件",
)  # fmt: skip

_OPENING = {"Ps", "Pi"}  # 《 「 “ (: a title or a quotation may open an instruction


@dataclass(frozen=True)
class Verdict:
    """Why an item is dropped and what was measured; reason None = accepted."""

    reason: str | None = None
    value: str | None = None


class Filters:
    """The rules, with the memory of what was accepted: the pool and the outputs of each instruction and input."""

    def __init__(self, settings: WritingSettings) -> None:
        self._settings = settings
        self._pool = Pool(settings.max_rouge_l)
        self._pooled: list[str] = []
        self._known: set[str] = set()
        self._outputs: dict[str, set[str]] = {}
        self._blocked = _blocked_pattern(settings.blocked_words)

    def __len__(self) -> int:
        return len(self._pool)

    def remember(self, instruction: str, given: str, output: str) -> None:
        """Let later items be measured against this one."""
        self.remember_instruction(instruction)
        self._outputs.setdefault(_key(instruction, given), set()).add(_normal(output))

    def remember_instruction(self, instruction: str) -> None:
        """The same where the outputs are not known yet. An instruction that is known already is not pooled again."""
        if instruction not in self._known:
            self._known.add(instruction)
            self._pool.add(instruction)
            self._pooled.append(instruction)

    def decide_instruction(self, item: Item) -> Verdict:
        """The first rule that the instruction of `item` breaks; its output, if any, does not count."""
        if item.reason is not None and item.reason != "no_output":
            return Verdict(item.reason)
        return self._form(item) or self._closeness(item.instruction) or Verdict()

    def decide(self, item: Item) -> Verdict:
        """The first rule that `item` breaks."""
        if item.reason is not None:
            return Verdict(item.reason)
        if item.output is None:
            return Verdict("no_output")
        if not item.output:
            return Verdict("empty_output")
        return self._form(item) or self._against_pool(item) or Verdict()

    def _form(self, item: Item) -> Verdict | None:
        settings = self._settings
        language = foreign(item.instruction, settings.languages)
        if language is not None:
            return Verdict("wrong_language", language)
        first = item.instruction[0]
        category = unicodedata.category(first)
        if category[0] in "PS" and category not in _OPENING and first not in "\"'":
            return Verdict("leading_punctuation", first)
        length = len(tokens(item.instruction))
        if length < settings.min_words:
            return Verdict("too_short", str(length))
        if length > settings.max_words:
            return Verdict("too_long", str(length))
        blocked = self._blocked.search(item.instruction)
        if blocked:
            return Verdict("blocked_word", blocked[0].lower())
        if item.input and item.output is not None and same_text(item.output, item.input):
            return Verdict("output_equals_input")
        return None

    def _against_pool(self, item: Item) -> Verdict | None:
        known = self._outputs.get(_key(item.instruction, item.input))
        if known is not None:
            return Verdict("not_novel", "copy") if _normal(item.output or "") in known else Verdict("conflicting_output")
        return self._closeness(item.instruction)

    def _closeness(self, instruction: str) -> Verdict | None:
        match = self._pool.closest(instruction)
        if match is not None:
            return Verdict("not_novel", f"{match.score:.3f} {self._pooled[match.index]}")
        return None


def _blocked_pattern(more: list[str]) -> re.Pattern[str]:
    """Words between word boundaries; words of unspaced scripts anywhere."""
    words = sorted({*BLOCKED_ENGLISH, *BLOCKED_CHINESE, *(word.strip().lower() for word in more if word.strip())})
    parts = [rf"(?<!\w){re.escape(word)}(?!\w)" if word.isascii() else re.escape(word) for word in words]
    return re.compile("|".join(parts), re.IGNORECASE | re.ASCII)


def same_text(first: str, second: str) -> bool:
    """True for copies: texts that differ in case, width, spacing or a final stop at most."""
    return _normal(first) == _normal(second)


def _normal(text: str) -> str:
    """Text as copies are compared: NFKC, lower case, single spaces, no final stop."""
    return " ".join(unicodedata.normalize("NFKC", text).lower().split()).rstrip(".。 ")


def _key(instruction: str, given: str) -> str:
    return record_id(None, [_normal(instruction), _normal(given)])
