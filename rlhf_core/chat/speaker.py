"""A model in a conversation: it remembers the turns, and answers token by token."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from rlhf_core.dataset.batches import pad_left
from rlhf_core.dataset.records import Record, Turn
from rlhf_core.evaluation.candidate import Candidate
from rlhf_core.generation.decoding import make_decoder
from rlhf_core.generation.rollout import draw, stop_tokens

_UNFINISHED = "\N{REPLACEMENT CHARACTER}"  # a character whose last bytes are in tokens yet to come


class Speaker:
    """`finished` and `forgotten` speak of the last answer: whether it came to its end, and how many earlier turns it was
    written without, since they did not fit the context."""

    def __init__(self, model: Candidate, system: str | None, new_tokens: int, temperature: float, seed: int) -> None:
        self.model, self.system, self.temperature = model, system, temperature
        self.new_tokens = min(new_tokens, model.context - 1)
        self.generator = torch.Generator().manual_seed(seed)
        self.turns: list[Turn] = []
        self.finished, self.forgotten = True, 0

    @property
    def prompt(self) -> Record:
        """The conversation up to its last question."""
        record = Record("chat", self.system, tuple(self.turns))
        return record.prompt()

    def forget(self) -> None:
        self.turns = []

    def answer(self, question: str) -> Iterator[str]:
        """Pieces of the answer as they are written; what was taken by then becomes a turn, also where the taking breaks off.

        Raises:
            ValueError: the question alone is too long for the model.
        """
        asked = Turn("user", question)
        ids = self._fitting(asked)
        self.turns.append(asked)
        self.finished = False
        said = ""
        try:
            for text in self._texts(ids):
                yield text[len(said) :]
                said = text
        finally:
            self.turns.append(Turn("assistant", said.strip()))

    def _fitting(self, asked: Turn) -> list[int]:
        """Token ids of the conversation with the new question, without its oldest turns where all do not fit."""
        earlier = [] if self.model.plain else self.turns
        self.forgotten = 0
        while True:
            record = Record("chat", self.system, (*earlier[self.forgotten :], asked))
            [ids] = self.model.encode([record])
            if len(ids) + self.new_tokens <= self.model.context:
                self.turns = self.turns[self.forgotten :]
                return ids
            if self.forgotten >= len(earlier):
                room = self.model.context - self.new_tokens
                raise ValueError(f"{len(ids)} tokens are too many for {self.model.name}: {room} fit beside an answer of {self.new_tokens}")
            self.forgotten += 2

    def _texts(self, ids: list[int]) -> Iterator[str]:
        """The answer's text as it grows, in whole characters."""
        written: list[int] = []
        text = ""
        for token in self._tokens(ids):
            written.append(token)
            text = str(self.model.chat.tokenizer.decode(written, skip_special_tokens=True)).lstrip()
            if not text.endswith(_UNFINISHED):
                yield text
        if text.endswith(_UNFINISHED):
            yield text

    def _tokens(self, ids: list[int]) -> Iterator[int]:
        """Token ids without the end; greedy at temperature 0."""
        model, chat = self.model.policy.model, self.model.chat
        decoder = make_decoder(model, self.new_tokens, len(ids))
        with torch.inference_mode():
            logits = decoder.prefill(pad_left([ids], chat.pad_id).to(model.device))
        stops = stop_tokens(chat, logits.shape[1], logits.device)
        for number in range(self.new_tokens):
            if self.temperature == 0:
                token = int(logits[0].argmax())
            else:
                uniform = torch.rand(1, generator=self.generator, dtype=torch.float64).to(logits.device)
                token = int(draw(torch.log_softmax(logits.float() / self.temperature, dim=-1), uniform))
            if stops[token]:
                self.finished = token == chat.end_id
                return
            yield token
            if number + 1 < self.new_tokens:
                with torch.inference_mode():
                    logits = decoder.advance(torch.tensor([token], device=logits.device))
