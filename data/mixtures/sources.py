"""The sources of a mixture as folders that training reads: documents/part-*.parquet, or conversations.jsonl; and their sizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any

import pyarrow.parquet as pq
from tokenizers import Tokenizer

from data.document import values
from data.instructions.formats import Rejected, stream_conversations, why_nothing, write_jsonl
from data.instructions.lines import dump
from data.instructions.records import Conversation
from data.mixtures.plan import Size
from data.places import link_file
from data.shards import list_shards, read_shard, shard_name

_CONVERSATIONS = ("train.jsonl", "conversations.jsonl")
_COLUMNS = ("id", "lang", "text")  # of documents that training reads
_BATCH = 1000  # texts tokenized together


def documents_of(origin: Path) -> list[Path]:
    """The Parquet shards of a corpus folder, its documents/, or one file; empty for conversations, which a file may hold as well."""
    if origin.suffix == ".parquet":
        return [origin] if "text" in pq.read_schema(origin).names else []
    return list_shards(origin / "documents") or list_shards(origin)


def gather(origin: Path, place: Path) -> dict[str, int]:
    """Fill `place` with the source at `origin`: shards linked, conversations of any layout as records of one form.

    Returns what of conversations was left out, by reason; their rejected lines lie in `rejected.jsonl`.

    Raises:
        ValueError: there are neither documents nor conversations, or documents without the columns that training reads.
    """
    shards = documents_of(origin)
    for shard in shards:
        if missing := [name for name in _COLUMNS if name not in pq.read_schema(shard).names]:
            raise ValueError(f"{shard}: documents have the columns {', '.join(_COLUMNS)}; missing: {', '.join(missing)} (a run's corpus has them all)")
    for number, shard in enumerate(shards):
        target = place / "documents" / shard_name(number)
        target.parent.mkdir(parents=True, exist_ok=True)
        link_file(shard.resolve(), target)
    if shards:
        return {}
    files = [origin] if origin.is_file() else [origin / name for name in _CONVERSATIONS if (origin / name).is_file()]
    left_out: Counter[str] = Counter()

    def answered(rejected: IO[str]) -> Iterator[Conversation]:
        for file in files:
            for record in stream_conversations(file):
                if isinstance(record, Rejected):
                    left_out[record.reason] += 1
                    rejected.write(dump({"source": file.name, **record.as_dict()}))
                elif record.turns[-1].role == "user":
                    left_out["no_answer"] += 1
                else:
                    yield record

    place.mkdir(parents=True, exist_ok=True)
    with (place / "rejected.jsonl").open("w", encoding="utf-8", newline="\n") as rejected:
        written = write_jsonl(place / "conversations.jsonl", answered(rejected)) if files else 0
    if left_out and not written:
        raise ValueError(f"{origin} gives nothing to train on: {why_nothing(left_out)}")
    if not written:
        raise ValueError(f"{origin} holds neither documents (part-*.parquet) nor conversations with answers ({', '.join(_CONVERSATIONS)} or a JSON-lines file)")
    return dict(sorted(left_out.items()))


def measure(place: Path, tokenizer: Path) -> Size:
    """Documents and tokens of a gathered source; every document counts one more token, its end.

    Of conversations the texts are counted, not the marks of their roles. `tokenizer` is a tokenizer.json.
    """
    encoder = Tokenizer.from_file(str(tokenizer))
    shards = documents_of(place)
    documents = tokens = 0
    texts = _texts(shards) if shards else _turns(place / "conversations.jsonl")
    while batch := list(islice(texts, _BATCH)):
        documents += len(batch)
        tokens += sum(len(found.ids) + 1 for found in encoder.encode_batch(batch, add_special_tokens=False))
    return Size("documents" if shards else "conversations", documents, tokens)


def _texts(shards: list[Path]) -> Iterator[str]:
    for shard in shards:
        yield from (text or "" for text in values(read_shard(shard, ["text"]), "text"))


def _turns(file: Path) -> Iterator[str]:
    for record in stream_conversations(file):
        if not isinstance(record, Rejected):
            yield "\n".join(turn.text for turn in record.turns)


def as_rows(plan: dict[str, Any], read: dict[str, dict[str, int]]) -> list[dict[str, int]]:
    """What a job says it read ({phase: {source: tokens}}) in the order of the plan's phases."""
    return [read.get(phase["name"], {}) for phase in plan["phases"]]
