"""Topic-driven synthesis: user questions (or documents) in, a domain instruction set out.

Texts are deduplicated and clustered; each topic's key phrases, sentence patterns and nearest texts become a prompt; what the
teacher writes goes through the filters of self-instruct, with the questions in their pool, and the near-duplicate test. With
`answer_questions` the teacher also answers the questions themselves. Prompts depend on the texts and settings alone, so calls run side
by side and resume.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from data.document import values
from data.instructions.drafts import joined
from data.instructions.filters import Filters
from data.instructions.formats import Rejected, Tally, stream_conversations, why_nothing
from data.instructions.language import script_language
from data.instructions.lines import excerpt, write_json, write_jsonl
from data.instructions.near_duplicates import leaders
from data.instructions.parsing import parse
from data.instructions.prompts import topic_prompt
from data.instructions.records import Conversation, Turn, record_id
from data.instructions.self_instruct import Progress
from data.instructions.settings import TopicSettings
from data.instructions.teacher import Completion, JournaledTeacher, Prompt, RecordedTeacher, Teacher, Usage
from data.instructions.topics import Embed, Topic, find_topics
from data.shards import list_shards, read_shard

_DOCUMENT_CHARACTERS = 600  # of a document's beginning, or of a quoted question: what says its topic


class _Found:
    """What has been kept and dropped so far."""

    def __init__(self, settings: TopicSettings) -> None:
        self.filters = Filters(settings)
        self.written: list[Conversation] = []
        self.answers: list[Conversation] = []
        self.rejected: list[dict[str, Any]] = []
        self.usage, self.calls, self.items = Usage(), 0, 0

    def reject(self, source: str, reason: str, text: str, value: str | None = None, **place: int) -> None:
        self.rejected.append({"source": source, **place, "reason": reason, "value": value, "text": text})


def run(
    source: Path, teacher: Teacher | Path, settings: TopicSettings, out: Path, work: Path, progress: Progress | None = None,
    embed: Embed | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Write conversations.jsonl, rejected.jsonl, topics.json and summary.json to `out`; return the summary.

    Args:
        source: questions in any layout that `formats` reads, or a folder of documents (part-*.parquet).
        teacher: a Teacher, or a file of recorded completions.
        work: holds the journal, from which a killed run goes on.
        embed: vectors of the texts; null = TF-IDF.

    Raises:
        ValueError: nothing to read, no topic of enough texts, or nothing that was written was kept.
        ModuleNotFoundError: scikit-learn is missing.
        TeacherError: the teacher cannot be used.
    """
    tally = Tally()
    found = _Found(settings)
    texts, are_questions = _distinct(_texts(source, tally, found), settings, work, found), not source.is_dir()
    if are_questions:
        for text in texts:
            found.filters.remember_instruction(text)
    if not texts:
        raise ValueError(f"{source} holds no question or document ({why_nothing(tally.reasons())})")
    topics, left_out = find_topics(texts, settings, embed)
    if not topics:
        raise ValueError(f"none of the {len(texts)} texts of {source} is in a topic of {settings.min_texts} texts ({left_out}); lower min_texts or topics")
    if isinstance(teacher, Path):
        teacher = RecordedTeacher(teacher)
    journaled = JournaledTeacher(teacher, work / "journal.jsonl", settings.teacher_concurrency)
    _write_about(topics, texts, journaled, settings, found, progress)
    if are_questions and settings.answer_questions:
        _answer(topics, texts, journaled, settings, found, progress)
    conversations = [*found.answers, *_unlike(found, settings, work)]
    if not conversations:
        raise ValueError(f"nothing that the teacher wrote about {source} was kept: {_reasons(found.rejected, 'topic')}")
    write_jsonl(out / "conversations.jsonl", conversations)
    write_jsonl(out / "rejected.jsonl", found.rejected)
    write_json(out / "topics.json", {"topics": [topic.as_dict(texts) for topic in topics]})
    summary = {
        "texts": len(texts), "texts_left_out": left_out, "sources_rejected": _reasons(found.rejected, "source"),
        "topics": len(topics), "items": found.items, "rejected": _reasons(found.rejected, "topic"),
        "written": len(conversations) - len(found.answers), "answers": len(found.answers), "answers_rejected": _reasons(found.rejected, "answer"),
        "conversations": len(conversations), **found.usage.report(settings, found.calls),
    }  # fmt: skip
    write_json(out / "summary.json", summary)
    return summary


def _texts(source: Path, tally: Tally, found: _Found) -> Iterator[str]:
    if source.is_dir():
        folder = source / "documents" if (source / "documents").is_dir() else source
        for shard in list_shards(folder):
            for text in values(read_shard(shard, ["text"]), "text"):
                yield (text or "")[:_DOCUMENT_CHARACTERS]
        return
    for record in stream_conversations(source, tally):
        if isinstance(record, Rejected):
            found.reject("source", record.reason, record.text, line=record.line)
        else:
            yield record.turns[0].text


def _distinct(texts: Iterator[str], settings: TopicSettings, work: Path, found: _Found) -> list[str]:
    """One text of each near-duplicate cluster, in the order of the source."""
    named: dict[str, str] = {}
    for text in filter(str.strip, texts):
        name = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).hexdigest()
        if name in named:
            found.reject("source", "duplicate", excerpt(text))
        named[name] = text
    led = leaders(named.items(), settings.max_jaccard, work / "near_questions")
    for name in led:
        found.reject("source", "near_duplicate", named[name])
    return [text for name, text in named.items() if name not in led]


def _write_about(
    topics: Sequence[Topic], texts: Sequence[str], teacher: JournaledTeacher, settings: TopicSettings, found: _Found, progress: Progress | None
) -> None:
    asked = [(number, topic) for number, topic in enumerate(topics) for _ in range(settings.calls_per_topic)]
    prompts = [
        Prompt(
            topic_prompt(topic.phrases, topic.patterns, _quoted(topic, texts, settings, call), topic.lang, settings.tasks_per_call),
            topic.lang, call, settings.max_tokens, settings.temperature,
        )
        for call, (_, topic) in enumerate(asked)
    ]  # fmt: skip
    for prompt, completion in _asked(prompts, teacher, settings, found, progress, "topics"):
        number, topic = asked[prompt.call]
        for item in parse(completion.text, completion.finish_reason):
            found.items += 1
            verdict = found.filters.decide(item)
            if verdict.reason is not None or item.output is None:
                found.reject("topic", verdict.reason or "no_output", item.text, verdict.value, call=prompt.call, item=item.position)
                continue
            found.filters.remember(item.instruction, item.input, item.output)
            lang = script_language(item.instruction) or topic.lang
            said = joined(item.instruction, item.input)
            found.written.append(_conversation(said, item.output, "topic", lang, {"topic": number, "call": prompt.call, "item": item.position}))


def _quoted(topic: Topic, texts: Sequence[str], settings: TopicSettings, call: int) -> list[str]:
    """The nearest texts; further calls about the topic quote the next ones."""
    turn = call % settings.calls_per_topic
    members = topic.members[turn * settings.examples :] or topic.members
    return [texts[index][:_DOCUMENT_CHARACTERS] for index in members[: settings.examples]]


def _answer(
    topics: Sequence[Topic], texts: Sequence[str], teacher: JournaledTeacher, settings: TopicSettings, found: _Found, progress: Progress | None
) -> None:
    questions = [(number, topic.lang, texts[index]) for number, topic in enumerate(topics) for index in sorted(topic.members)]
    first = found.calls
    prompts = [Prompt(text, lang, first + place, settings.max_tokens, settings.temperature) for place, (_, lang, text) in enumerate(questions)]
    for prompt, completion in _asked(prompts, teacher, settings, found, progress, "answers"):
        number, lang, question = questions[prompt.call - first]
        answer = completion.text.strip()
        ended = {"length": "truncated", "stop": None if answer else "empty_output"}
        reason = ended.get(completion.finish_reason, None if answer else completion.finish_reason)
        if reason is not None:
            found.reject("answer", reason, question, call=prompt.call)
        else:
            found.answers.append(_conversation(question, answer, "question", lang, {"topic": number, "call": prompt.call}))


def _asked(
    prompts: list[Prompt], teacher: JournaledTeacher, settings: TopicSettings, found: _Found, progress: Progress | None, what: str
) -> Iterator[tuple[Prompt, Completion]]:
    """Each prompt with its completion, a few rounds of requests at a time; ends early where the teacher has no more."""
    step = 4 * settings.teacher_concurrency
    for start in range(0, len(prompts), step):
        batch = prompts[start : start + step]
        completions = teacher.complete_all(batch)
        for prompt, completion in zip(batch, completions, strict=False):
            found.calls += 1
            found.usage += completion.usage
            yield prompt, completion
        if progress is not None:
            progress(start + len(completions), len(prompts), f"{what}: {len(found.written)} written, {len(found.answers)} answered")
        if len(completions) < len(batch):
            return


def _unlike(found: _Found, settings: TopicSettings, work: Path) -> Iterator[Conversation]:
    """What was written, without near-duplicates of each other."""
    named = {record.id: record for record in found.written}
    led = leaders(((name, record.turns[0].text) for name, record in named.items()), settings.max_jaccard, work / "near_written")
    for name, record in named.items():
        if name in led:
            found.reject("topic", "near_duplicate", record.turns[0].text)
        else:
            yield record


def _conversation(question: str, answer: str, source: str, lang: str, labels: dict[str, Any]) -> Conversation:
    turns = [Turn(role="user", text=question), Turn(role="assistant", text=answer)]
    return Conversation(id=record_id(None, [question, answer]), source=source, lang=lang, labels=labels, turns=turns)


def _reasons(rejected: Sequence[dict[str, Any]], source: str) -> dict[str, int]:
    return dict(sorted(Counter(str(line["reason"]) for line in rejected if line["source"] == source).items()))
