"""Conversations to tokens, decided once: where a prompt ends, where an answer ends, and what counts in the loss.

A conversation is cut into segments, prompt and answer by turns, at the point where the chat template would ask the
model to write. Segments are tokenized apart and joined, in training as in generation, so the tokens at a boundary
are the same in SFT, reward model, PPO and evaluation. An answer always ends with the template's own end token; one
that a turn spells out is letters (`rlhf_core.dataset.spelling`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rlhf_core.dataset.records import Record, Turn
from rlhf_core.dataset.spelling import Spelling
from rlhf_core.dataset.vocabulary import CHAT_TEMPLATE, END, PAD, SPECIAL_TOKENS
from rlhf_core.job.errors import BadInput

_PROBE = "Zq7"

Segments = list[tuple[str, bool]]  # texts that are tokenized apart, and whether each is an answer


@dataclass(frozen=True)
class Tokens:
    """Token ids of one example and its response mask (True = counts in the loss), of the same length."""

    ids: list[int]
    mask: list[bool]

    def __len__(self) -> int:
        return len(self.ids)

    def cut(self, length: int) -> Tokens:
        """The first `length` tokens. A cut answer gets no end token: the model must not learn to stop there."""
        return self if len(self.ids) <= length else Tokens(self.ids[:length], self.mask[:length])


@dataclass
class Chat:
    """A tokenizer with its template. `added` names what it lacked and was given: a pad, a template, role tokens; `source` is where
    it was read.

    pad_id is a token of its own, never the end token: a mask is never made from it, but other people's code does.
    """

    tokenizer: Any
    added: list[str] = field(default_factory=list)
    source: str | None = None
    pad_id: int = field(init=False)
    end_id: int = field(init=False)

    def __post_init__(self) -> None:
        if not getattr(self.tokenizer, "chat_template", None):
            self._adopt_template()
        self._before, self._after = self._answer_frame()
        self.end_id = self._find_end()
        pad = self.tokenizer.pad_token_id
        if pad is None or pad == self.end_id or pad == self.tokenizer.eos_token_id:
            self.tokenizer.add_special_tokens({"pad_token": PAD})
            self.added.append("pad token")
        self.pad_id = int(self.tokenizer.pad_token_id)
        self._spelling = Spelling(self.tokenizer)

    @property
    def vocab_size(self) -> int:
        return len(self.tokenizer)

    # Encoding

    def conversations(self, records: list[Record]) -> list[Tokens]:
        """Whole conversations that end with an answer; every assistant turn and its end token count, or, where the template rewrites
        earlier turns (see `rows`), those of the last alone."""
        return self._join([segments[-1] for segments in self._told(records)])

    def rows(self, records: list[Record]) -> list[list[Tokens]]:
        """What is learned of each conversation: one row, as `conversations` has it. Where the template writes earlier turns otherwise
        than the last (Qwen3 keeps <think> in the last alone), a row for every assistant turn, as the template shows it when that turn
        is the last, which is how the model is asked; its last answer alone counts."""
        told = self._told(records)
        joined = iter(self._join([segments for own in told for segments in own]))
        return [[next(joined) for _ in own] for own in told]

    def prompts(self, records: list[Record]) -> list[list[int]]:
        """Up to the point where the model begins to write."""
        segments = []
        for record in records:
            with _named(record):
                if record.turns[-1].role == "assistant":
                    raise BadInput("a prompt must end with a user turn")
                segments.append([(self.prompt_text(record.system, record.turns), False)])
        return [tokens.ids for tokens in self._join(segments)]

    def answers(self, texts: list[str]) -> list[list[int]]:
        """Answers as they follow a prompt, end token included."""
        return [tokens.ids for tokens in self._join([[(self._answer_text(text), True)] for text in texts])]

    def plain(self, texts: list[str]) -> list[list[int]]:
        """Text without any special token."""
        return self._spelling.ids(texts)

    def decode(self, ids: list[int], marks: Sequence[str] = ()) -> str:
        """The text of an answer: up to the first end token and the first of `marks`, without special tokens, outer blanks and what the
        template writes before every answer (Qwen3's empty thoughts, which are no special tokens)."""
        if self.end_id in ids:
            ids = ids[: ids.index(self.end_id)]
        text = str(self.tokenizer.decode(ids, skip_special_tokens=True))
        # before the outer blanks go: of "\nUser: " they are a part
        text = text[: min([place for mark in marks if (place := text.find(mark)) >= 0], default=len(text))].strip()
        return text.removeprefix(self._before.strip()).strip()

    def prompt_text(self, system: str | None, turns: tuple[Turn, ...]) -> str:
        """What the template makes of them, the special tokens in their texts cut, answers without outer blanks as they are learned."""
        spelled = self._spelling.spelled
        texts = [turn.text.strip() if turn.role == "assistant" else turn.text for turn in turns]
        told = [Turn(turn.role, spelled(text)) for turn, text in zip(turns, texts, strict=True)]
        return self._render(system and spelled(system), told, ask=True)

    # How it is done

    @property
    def _owner(self) -> str:
        return self.source or "the tokenizer"

    def _told(self, records: list[Record]) -> list[list[Segments]]:
        """The rows of each conversation as segments."""
        told = []
        for record in records:
            with _named(record):
                told.append(self._segments(record.system, record.turns))
        return told

    def _segments(self, system: str | None, turns: tuple[Turn, ...]) -> list[Segments]:
        if turns[-1].role != "assistant":
            raise BadInput("a conversation to learn from must end with an assistant turn")
        rows: list[Segments] = []  # up to each answer
        segments: Segments = []
        done, rewritten = "", False
        for index, turn in enumerate(turns):
            if turn.role != "assistant":
                continue
            prompt = self.prompt_text(system, turns[:index])
            answer = self._answer_text(turn.text)
            rows.append([(prompt, False), (answer, True)])
            rewritten = rewritten or not prompt.startswith(done)
            segments += [(prompt[len(done) :], False), (answer, True)]
            done = prompt + answer
        return rows if rewritten else [segments]

    def _answer_text(self, text: str) -> str:
        return self._before + self._spelling.spelled(text.strip()) + self._after

    def _join(self, conversations: list[Segments]) -> list[Tokens]:
        ids = iter(self._spelling.rendered([text for segments in conversations for text, _ in segments]))
        joined = []
        for segments in conversations:
            tokens = Tokens([], [])
            for _, is_answer in segments:
                part = next(ids)
                tokens.ids.extend(part)
                tokens.mask.extend(self._counting(part) if is_answer else [False] * len(part))
            joined.append(tokens)
        return joined

    def _counting(self, answer: list[int]) -> list[bool]:
        """What a template writes after the end token (a newline, say) is never generated, so it never counts."""
        last = len(answer) - 1 - answer[::-1].index(self.end_id) if self.end_id in answer else len(answer) - 1
        return [position <= last for position in range(len(answer))]

    def _render(self, system: str | None, turns: Sequence[Turn], ask: bool) -> str:
        messages = [{"role": "system", "content": system}] if system else []
        messages += [{"role": turn.role, "content": turn.text} for turn in turns]
        try:
            return str(self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=ask))
        except Exception as error:  # a template is code: Gemma's and Mistral's refuse system prompts, others fail in any way
            what = str(error) if type(error).__module__.startswith("jinja2") else f"{type(error).__name__}: {error}"
            hint = "; write what it says before the first question" if system else ""
            raise BadInput(f"the chat template of {self._owner} refuses a conversation{' with a system prompt' if system else ''}: {what}{hint}") from error

    def _answer_frame(self) -> tuple[str, str]:
        """What the template writes between its request to answer and the answer, and after the answer."""
        question = (Turn("user", _PROBE),)
        asked = self._render(None, question, ask=True)
        whole = self._render(None, (*question, Turn("assistant", _PROBE)), ask=False)
        if not whole.startswith(asked) or _PROBE not in whole[len(asked) :]:
            raise BadInput(
                f"the chat template of {self._owner}: what asks for an answer must be the beginning of the conversation with it, and the answer "
                "must stand there as it was given; mend its chat_template.jinja, or take it away: then the tokenizer gets this project's"
            )
        before, after = whole[len(asked) :].split(_PROBE, 1)
        return before, after

    def _find_end(self) -> int:
        """The first special token that the template writes after an answer; without one, the eos token is added."""
        special = set(self.tokenizer.all_special_ids)
        for token in self.tokenizer(self._after, add_special_tokens=False)["input_ids"]:
            if token in special:
                return int(token)
        if self.tokenizer.eos_token_id is None:
            raise BadInput(f"the tokenizer of {self._owner} has no end-of-text token, and its chat template writes none: name an eos_token in its tokenizer_config.json")
        self._after += self.tokenizer.eos_token
        self.added.append("end token after answers")
        return int(self.tokenizer.eos_token_id)

    def _adopt_template(self) -> None:
        """A base model's tokenizer: it learns our role marks; its own end of text stays the end where it has one."""
        template = CHAT_TEMPLATE
        if self.tokenizer.eos_token is None:
            self.tokenizer.add_special_tokens({"eos_token": END})
        else:
            template = template.replace(END, self.tokenizer.eos_token)
        marks = [mark for mark in SPECIAL_TOKENS if mark not in (PAD, END)]
        missing = [mark for mark in marks if mark not in self.tokenizer.get_vocab()]
        if missing:
            self.tokenizer.add_special_tokens(
                {"additional_special_tokens": missing}, replace_extra_special_tokens=False
            )
        self.tokenizer.chat_template = template
        self.added.append("chat template")


@contextmanager
def _named(record: Record) -> Iterator[None]:
    """Whatever cannot be used inside is said of this record: it may be one of many."""
    try:
        yield
    except BadInput as error:
        raise BadInput(f"record {record.id}: {error}") from error


def load_chat(source: str) -> Chat:
    """The tokenizer of a folder or hub name; BadInput where there is none."""
    from transformers import AutoTokenizer

    try:
        return Chat(AutoTokenizer.from_pretrained(source), source=source)
    except (OSError, ValueError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"no tokenizer can be read from {source}: {error}") from error
