"""The two records of the instruction half: a conversation, and a prompt with its responses in order of preference."""

from __future__ import annotations

import hashlib
import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Label = str | float | int | bool | None | list[float]  # a list is `ratings` alone: a number for each response, best first


class Turn(BaseModel):
    model_config = ConfigDict(frozen=True)

    role: Literal["user", "assistant"]
    text: str


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)

    id: str = ""
    system: str | None = None
    turns: list[Turn] = Field(min_length=1)
    source: str = ""
    lang: str | None = None
    labels: dict[str, Label] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _turns_alternate(self) -> _Record:
        for index, turn in enumerate(self.turns):
            expected = "user" if index % 2 == 0 else "assistant"
            if turn.role != expected:
                raise ValueError(f"turn {index + 1} is by {turn.role}, expected {expected}")
            if not turn.text.strip():
                raise ValueError(f"turn {index + 1} is empty")
        return self

    def line(self) -> str:
        """One line of a JSON-lines file."""
        return json.dumps(self.model_dump(), ensure_ascii=False) + "\n"


def record_id(system: str | None, texts: list[str]) -> str:
    """Stable content id: 16 hex digits over system prompt and texts."""
    payload = json.dumps([system, *texts], ensure_ascii=False).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(payload, digest_size=8).hexdigest()


class Conversation(_Record):
    """Turns alternate, user first. A *prompt* is a conversation that ends with a user turn."""


class Preference(_Record):
    """A prompt (turns end with the user) and K >= 2 responses, best first; no two are equal."""

    responses: list[str] = Field(min_length=2)

    @model_validator(mode="after")
    def _ends_with_user(self) -> Preference:
        if self.turns[-1].role != "user":
            raise ValueError("a preference's turns must end with the user")
        return self
