"""A model in a conversation: it remembers the turns, and answers token by token."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from rlhf_core.dataset.batches import pad_left
from rlhf_core.dataset.records import Record, Turn
from rlhf_core.evaluation.candidate import Candidate
from rlhf_core.generation.decoding import make_decoder
from rlhf_core.generation.rollout import draw, probabilities, stop_tokens

_UNFINISHED = "\N{REPLACEMENT CHARACTER}"  # a character whose last bytes are in tokens yet to come


class Speaker:
    """An answer has `new_tokens` tokens at most, or what its question leaves of the context, but no less than `room`: half of the
    context, or `new_tokens` where that is less. Old turns are forgotten to make that room.

    `finished` and `forgotten` speak of the last answer: whether it came to its end, and how many earlier turns it was
    written without.
    """

    def __init__(self, model: Candidate, system: str | None, new_tokens: int, temperature: float, seed: int) -> None:
        self.model, self.system, self.temperature = model, system, temperature
        self.new_tokens, self.room = new_tokens, min(new_tokens, model.context // 2)
        self.generator = torch.Generator().manual_seed(seed)
        self.turns: list[Turn] = []
        self.finished, self.forgotten = True, 0

    @property
    def prompt(self) -> Record:
        """The conversation up to its last question."""
        record = Record("chat", self.system, tuple(self.turns))
        return record.prompt()

    @property
    def _remembered(self) -> list[Turn]:
        """A plain model is not told of earlier turns: it has never seen a conversation."""
        return [] if self.model.plain else self.turns

    def forget(self) -> None:
        self.turns = []

    def undo(self) -> str | None:
        """Take the last question and its answer back; the question, or None where there is none."""
        if not self.turns:
            return None
        question = self.turns[-2].text
        self.turns = self.turns[:-2]
        return question

    def check(self, question: str) -> None:
        """Raises ValueError where the question alone is too long for the model."""
        self._fitting(Turn("user", question))

    def answer(self, question: str) -> Iterator[str]:
        """Pieces of the answer as they are written. The question is a turn from now on, and so is what was taken of the answer, also
        where the taking breaks off.

        Raises:
            ValueError: as `check`; then nothing has changed.
        """
        asked = Turn("user", question)
        ids, self.forgotten = self._fitting(asked)
        self.finished = False
        self.turns = [*self._remembered[self.forgotten :], asked, Turn("assistant", "")]
        return self._say(ids)

    def _say(self, ids: list[int]) -> Iterator[str]:
        said = ""
        for text in self._texts(ids):
            self.turns[-1] = Turn("assistant", text.strip())
            yield text[len(said) :]
            said = text

    def _fitting(self, asked: Turn) -> tuple[list[int], int]:
        """Token ids of the conversation with the new question, without its oldest turns where all leave no room for an answer; and
        how many those are."""
        earlier = self._remembered
        for forgotten in range(0, len(earlier) + 1, 2):
            [ids] = self.model.encode([Record("chat", self.system, (*earlier[forgotten:], asked))])
            if len(ids) + self.room <= self.model.context:
                return ids, forgotten
        fit = self.model.context - self.room
        raise ValueError(f"{len(ids)} tokens are too many for {self.model.name}: {fit} fit beside an answer of {self.room}")

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
        most = min(self.new_tokens, self.model.context - len(ids))
        decoder = make_decoder(model, most, len(ids))
        with torch.inference_mode():
            logits = decoder.prefill(pad_left([ids], chat.pad_id).to(model.device))
        stops = stop_tokens(chat, logits.device)
        for number in range(most):
            logits = logits[:, : len(stops)]  # what else the model has is no token
            if self.temperature == 0:
                token = int(logits[0].argmax())
            else:
                uniform = torch.rand(1, generator=self.generator, dtype=torch.float64).to(logits.device)
                token = int(draw(probabilities(logits, self.temperature), uniform))
            if stops[token]:
                self.finished = token == chat.end_id
                return
            yield token
            if number + 1 < most:
                with torch.inference_mode():
                    logits = decoder.advance(torch.tensor([token], device=logits.device))
