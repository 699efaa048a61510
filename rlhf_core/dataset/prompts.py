"""Prompts that answers are written to."""

from __future__ import annotations

from pathlib import Path

from rlhf_core.dataset.chat_template import Chat
from rlhf_core.dataset.records import Record, read_records


def read_prompts(path: Path, chat: Chat, longest: int) -> tuple[list[tuple[Record, list[int]]], int]:
    """(prompts with their token ids, dropped as longer than `longest` tokens)."""
    records = [record.prompt() for record in read_records(path)] if path.exists() else []
    encoded = list(zip(records, chat.prompts(records), strict=True))
    kept = [(record, ids) for record, ids in encoded if len(ids) <= longest]
    return kept, len(encoded) - len(kept)
