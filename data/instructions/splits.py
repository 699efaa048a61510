"""Deals prompts to the three training steps and, within each, to training and evaluation.

DeepSpeed-Chat's "2,4,4" (dschat/utils/data/data_utils.py), said anew: a preference source is split by prompt over SFT,
reward model and PPO; instructions serve SFT alone and are never split over the steps. Two things differ on purpose.
There, a shuffled list is cut, its indices cached by file name, so they go stale when the file changes; here a prompt's
own hash says where it belongs, so an old prompt keeps its step and side however much its source grows, and sizes follow
the shares up to chance. And there copies of a prompt fall anywhere; here prompts that differ only in case, spacing,
punctuation or width hash alike, and so never stand on two sides, even when they come from different sources.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.instructions.formats import Reading, read_conversations, read_preferences
from data.instructions.lines import write_json, write_jsonl
from data.instructions.records import Conversation, Preference, Turn, record_id
from data.instructions.settings import SplitSettings

STEPS = ("sft", "reward", "ppo")
SIDES = ("train", "eval")

Record = Conversation | Preference
Progress = Callable[[int, int | None, str], None]


def prompt_key(turns: Sequence[Turn]) -> str:
    """What makes two prompts the same: their letters and digits, NFKC, lower case; the system prompt does not count.

    A prompt without letters and digits ("?!") is compared by its characters.
    """
    parts = []
    for turn in turns:
        text = unicodedata.normalize("NFKC", turn.text).lower()
        parts.append("".join(char for char in text if char.isalnum()) or "".join(text.split()))
    return "\n".join(parts)


def place(key: str, shares: Sequence[float], eval_share: float, seed: int) -> tuple[str, str]:
    """(step, side) of a prompt. The two are drawn independently; the side is the same whatever the shares are."""
    digest = hashlib.blake2b(key.encode("utf-8"), digest_size=16, key=f"splits:{seed}".encode()).digest()
    side = "eval" if _fraction(digest[8:]) < eval_share else "train"
    drawn, total, upto = _fraction(digest[:8]), sum(shares), 0.0
    for step, share in zip(STEPS, shares, strict=True):
        upto += share / total
        if share and drawn < upto:
            return step, side
    return next(step for step, share in reversed(list(zip(STEPS, shares, strict=True))) if share), side


def _fraction(eight: bytes) -> float:
    """Eight bytes as a number in [0, 1)."""
    return (int.from_bytes(eight, "big") >> 11) / (1 << 53)


@dataclass
class _Dealt:
    """Records by (step, side), and what is counted on the way."""

    records: dict[tuple[str, str], list[Record]] = field(default_factory=lambda: defaultdict(list))
    counts: Counter[tuple[str, str, str, str]] = field(default_factory=Counter)  # source, step, side, lang
    left_out: Counter[tuple[str, str]] = field(default_factory=Counter)  # source, reason
    seen: set[tuple[str, str]] = field(default_factory=set)  # step, record id (PPO: prompt key)

    def add(self, step: str, side: str, record: Record, source: str, identity: str) -> None:
        if (step, identity) in self.seen:
            self.left_out[source, "duplicate"] += 1
            return
        self.seen.add((step, identity))
        self.records[step, side].append(record)
        self.counts[source, step, side, record.lang or ""] += 1


def split(
    preferences: Iterable[Path],
    instructions: Iterable[Path],
    settings: SplitSettings,
    out: Path,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write `{sft,reward,ppo}/{train,eval}.jsonl`, rejected.jsonl and summary.json to `out`; return the summary.

    SFT lines are conversations that end with the assistant (of a preference: its best response), reward lines are
    preferences, PPO lines are prompts. Sources are files of any format that `formats` knows; two files of the same name
    are told apart by their folder.

    Raises:
        ValueError: a source holds nothing to use, or a split came out empty although it has a share.
    """
    preference_files, instruction_files = list(preferences), list(instructions)
    names = _names([*preference_files, *instruction_files])
    shares = [float(share) for share in settings.shares.split(",")]
    dealt, rejected, sources = _Dealt(), [], {}
    for done, path in enumerate([*preference_files, *instruction_files]):
        source = names[path]
        if progress is not None:
            progress(done, len(names), source)
        reading: Reading[Preference] | Reading[Conversation]
        if path in preference_files:
            reading = read_preferences(path, source=source)
            _deal_preferences(reading, source, shares, settings, dealt)
        else:
            reading = read_conversations(path, source=source)
            _deal_instructions(reading, source, settings, dealt)
        _check_source(path, reading, dealt.left_out, source)
        rejected += [{"source": source, **line.as_dict()} for line in reading.rejected]
        sources[source] = _source_summary(reading, source, dealt)
    _check_splits(dealt, shares, settings, list(sources), bool(preference_files))
    for step in STEPS:
        for side in SIDES:
            write_jsonl(out / step / f"{side}.jsonl", dealt.records[step, side])
    write_jsonl(out / "rejected.jsonl", rejected)
    summary = {
        "shares": {step: share / sum(shares) for step, share in zip(STEPS, shares, strict=True)},
        "eval_share": settings.eval_share,
        "splits": {step: {side: len(dealt.records[step, side]) for side in SIDES} for step in STEPS},
        "sources": sources,
    }
    write_json(out / "summary.json", summary)
    return summary


def _deal_preferences(
    reading: Reading[Preference], source: str, shares: Sequence[float], settings: SplitSettings, dealt: _Dealt
) -> None:
    for record in reading.records:
        key = prompt_key(record.turns)
        step, side = place(key, shares, settings.eval_share, settings.seed)
        if step == "sft":
            answered = best_answer(record)
            dealt.add(step, side, answered, source, answered.id)
        elif step == "reward":
            dealt.add(step, side, record, source, record.id)
        else:
            dealt.add(step, side, prompt_of(record), source, key)


def _deal_instructions(
    reading: Reading[Conversation], source: str, settings: SplitSettings, dealt: _Dealt
) -> None:
    for record in reading.records:
        if record.turns[-1].role == "user":
            dealt.left_out[source, "no_answer"] += 1
            continue
        _, side = place(prompt_key(record.turns[:-1]), (1, 0, 0), settings.eval_share, settings.seed)
        dealt.add("sft", side, record, source, record.id)


def best_answer(record: Preference) -> Conversation:
    """The prompt with its best response."""
    turns = [*record.turns, Turn(role="assistant", text=record.responses[0])]
    texts = [turn.text for turn in turns]
    return Conversation(
        id=record_id(record.system, texts), system=record.system, turns=turns, source=record.source, lang=record.lang,
        labels=record.labels,
    )  # fmt: skip


def prompt_of(record: Preference) -> Conversation:
    """The prompt alone; `labels.reference` stays where it was known."""
    texts = [turn.text for turn in record.turns]
    return Conversation(
        id=record_id(record.system, texts), system=record.system, turns=record.turns, source=record.source,
        lang=record.lang, labels=record.labels,
    )  # fmt: skip


def _names(paths: list[Path]) -> dict[Path, str]:
    """A name for each source: the file's, with as many folders before it as it takes to be the only one."""
    names: dict[Path, str] = {}
    for path in paths:
        for depth in range(1, len(path.parts) + 1):
            name = "/".join(path.parts[-depth:])
            if all(other == path or other.parts[-depth:] != path.parts[-depth:] for other in paths):
                break
        names[path] = name
    return names


def _check_source(
    path: Path, reading: Reading[Preference] | Reading[Conversation], left_out: Counter[tuple[str, str]], source: str
) -> None:
    if len(reading.records) > left_out[source, "no_answer"]:
        return
    reasons = dict(reading.reasons())
    if left_out[source, "no_answer"]:
        reasons["no_answer"] = left_out[source, "no_answer"]
    why = ", ".join(f"{count} {reason}" for reason, count in reasons.items()) or "it is empty"
    raise ValueError(f"{path} gives nothing to train on: {why}")


def _check_splits(
    dealt: _Dealt, shares: Sequence[float], settings: SplitSettings, sources: list[str], have_preferences: bool
) -> None:
    for step, share in zip(STEPS, shares, strict=True):
        if not share and not (step == "sft" and dealt.records["sft", "train"]):
            continue  # nothing was asked for
        for side in SIDES:
            if dealt.records[step, side] or (side == "eval" and not settings.eval_share):
                continue
            if step != "sft" and not have_preferences:
                raise ValueError(f"the {step} split is empty: it is dealt from preferences, and there is no such source")
            part = share / sum(shares) * (settings.eval_share if side == "eval" else 1 - settings.eval_share)
            count = sum(dealt.counts.values())
            raise ValueError(
                f"{step}/{side} is empty: of the {count} records of {', '.join(sources)} its share is {part:.1%} of each "
                f"preference source (shares {settings.shares}, eval_share {settings.eval_share}); add data or raise its share"
            )


def _source_summary(
    reading: Reading[Preference] | Reading[Conversation], source: str, dealt: _Dealt
) -> dict[str, Any]:
    steps: dict[str, dict[str, int]] = {}
    languages: Counter[str] = Counter()
    for (name, step, side, lang), count in sorted(dealt.counts.items()):
        if name == source:
            sides = steps.setdefault(step, dict.fromkeys(SIDES, 0))
            sides[side] += count
            languages[lang] += count
    return {
        "values": reading.values,
        "formats": reading.formats,
        "records": len(reading.records),
        "rejected": reading.reasons(),
        "left_out": {reason: count for (name, reason), count in sorted(dealt.left_out.items()) if name == source},
        "responses_left_out": reading.merged,
        "steps": steps,
        "languages": dict(sorted(languages.items())),
    }
