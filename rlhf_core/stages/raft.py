"""Fine-tuning on one's own best answers: RAFT (Dong et al. 2023), and best-of-N with a pool of all earlier policies.

One iteration: K answers to each prompt of the batch, scored; those that are kept are learned like SFT data, the mean
over their tokens. Which are kept is decided over all ranks, so nothing depends on their number.
"""

from __future__ import annotations

from typing import Any

from rlhf_core.dataset.batches import micro_slices, pad_right
from rlhf_core.dataset.chat_template import Tokens
from rlhf_core.engine import Ranks
from rlhf_core.job.inputs import Inputs
from rlhf_core.models.networks import selected_labels
from rlhf_core.settings import BestOfNStage, RaftStage
from rlhf_core.stages.answers import Answers
from rlhf_core.stages.on_policy import OnPolicy

Scored = tuple[int, list[int], float]  # place of the prompt, token ids of the answer, score


class Raft(OnPolicy):
    settings: RaftStage | BestOfNStage

    def step(self, step: int, rate_share: float) -> dict[str, float]:
        settings = self.settings
        answers = self.roll(step)
        everyone = self._everyone(answers)
        kept = self.keep(everyone, step)
        rows = [self._tokens(place, ids) for place, ids, _ in kept]
        sums: dict[str, Any] = {}
        norm = 0.0
        for _ in range(settings.passes):
            more, found = self._learn(rows, settings.optimizer.learning_rate * rate_share)
            norm += found / settings.passes
            for name, value in more.items():
                sums[name] = sums.get(name, 0.0) + value
        totals = {name: value / settings.passes for name, value in self.ranks.sums(sums).items()}
        return {
            **totals,
            **self.figures(answers),
            "kept_reward": sum(score for _, _, score in kept) / len(kept),
            "kept": float(len(kept)),
            "grad_norm": norm,
            "learning_rate": settings.optimizer.learning_rate * rate_share,
        }

    def keep(self, answers: list[Scored], step: int) -> list[Scored]:
        """Of all ranks' answers, rows of one prompt together: those to learn from."""
        assert isinstance(self.settings, RaftStage)
        k = self.settings.samples
        if self.settings.select == "top":
            return sorted(answers, key=lambda answer: -answer[2])[: len(answers) // k]
        return [_best(answers[i : i + k]) for i in range(0, len(answers), k)]

    def _everyone(self, answers: Answers) -> list[Scored]:
        """All ranks' answers in the order of the batch."""
        own = list(
            zip(answers.places, answers.rollout.responses(), answers.scores.tolist(), strict=True)
        )
        k = self.samples_a_prompt
        parts = self.ranks.gather([own[i : i + k] for i in range(0, len(own), k)])
        groups = [group for row in zip(*parts, strict=True) for group in row]
        return [answer for group in groups for answer in group]

    def _tokens(self, place: int, ids: list[int]) -> Tokens:
        prompt = self.prompts[place][1]
        return Tokens(prompt + ids, [False] * len(prompt) + [True] * len(ids))

    def _learn(self, rows: list[Tokens], rate: float) -> tuple[dict[str, Any], float]:
        """One update on the rows, this rank's part of them."""
        tokens = sum(sum(row.mask) for row in rows)
        own = rows[self.ranks.rank :: self.ranks.world]
        micro = self._fitting(len(rows))
        sums: dict[str, Any] = {"loss": 0.0, "entropy": 0.0}
        for part in micro_slices(len(own), micro, self.accumulation):
            batch = pad_right(own[part], self.chat.pad_id).to(self.ranks.device)
            select, labels = selected_labels(batch.input_ids, batch.response_mask)
            logprobs, entropy = self.policy(batch.input_ids, select, labels)
            loss = -logprobs.sum() / tokens
            self.policy.backward(loss)
            sums["loss"] += loss.detach()
            sums["entropy"] += entropy.sum().detach() / tokens
        return sums, self.policy.step(rate)

    def _fitting(self, rows: int) -> int:
        """Rows of a micro-batch such that `accumulation` of them, the same on all ranks, hold a rank's part. No more than of a whole
        rollout: never are more kept."""
        a_rank = -(-rows // self.ranks.world)
        return max(1, -(-a_rank // self.accumulation))


class BestOfN(Raft):
    """The pool keeps, of every prompt, the best answers that any policy so far has given; each iteration learns those
    of its prompts."""

    settings: BestOfNStage

    def __init__(self, settings: BestOfNStage, inputs: Inputs, ranks: Ranks) -> None:
        super().__init__(settings, inputs, ranks)
        self.pool: dict[int, list[Scored]] = {}

    def keep(self, answers: list[Scored], step: int) -> list[Scored]:
        asked = dict.fromkeys(place for place, _, _ in answers)
        for place, ids, score in answers:
            known = self.pool.setdefault(place, [])
            if all(ids != other for _, other, _ in known):
                known.append((place, ids, score))
        for place in asked:
            self.pool[place] = sorted(self.pool[place], key=lambda answer: -answer[2])[: self.settings.keep]
        return [answer for place in asked for answer in self.pool[place]]

    def begin(self, state: dict[str, Any]) -> None:
        super().begin(state)
        for place, ids, score in state.get("pool", []):
            self.pool.setdefault(place, []).append((place, ids, score))

    def state(self) -> dict[str, Any]:
        return super().state() | {"pool": [answer for known in self.pool.values() for answer in known]}

    def summary(self, last: dict[str, float]) -> dict[str, Any]:
        best = [known[0][2] for known in self.pool.values()]
        return super().summary(last) | {"pool": len(best), "pool_reward": sum(best) / max(len(best), 1)}


def _best(answers: list[Scored]) -> Scored:
    return max(answers, key=lambda answer: answer[2])
