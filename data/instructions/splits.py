"""Deals prompts to the three training steps and, within each, to training and evaluation.

DeepSpeed-Chat's "2,4,4" (dschat/utils/data/data_utils.py), said anew: a preference source is split by prompt over SFT,
reward model and PPO; instructions serve SFT alone and are never split over the steps. Two things differ on purpose.
There, a shuffled list is cut, its indices cached by file name, so they go stale when the file changes; here a prompt's
own hash says where it belongs, so an old prompt keeps its step however much its source grows, and sizes follow the shares
up to chance. And there copies of a prompt fall anywhere; here prompts that differ only in case, spacing, punctuation or width
hash alike, and near-duplicates (`near_duplicates`) follow the one of them with the smallest hash to its side of train and eval,
even when they come from different sources. So a prompt changes its side only if a near-duplicate with a smaller hash and
another side joins it; its step it never changes.

Sources are streamed twice, first to find near-duplicates, then to deal; what is held in memory are a few numbers a prompt.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from data.instructions.formats import (
    Rejected,
    Tally,
    read_conversations,
    stream_conversations,
    stream_preferences,
    why_nothing,
)
from data.instructions.lines import dump, write_json, write_jsonl
from data.instructions.near_duplicates import leaders
from data.instructions.prompt_keys import STEPS, prompt_digest, prompt_key, side_of, spelling, step_of
from data.instructions.records import Conversation, Label, Preference, Turn, record_id
from data.instructions.settings import SplitSettings
from data.text import count_words

SIDES = ("train", "eval")

Record = Conversation | Preference
Progress = Callable[[int, int | None, str], None]


class _Seen:
    """What was dealt already: a set on disk, so that its size does not matter."""

    def __init__(self, path: Path) -> None:
        self._base = sqlite3.connect(path, isolation_level=None)
        self._base.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; CREATE TABLE seen (name TEXT PRIMARY KEY) WITHOUT ROWID; BEGIN")

    def add(self, name: str) -> bool:
        """False where `name` is known."""
        return self._base.execute("INSERT OR IGNORE INTO seen VALUES (?)", (name,)).rowcount == 1

    def close(self) -> None:
        self._base.close()


@dataclass
class _Dealt:
    """Six files of records, and what is counted on the way."""

    files: dict[tuple[str, str], IO[str]]
    seen: _Seen
    records: Counter[tuple[str, str]] = field(default_factory=Counter)  # step, side
    counts: Counter[tuple[str, str, str, str]] = field(default_factory=Counter)  # source, step, side, lang
    left_out: Counter[tuple[str, str]] = field(default_factory=Counter)  # source, reason

    def add(self, step: str, side: str, record: Record, source: str, identity: str) -> None:
        if not self.seen.add(f"{step} {identity}"):
            self.left_out[source, "duplicate"] += 1
            return
        self.files[step, side].write(record.line())
        self.records[step, side] += 1
        self.counts[source, step, side, record.lang or ""] += 1


@dataclass(frozen=True)
class _Source:
    path: Path
    name: str
    is_preferences: bool

    def stream(self, tally: Tally) -> Iterator[Any]:
        read: Any = stream_preferences if self.is_preferences else stream_conversations
        return read(self.path, tally, source=self.name)

    def prompts(self) -> Iterator[list[Turn]]:
        for record in self.stream(Tally()):
            if isinstance(record, Preference):
                yield record.turns
            elif isinstance(record, Conversation) and record.turns[-1].role == "assistant":
                yield record.turns[:-1]


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
    sources = [_Source(path, names[path], True) for path in preference_files]
    sources += [_Source(path, names[path], False) for path in instruction_files]
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".splits-", dir=out.parent) as folder:
        made = Path(folder) / "out"
        sides = _leading_digests(sources, settings, Path(folder))
        summary = _deal_all(sources, settings, sides, made, Path(folder) / "seen.sqlite", progress)
        out.mkdir(exist_ok=True)
        shutil.copytree(made, out, dirs_exist_ok=True, copy_function=shutil.move)
    return summary


def _leading_digests(sources: Sequence[_Source], settings: SplitSettings, folder: Path) -> dict[str, str]:
    """Hex digests of the prompts that follow another one to its side -> that one's digest."""
    if settings.near_duplicates is None or not settings.eval_share:
        return {}
    keys = (prompt_key(turns) for source in sources for turns in source.prompts())
    texts = ((prompt_digest(key, settings.seed).hex(), key) for key in keys)
    return leaders(texts, settings.near_duplicates, folder / "near")


def _deal_all(
    sources: Sequence[_Source], settings: SplitSettings, following: dict[str, str], out: Path, seen: Path, progress: Progress | None
) -> dict[str, Any]:
    shares = [float(share) for share in settings.shares.split(",")]
    tallies: dict[str, Tally] = {}
    for step in STEPS:
        (out / step).mkdir(parents=True)
    files = {(step, side): _open(out / step / f"{side}.jsonl") for step in STEPS for side in SIDES}
    rejected = _open(out / "rejected.jsonl")
    dealt = _Dealt(files, _Seen(seen))
    try:
        for done, source in enumerate(sources):
            if progress is not None:
                progress(done, len(sources), source.name)
            tally = tallies[source.name] = Tally()
            for record in source.stream(tally):
                if isinstance(record, Rejected):
                    rejected.write(dump({"source": source.name, **record.as_dict()}))
                else:
                    _deal(record, source.name, shares, settings, following, dealt)
            _check_source(source, tally, dealt)
    finally:
        dealt.seen.close()
        for file in (*files.values(), rejected):
            file.close()
    _check_splits(dealt, shares, settings, list(tallies), any(source.is_preferences for source in sources))
    summary = {
        "shares": {step: share / sum(shares) for step, share in zip(STEPS, shares, strict=True)},
        "eval_share": settings.eval_share,
        "near_duplicates": len(following),
        "splits": {step: {side: dealt.records[step, side] for side in SIDES} for step in STEPS},
        "sources": {name: _source_summary(tally, name, dealt) for name, tally in tallies.items()},
    }
    write_json(out / "summary.json", summary)
    return summary


def _open(path: Path) -> IO[str]:
    return path.open("w", encoding="utf-8", newline="\n")


def _deal(
    record: Record, source: str, shares: Sequence[float], settings: SplitSettings, following: dict[str, str], dealt: _Dealt
) -> None:
    if isinstance(record, Conversation) and record.turns[-1].role == "user":
        dealt.left_out[source, "no_answer"] += 1
        return
    key = prompt_key(record.turns if isinstance(record, Preference) else record.turns[:-1])
    digest = prompt_digest(key, settings.seed)
    side = side_of(bytes.fromhex(following.get(digest.hex(), digest.hex())), settings.eval_share)
    if isinstance(record, Conversation):
        dealt.add("sft", side, record, source, record.id)
        return
    step = step_of(digest, shares)
    if step == "sft":
        answered = best_answer(record)
        dealt.add(step, side, answered, source, answered.id)
    elif step == "reward":
        dealt.add(step, side, record, source, record.id)
    elif settings.max_prompt_words is not None and sum(count_words(turn.text) for turn in record.turns) > settings.max_prompt_words:
        dealt.left_out[source, "too_long"] += 1
    else:
        dealt.add(step, side, prompt_of(record), source, prompt_digest(spelling(record), settings.seed).hex())


def bring_questions(path: Path, out: Path) -> dict[str, Any]:
    """An evaluation's questions as records in out/questions.jsonl; their rejected lines join out/rejected.jsonl. Returns what is counted."""
    reading = read_conversations(path)
    write_jsonl(out / "questions.jsonl", reading.records)
    with (out / "rejected.jsonl").open("a", encoding="utf-8", newline="\n") as rejected:
        rejected.writelines(dump({"source": path.name, **item.as_dict()}) for item in reading.rejected)
    return {"records": len(reading.records), "rejected": reading.reasons()}


def best_answer(record: Preference) -> Conversation:
    """The prompt with its best response."""
    turns = [*record.turns, Turn(role="assistant", text=record.responses[0])]
    texts = [turn.text for turn in turns]
    return Conversation(
        id=record_id(record.system, texts), system=record.system, turns=turns, source=record.source, lang=record.lang,
        labels=_without_ratings(record),
    )  # fmt: skip


def prompt_of(record: Preference) -> Conversation:
    """The prompt alone; `labels.reference` stays where it was known."""
    texts = [turn.text for turn in record.turns]
    return Conversation(
        id=record_id(record.system, texts), system=record.system, turns=record.turns, source=record.source,
        lang=record.lang, labels=_without_ratings(record),
    )  # fmt: skip


def _without_ratings(record: Preference) -> dict[str, Label]:
    """Labels of what has no responses any more."""
    return {name: label for name, label in record.labels.items() if name != "ratings"}


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


def _check_source(source: _Source, tally: Tally, dealt: _Dealt) -> None:
    if tally.records > dealt.left_out[source.name, "no_answer"]:
        return
    reasons = tally.reasons()
    if dealt.left_out[source.name, "no_answer"]:
        reasons["no_answer"] = dealt.left_out[source.name, "no_answer"]
    raise ValueError(f"{source.path} gives nothing to train on: {why_nothing(reasons)}")


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


def _source_summary(tally: Tally, source: str, dealt: _Dealt) -> dict[str, Any]:
    steps: dict[str, dict[str, int]] = {}
    languages: Counter[str] = Counter()
    for (name, step, side, lang), count in sorted(dealt.counts.items()):
        if name == source:
            sides = steps.setdefault(step, dict.fromkeys(SIDES, 0))
            sides[side] += count
            languages[lang] += count
    return {
        "values": tally.values,
        "formats": dict(sorted(tally.formats.items())),
        "records": tally.records,
        "rejected": tally.reasons(),
        "left_out": {reason: count for (name, reason), count in sorted(dealt.left_out.items()) if name == source},
        "responses_left_out": dict(sorted(tally.merged.items())),
        "steps": steps,
        "languages": dict(sorted(languages.items())),
    }
