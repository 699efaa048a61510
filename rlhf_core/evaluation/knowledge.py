"""What a model knows: multiple choice by the probability that it gives to the four letters.

All prompts of a subject begin alike (the description and the examples); what they share is read once and kept as keys and
values, and every question is read on from there. One reading serves all four letters unless a letter is several tokens.
"""

from __future__ import annotations

import copy
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rlhf_core.dataset.batches import pad_right
from rlhf_core.dataset.chat_template import Tokens
from rlhf_core.evaluation.multiple_choice import LETTERS, Question, Subject
from rlhf_core.measures.likelihood import batches
from rlhf_core.measures.statistics import Estimate, mean_of_shares, wilson
from rlhf_core.models.networks import PolicyModel

_ROOM = 4  # a shared beginning shorter than this is not worth a cache


@dataclass(frozen=True)
class Asked:
    """One question as token ids: a prompt, and how each letter goes on from it."""

    prompt: list[int]
    letters: list[list[int]]
    shots: int

    @property
    def longest(self) -> int:
        """Tokens that the model must read: a letter's last token is only predicted."""
        return len(self.prompt) + max(len(letter) for letter in self.letters) - 1


@dataclass(frozen=True)
class Reply:
    """`logprobs`: of the four letters, in nats; None where the model could not be asked (`reason` says why)."""

    subject: Subject
    question: Question
    shots: int
    logprobs: tuple[float, ...] | None
    reason: str | None = None

    @property
    def chosen(self) -> str | None:
        return None if self.logprobs is None else LETTERS[max(range(4), key=lambda i: self.logprobs[i])]  # type: ignore[index]

    @property
    def right(self) -> bool:
        return self.chosen == self.question.answer

    def line(self) -> dict[str, Any]:
        """A line of knowledge.jsonl, without model and set."""
        probabilities = None if self.logprobs is None else [float(f"{math.exp(p):.7g}") for p in self.logprobs]
        return {
            "subject": self.subject.name,
            "category": self.subject.category,
            "id": self.question.id,
            "answer": self.question.answer,
            "chosen": self.chosen,
            "right": self.right,
            "probabilities": probabilities,
            "shots": self.shots,
            "reason": self.reason,
        }


def ask(
    model: PolicyModel,
    tokenizer: Any,
    subjects: Sequence[Subject],
    shots: int,
    context: int,
    batch_tokens: int,
    done: Callable[[int], None] = lambda questions: None,
) -> list[Reply]:
    """Every question of every subject, in order, with `shots` examples or as many as fit `context` tokens."""
    replies = []
    for subject in subjects:
        encoded = [encode(tokenizer, subject, question, shots, context) for question in subject.questions]
        found = _logprobs(model, [asked for asked in encoded if not isinstance(asked, str)], batch_tokens)
        for question, asked in zip(subject.questions, encoded, strict=True):
            if isinstance(asked, str):
                replies.append(Reply(subject, question, 0, None, asked))
            else:
                logprobs = next(found)
                said = not any(map(math.isnan, logprobs))
                replies.append(Reply(subject, question, asked.shots, logprobs if said else None, None if said else "not_a_number"))
        done(len(encoded))
    return replies


def encode(tokenizer: Any, subject: Subject, question: Question, shots: int, context: int) -> Asked | str:
    """A question with as many examples as fit; `too_long` where it does not fit without any, `letters_alike` where the
    tokenizer writes two letters in the same way."""
    for count in range(min(shots, len(subject.shots)), -1, -1):
        asked = _split(tokenizer, subject.prompt(question, count), subject.letters(), count)
        if len(set(map(tuple, asked.letters))) < len(LETTERS):
            return "letters_alike"
        if asked.longest <= context:
            return asked
    return "too_long"


def _split(tokenizer: Any, prompt: str, letters: Sequence[str], shots: int) -> Asked:
    """Prompt and letters are tokenized together, as they stand in a text: where " A" and "A" differ, or a letter is several
    tokens, the tokens are those that the model would read. The prompt ends where all four texts, and it alone, agree."""
    texts = [prompt, *(prompt + letter for letter in letters)]
    alone, *whole = tokenizer(texts, split_special_tokens=True, verbose=False)["input_ids"]
    shared = _common([tuple(ids) for ids in (alone, *whole)])
    return Asked(list(alone[:shared]), [list(ids[shared:]) for ids in whole], shots)


def _common(rows: Sequence[tuple[int, ...]]) -> int:
    """How many tokens all rows begin with in common."""
    first, last = min(rows), max(rows)  # in lexicographic order all others lie between
    return next((place for place, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))


def _logprobs(model: PolicyModel, asked: Sequence[Asked], batch_tokens: int) -> Iterator[tuple[float, ...]]:
    """Log-probabilities of the letters of each question, in order."""
    # A row to read: the prompt, and of a letter all tokens but the last. Most often it is one for all four letters.
    rows: dict[tuple[int, ...], list[tuple[int, int]]] = defaultdict(list)
    for number, question in enumerate(asked):
        for place, letter in enumerate(question.letters):
            rows[(*question.prompt, *letter[:-1])].append((number, place))
    found = [[0.0] * len(LETTERS) for _ in asked]
    by_shots: dict[int, list[tuple[int, ...]]] = defaultdict(list)  # only prompts with as many examples begin alike
    for row, wanted in rows.items():
        by_shots[asked[wanted[0][0]].shots].append(row)
    for group in by_shots.values():
        lengths = {row: max(len(asked[n].letters[p]) for n, p in rows[row]) for row in group}
        for row, logprobs in _read(model, group, lengths, batch_tokens):
            for number, place in rows[row]:
                letter = asked[number].letters[place]
                # (tokens of the letter, V), the last row predicts its last token
                tail = logprobs[len(logprobs) - len(letter) :]
                found[number][place] = sum(float(tail[i, token]) for i, token in enumerate(letter))
    return iter([tuple(values) for values in found])


@torch.inference_mode()
def _read(
    model: PolicyModel, rows: list[tuple[int, ...]], lengths: dict[tuple[int, ...], int], batch_tokens: int
) -> Iterator[tuple[tuple[int, ...], Tensor]]:
    """Each row with log p (lengths[row], V) of what follows its last positions."""
    device = next(model.parameters()).device
    shared = min(_common(rows), *(len(row) - lengths[row] for row in rows)) if len(rows) > 1 else 0
    shared = shared if shared >= _ROOM else 0
    begun = _begin(model, rows[0][:shared], device) if shared else None
    for places in batches([len(row) for row in rows], batch_tokens):
        part = [rows[place] for place in places]
        marked = [Tokens(list(row[shared:]), _last(len(row) - shared, lengths[row])) for row in part]
        batch = pad_right(marked, pad_id=0).to(device)
        past = copy.deepcopy(begun)
        if past is not None:
            past.batch_repeat_interleave(len(part))
        logits = model(batch.input_ids, batch.response_mask, past=past).float()
        each = torch.split(torch.log_softmax(logits, dim=-1).cpu(), [lengths[row] for row in part])
        yield from zip(part, each, strict=True)


def _begin(model: PolicyModel, ids: Sequence[int], device: torch.device) -> Any:
    """Keys and values of what all rows begin with."""
    from transformers import DynamicCache

    cache = DynamicCache(config=model.model.config)
    model.model.base_model(input_ids=torch.tensor([list(ids)], device=device), past_key_values=cache, use_cache=True)
    return cache


def _last(length: int, count: int) -> list[bool]:
    return [place >= length - count for place in range(length)]


def summarise(replies: Sequence[Reply], shots: int) -> dict[str, Any]:
    """Accuracy with Wilson's intervals: of all questions, by category and by subject; and what did not go as asked.

    A question that could not be asked counts as a wrong answer, and under its reason.
    """
    subjects: dict[str, list[Reply]] = defaultdict(list)
    categories: dict[str, list[Reply]] = defaultdict(list)
    for reply in replies:
        subjects[reply.subject.name].append(reply)
        categories[reply.subject.category].append(reply)
    answered = [reply.logprobs for reply in replies if reply.logprobs is not None]
    average = mean_of_shares([_share(own) for own in subjects.values()]) if subjects else None
    by_subject = {
        name: {"title": own[0].subject.title, "category": own[0].subject.category, **_accuracy(own)} for name, own in subjects.items()
    }
    counts = Counter(reply.reason for reply in replies if reply.reason)
    return {
        **_accuracy(replies),
        "right": sum(reply.right for reply in replies),
        "mean_of_subjects": average and average.value,
        "mean_of_subjects_interval": average and [average.low, average.high],
        "letter_probability": sum(math.exp(p) for four in answered for p in four) / len(answered) if answered else None,
        "too_long": counts["too_long"],
        "letters_alike": counts["letters_alike"],
        "not_a_number": counts["not_a_number"],
        "fewer_shots": sum(reply.shots < min(shots, len(reply.subject.shots)) for reply in replies if not reply.reason),
        "categories": {name: _accuracy(own) for name, own in sorted(categories.items())},
        "subjects": by_subject,
    }


def _accuracy(replies: Sequence[Reply]) -> dict[str, Any]:
    if not replies:
        return {"accuracy": None, "interval": None, "questions": 0}
    estimate = _share(replies)
    return {"accuracy": estimate.value, "interval": [estimate.low, estimate.high], "questions": estimate.count}


def _share(replies: Sequence[Reply]) -> Estimate:
    return wilson(sum(reply.right for reply in replies), len(replies))
