"""The trained networks behind a policy gradient: a policy alone, or with a value model, apart or on its own backbone."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from rlhf_core.dataset.batches import TokenBatch
from rlhf_core.engine import Engine
from rlhf_core.losses import logprobs_and_entropy
from rlhf_core.models import head
from rlhf_core.models.networks import PolicyModel, hidden_at, selected_labels


class Pass:
    """What an actor says of N response tokens, row by row, in nats, each thing computed when it is first asked for: a critic
    apart can be asked and taught, and its activations given back, before the policy's are made. (With gradients, unless whoever
    asks first wants none.)

    likelihood  log-probabilities and entropies, (N,) each, at the sampling temperature
    values      (N,) of the state before each token; None without a critic
    """

    def __init__(self, likelihood: Callable[[], tuple[Tensor, Tensor]], values: Callable[[], Tensor | None]) -> None:
        self._likelihood, self._values = likelihood, values

    @cached_property
    def likelihood(self) -> tuple[Tensor, Tensor]:
        return self._likelihood()

    @cached_property
    def values(self) -> Tensor | None:
        return self._values()


class Actor:
    """A policy without a critic."""

    def __init__(self, policy: Engine) -> None:
        self.policy = policy

    @property
    def engines(self) -> dict[str, Engine]:
        return {"policy": self.policy}

    def __call__(self, batch: TokenBatch, temperature: float) -> Pass:
        """What is said of the response tokens, row by row."""
        select, labels = selected_labels(batch.input_ids, batch.response_mask)
        return Pass(lambda: self.likelihood(batch.input_ids, select, labels, temperature), lambda: self.values(batch))

    def likelihood(
        self, input_ids: Tensor, select: Tensor, labels: Tensor, temperature: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """As `PolicyModel.forward` with labels."""
        logprobs, entropy, *_ = self.policy(input_ids, select, labels, temperature)
        return logprobs, entropy

    def values(self, batch: TokenBatch) -> Tensor | None:
        """(N,) float32, the value of the state before each response token."""
        return None

    def backward(self, loss: Tensor) -> None:
        """Of the policy and one micro-batch; the sum over ranks and micro-batches is the loss of the whole minibatch."""
        self.policy.backward(loss)

    def backward_values(self, loss: Tensor) -> Tensor | float:
        """Of the critic; returns what is left to be added to the policy's loss: all of it, unless the critic learns apart."""
        return loss

    def step(self, rate_share: float) -> dict[str, float]:
        """Update; gradient norms before clipping."""
        return {"grad_norm": self.policy.step(self.rate * rate_share)}

    rate: float = 0.0


class SeparateCritic(Actor):
    """A value model with weights and an optimizer of its own.

    Its values are scale * (what the model says) + offset: a reward model makes a good start only in the unit of the rewards
    that training is given.
    """

    def __init__(self, policy: Engine, value: Engine, value_rate: float) -> None:
        super().__init__(policy)
        self.value, self.value_rate = value, value_rate
        self.scale, self.offset = 1.0, 0.0

    @property
    def engines(self) -> dict[str, Engine]:
        return {"policy": self.policy, "value": self.value}

    def values(self, batch: TokenBatch) -> Tensor | None:
        said: Tensor = self.value(batch.input_ids, _select(batch))
        return said * self.scale + self.offset

    def backward_values(self, loss: Tensor) -> Tensor | float:
        self.value.backward(loss)
        return 0.0

    def step(self, rate_share: float) -> dict[str, float]:
        return super().step(rate_share) | {"value_grad_norm": self.value.step(self.value_rate * rate_share)}


class SharedCritic(Actor):
    """A value head on the policy's last hidden state: one pass, one optimizer."""

    def __call__(self, batch: TokenBatch, temperature: float) -> Pass:
        select, labels = selected_labels(batch.input_ids, batch.response_mask)
        logprobs, entropy, values = self.policy(batch.input_ids, select, labels, temperature)
        return Pass(lambda: (logprobs, entropy), lambda: values)

    def values(self, batch: TokenBatch) -> Tensor | None:
        return self(batch, 1.0).values


class PolicyWithValue(PolicyModel):
    """A causal language model with a value head on its last hidden state. Saved without the head."""

    def __init__(self, model: Any, seed: int) -> None:
        """The head's deviation is 1/sqrt(d+1) (Huang et al. 2024, summarize_from_feedback_details)."""
        super().__init__(model)
        width = model.get_output_embeddings().weight.shape[1]
        self.value = nn.Linear(width, 1)
        generator = torch.Generator().manual_seed(seed)
        self.value.weight.data = torch.randn(1, width, generator=generator) / (width + 1) ** 0.5
        nn.init.zeros_(self.value.bias)

    def forward(  # type: ignore[override]
        self, input_ids: Tensor, select: Tensor, labels: Tensor, temperature: float = 1.0
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(log-probabilities, entropies, values), (N,) float32 each, at the selected positions, row by row."""
        if self._split:
            hidden = hidden_at(self.model, input_ids, select)
            said = self.said(hidden, labels, temperature)
        else:
            output = self.model(input_ids=input_ids, use_cache=False, output_hidden_states=True)
            hidden = output.hidden_states[-1][select]
            said = logprobs_and_entropy(output.logits[select], labels, temperature)
        return *said, head.project(self.value, hidden).squeeze(-1).float()


def _select(batch: TokenBatch) -> Tensor:
    return selected_labels(batch.input_ids, batch.response_mask)[0]
