"""What pretraining, SFT and the reward model share: a batch of examples, a loss, one engine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from torch import Tensor

from rlhf_core.dataset.batches import InOrder, Order, micro_slices, share, total_steps
from rlhf_core.dataset.chat_template import Chat
from rlhf_core.engine import Engine, Ranks
from rlhf_core.job.errors import BadInput
from rlhf_core.settings import DpoStage, RewardStage, SftStage, TrainingStage


def ordered(settings: SftStage | RewardStage | DpoStage, lengths: list[int]) -> Order:
    """How examples of these lengths come: in a seeded order, batches of about one length where the settings ask for it."""
    return Order(len(lengths), settings.batch_size, settings.seed, lengths if settings.length_grouping else None)


class Supervised(ABC):
    """A stage whose step is: take the step's examples, add up their loss, update.

    The loss is divided by what the *whole* batch holds (tokens, prompts), which every rank knows, so neither the
    number of ranks nor the size of a micro-batch changes it. Subclasses: `weigh`, `tokens`, `micro_loss`, `evaluate`.
    """

    def __init__(
        self,
        settings: TrainingStage,
        ranks: Ranks,
        chat: Chat,
        module: Any,
        order: Order | InOrder,
    ) -> None:
        """`order`: of how many examples, and how they come."""
        if not order.size:
            raise BadInput(f"stage {settings.name}: no example is left to train on")
        self.settings, self.ranks, self.chat, self.order = settings, ranks, chat, order
        planned = order.steps if isinstance(order, InOrder) else None
        self.steps = planned or total_steps(order.size, settings.batch_size, settings.epochs, settings.steps)
        rows = -(-settings.batch_size // ranks.world)
        self.micro = min(settings.launch.micro_batch_size or rows, rows)
        self.accumulation = -(-rows // self.micro)
        self.engine = Engine(
            module, settings.optimizer, settings.launch, settings.precision, self.accumulation, ranks
        )

    @property
    def engines(self) -> dict[str, Engine]:
        return {"model": self.engine}

    def begin(self, state: dict[str, Any]) -> None:  # noqa: B027 - nothing to prepare unless a stage says so
        pass

    def state(self) -> dict[str, Any]:
        return {}

    def samples(self) -> list[dict[str, Any]]:
        return []

    @abstractmethod
    def weigh(self, indices: list[int]) -> int:
        """What the loss of these examples is divided by."""

    @abstractmethod
    def tokens(self, indices: list[int]) -> int:
        """How many tokens of these examples the model reads."""

    @abstractmethod
    def micro_loss(self, indices: list[int]) -> tuple[Tensor, dict[str, Any]]:
        """Summed loss of some examples (possibly none) and further sums to report."""

    def figures(self, sums: dict[str, float]) -> dict[str, float]:
        """What is reported of the sums of a step."""
        return {"loss": sums["loss"] / sums["weight"]}

    def step(self, step: int, rate_share: float) -> dict[str, float]:
        lora = self.settings.optimizer.lora
        if lora and lora.from_share and step > round(lora.from_share * self.steps):
            self.engine.begin_lora()
        indices = self.order.batch(step)
        weight = max(1, self.weigh(indices))
        own = share(indices, self.ranks.rank, self.ranks.world)
        sums: dict[str, Any] = {}
        for part in micro_slices(len(own), self.micro, self.accumulation):
            loss, more = self.micro_loss(own[part])
            self.engine.backward(loss / weight)
            for name, value in {"loss": loss.detach(), **more}.items():
                sums[name] = sums.get(name, 0) + value
        rate = self.settings.optimizer.learning_rate * rate_share
        norm = self.engine.step(rate)
        totals = self.ranks.sums(sums) | {"weight": float(weight)}
        return {**self.figures(totals), "learning_rate": rate, "grad_norm": norm, "tokens": self.tokens(indices)}

    def save(self, folder: Path) -> None:
        state = self.engine.full_state()
        if self.ranks.is_main:
            self.engine.module.save(folder, self.chat, state)
