"""Who scores answers: a reward model of ours, any sequence classifier of Hugging Face, or a Python function."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from rlhf_core.dataset.batches import TokenBatch, pad_right
from rlhf_core.dataset.chat_template import Chat, Tokens, load_chat
from rlhf_core.dataset.records import Record
from rlhf_core.engine import split_frozen
from rlhf_core.generation.rollout import Rollout
from rlhf_core.job.errors import BadInput, TrainingFailed
from rlhf_core.models.networks import ScalarModel, is_classifier, last_tokens, load_scalar
from rlhf_core.settings import Launch
from rlhf_core.settings.alignment import RewardSource

_ROWS = 64
_BOUNDLESS = 1 << 20  # tokens, of a classifier that names no limit (relative positions)

RewardFunction = Callable[[list[Record], list[str]], Sequence[float]]


class Scorer(ABC):
    """A frozen judge of answers to prompts."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def fits(self, prompts: list[Record], texts: list[str]) -> list[bool]:
        """Which answers can be scored whole."""
        return [True] * len(texts)

    @property
    def cuts(self) -> bool:
        """Whether what does not fit is scored by a part of it, instead of being refused."""
        return False

    @abstractmethod
    def score_texts(self, prompts: list[Record], texts: list[str], finished: list[bool]) -> Tensor:
        """Scores (B,) float32 of answers given as text; `finished` says which of them came to their end."""

    def score_rollout(self, rollout: Rollout, prompts: list[Record], texts: list[str]) -> Tensor:
        """Scores (B,) float32 of the answers of a rollout; `texts` are what they say."""
        return self.score_texts(prompts, texts, rollout.finished.tolist())


def finite(scores: Tensor, name: str) -> Tensor:
    """The scores; TrainingFailed where one is no number: sorted by it, answers would lie in any order."""
    broken = len(scores) - int(scores.isfinite().sum())
    if broken:
        raise TrainingFailed(
            f"{name}: {broken} of {len(scores)} scores are not finite: its training went wrong, or its weights do not bear this precision; "
            "take another"
        )
    return scores


class RewardModel(Scorer):
    """A decoder with a linear score head: a ScalarModel, or one that is split over the ranks (engine.split_frozen). Where its
    vocabulary is not the policy's, answers are handed over as text.

    Its configuration may hold `score_pooling` ("last" or "mean": over the answer's tokens) and `score_shift`, which is
    taken off every score (both written by the reward stage).
    """

    def __init__(self, model: ScalarModel, chat: Chat, policy_chat: Chat | None, device: torch.device) -> None:
        super().__init__(device)
        model.to(device)
        model.eval()
        model.requires_grad_(False)
        self.model, self.chat = model, chat
        self.same_vocabulary = policy_chat is not None and _same(chat, policy_chat)
        self.pooling = getattr(model.model.config, "score_pooling", "last")
        self.shift = float(getattr(model.model.config, "score_shift", 0.0))

    @property
    def positions(self) -> int | None:
        """Tokens that the model has positions for, where its configuration names a limit."""
        return getattr(self.model.model.config, "max_position_embeddings", None)

    def check_length(self, tokens: int) -> None:
        """BadInput where so many tokens do not fit the model's positions."""
        if self.positions and tokens > self.positions:
            raise BadInput(
                f"the reward model {self.chat.source} has {self.positions} positions, and a prompt with its answer may have {tokens} "
                "tokens: smaller max_prompt_length or max_new_tokens, or another reward model"
            )

    @torch.no_grad()
    def score(self, sequences: TokenBatch) -> Tensor:
        """Scores of whole sequences, the answer's tokens marked: (B,) float32 on the device."""
        self.check_length(sequences.input_ids.shape[1])
        parts = [
            sequences.rows(slice(i, i + _ROWS)).to(self.device)
            for i in range(0, len(sequences.lengths), _ROWS)
        ]
        return torch.cat([pooled(self.model, part, self.pooling) for part in parts]) - self.shift

    def score_rollout(self, rollout: Rollout, prompts: list[Record], texts: list[str]) -> Tensor:
        if self.same_vocabulary:
            return self.score(rollout.sequences(self.chat.pad_id))
        return super().score_rollout(rollout, prompts, texts)

    def fits(self, prompts: list[Record], texts: list[str]) -> list[bool]:
        """Whether prompt and answer lie within the model's positions."""
        rows = zip(self.chat.prompts(prompts), self.chat.answers(texts), strict=True)
        return [self.positions is None or len(prompt) + len(answer) <= self.positions for prompt, answer in rows]

    def score_texts(self, prompts: list[Record], texts: list[str], finished: list[bool]) -> Tensor:
        """An answer that did not end is scored without its end token."""
        rows = []
        for prompt, answer, ended in zip(
            self.chat.prompts(prompts), self.chat.answers(texts), finished, strict=True
        ):
            if not ended and self.chat.end_id in answer:
                answer = answer[: answer.index(self.chat.end_id)]
            rows.append(Tokens(prompt + answer, [False] * len(prompt) + [True] * len(answer)))
        return self.score(pad_right(rows, self.chat.pad_id))


def pooled(model: Callable[[Tensor, Tensor], Tensor], batch: TokenBatch, pooling: str) -> Tensor:
    """One score a row (B,): at the last token, or the mean over the answer's tokens. `model` is a ScalarModel, or its
    engine. An answer without tokens scores what its prompt's last token says.
    """
    answer, last = batch.response_mask, last_tokens(batch.lengths, batch.input_ids.shape[1])
    if pooling == "last":
        return model(batch.input_ids, last)
    read = torch.where(answer.any(1, keepdim=True), answer, last)
    scores = torch.zeros(read.shape, device=read.device).masked_scatter(read, model(batch.input_ids, read))
    return scores.sum(1) / read.sum(1)


class TextClassifier(Scorer):
    """Any sequence classifier of transformers: the prompt and the answer as a pair of texts.

    The score is the only label's logit, or, where there are several, the log-odds of the one that is asked for. The prompt is its
    turns, a line break between them, here and wherever rewards are measured; a system prompt is not among them: such classifiers are
    trained on questions with their answers, and it would take the place of both in what they read.
    """

    def __init__(self, source: str, device: torch.device, label: int | None) -> None:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        super().__init__(device)
        try:
            model: Any = AutoModelForSequenceClassification.from_pretrained(source, trust_remote_code=False, use_safetensors=True)
            self.tokenizer: Any = AutoTokenizer.from_pretrained(source)
        except (OSError, ValueError, SafetensorError) as error:
            raise BadInput(f"no classifier can be read from {source}: {error}") from error
        labels = model.config.num_labels
        if (label is None and labels > 1) or (label is not None and label >= labels):
            names = ", ".join(f"{i} {name}" for i, name in sorted(model.config.id2label.items()))
            raise BadInput(
                f"{source} has the labels {names}: name one in the reward's `label` (given: {label})"
            )
        if model.config.pad_token_id is None:  # by which a decoder finds the last token
            model.config.pad_token_id = self.tokenizer.pad_token_id
        self.model, self.label = model.to(device).eval().requires_grad_(False), label
        self.length = min(self.tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", _BOUNDLESS), _BOUNDLESS)

    @property
    def cuts(self) -> bool:
        return True

    def fits(self, prompts: list[Record], texts: list[str]) -> list[bool]:
        """Whether the classifier reads prompt and answer to their ends; `score_texts` cuts what is longer."""
        rows = self.tokenizer(_asked(prompts), texts, split_special_tokens=True, verbose=False)["input_ids"]
        return [len(ids) <= self.length for ids in rows]

    @torch.no_grad()
    def score_texts(self, prompts: list[Record], texts: list[str], finished: list[bool]) -> Tensor:
        asked = _asked(prompts)
        found, size = [], _ROWS if self.tokenizer.pad_token else 1  # without a pad token an answer at a time
        for start in range(0, len(texts), size):
            rows = slice(start, start + size)
            batch = self.tokenizer(
                asked[rows], texts[rows], padding=size > 1, truncation=True, max_length=self.length,
                split_special_tokens=True, return_tensors="pt",
            ).to(self.device)  # fmt: skip
            found.append(self._scores(self.model(**batch).logits.float()))
        return torch.cat(found)

    def _scores(self, logits: Tensor) -> Tensor:
        if self.label is None or logits.shape[1] == 1:
            return logits[:, 0]
        others = [i for i in range(logits.shape[1]) if i != self.label]
        return logits[:, self.label] - logits[:, others].logsumexp(1)


def _asked(prompts: list[Record]) -> list[str]:
    return ["\n".join(turn.text for turn in prompt.turns) for prompt in prompts]


class FunctionReward(Scorer):
    """A Python function `module:function` of prompts and answers."""

    def __init__(self, name: str, device: torch.device) -> None:
        super().__init__(device)
        self.name, self.function = name, _imported(name)

    def score_texts(self, prompts: list[Record], texts: list[str], finished: list[bool]) -> Tensor:
        returned = self.function(prompts, texts)  # what it raises is for its author: the traceback goes to the log
        expected = f"reward {self.name}: {len(texts)} finite numbers were expected, one an answer"
        if isinstance(returned, str | bytes | Mapping | Set):  # their letters or keys would be taken for the numbers
            raise BadInput(f"{expected}; it returned a {type(returned).__name__}: {str(returned)[:100]}")
        try:
            values = [float(_no_text(value)) for value in returned]
            scores = torch.tensor(values, dtype=torch.float32)
        except (TypeError, ValueError, OverflowError) as error:
            raise BadInput(f"{expected}; it returned {str(returned)[:100]}: {error}") from error
        if len(scores) != len(texts) or not bool(scores.isfinite().all()):
            raise BadInput(f"{expected}; it returned {len(values)}: {values[:4]} (in float32: {scores[:4].tolist()})")
        return scores.to(self.device)


def _no_text(value: Any) -> Any:
    """The value; TypeError for text, which float() would read."""
    if isinstance(value, str | bytes):
        raise TypeError(f"{value!r} is text")
    return value


def _imported(name: str) -> RewardFunction:
    module, _, function = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise BadInput(
            f"reward {name}: {error}; the module must be importable from the working directory"
        ) from error
    if not callable(found):
        raise BadInput(f"reward {name} is no function")
    function_found: RewardFunction = found
    return function_found


def load_scorer(
    source: RewardSource,
    model: str | None,
    policy_chat: Chat | None,
    device: torch.device,
    precision: str,
    launch: Launch | None = None,
) -> Scorer:
    """The scorer of one reward of a recipe; `model` is its folder or hub name, where it is a model. Under ZeRO-3 a reward
    model is split over the ranks (a classifier of another kind is not), and all of them must ask it equally often."""
    if source.function is not None:
        return FunctionReward(source.function, device)
    assert model is not None
    if not is_classifier(model):  # transformers would give it an untrained head and go on
        raise BadInput(f"{model} is no reward model: its config.json names no sequence classifier")
    if source.label is not None or not _has_linear_score(model):
        return TextClassifier(model, device, source.label)
    chat = load_chat(model)

    def read() -> ScalarModel:
        return load_scalar(model, chat, precision, 0)

    scalar = split_frozen(read, launch, precision, device) if launch and launch.zero_stage == 3 else read()
    return RewardModel(scalar, chat, policy_chat, device)


def _has_linear_score(source: str) -> bool:
    """Whether a classifier is a decoder with one linear score."""
    from transformers import AutoConfig, AutoModelForSequenceClassification

    factory: Any = AutoModelForSequenceClassification
    config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    with torch.device("meta"):
        model = factory.from_config(config)
    return isinstance(getattr(model, "score", None), torch.nn.Linear) and config.num_labels == 1


def _same(a: Chat, b: Chat) -> bool:
    if a.tokenizer.chat_template != b.tokenizer.chat_template or a.end_id != b.end_id:
        return False
    mine: Any = a.tokenizer.get_vocab()
    return bool(mine == b.tokenizer.get_vocab())
