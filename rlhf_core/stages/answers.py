"""The answers of one iteration, and what is reported of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from rlhf_core.dataset.records import Record
from rlhf_core.engine import Ranks
from rlhf_core.generation.rollout import Rollout
from rlhf_core.measures.text_measures import commonest_share, distinct_n
from rlhf_core.rewards.scoring import Scoring

_SAMPLES = 2
_NOISE = 1e-5  # nats; a policy that is still its reference has estimates of either sign below this


@dataclass(frozen=True)
class Answers:
    """One rank's part of a rollout, rows of one prompt together.

    records  the prompts, one a row
    places   (B,) their places in the stage's list of prompts
    rollout  the answers
    texts    their texts, up to a role mark
    raw      (B, rewards) float32
    scores   (B,) float32, what training is given
    """

    records: list[Record]
    places: list[int]
    rollout: Rollout
    texts: list[str]
    raw: Tensor
    scores: Tensor


def answer_figures(answers: Answers, kl: Tensor, scoring: Scoring, watched_patterns: list[str], ranks: Ranks) -> dict[str, float]:
    """What every kind reports of a rollout, over all ranks. Lengths are in tokens, KL in nats a response; kl (B, T) are the
    log-ratios to the reference, 0 outside the mask."""
    rollout = answers.rollout
    apart = scoring.apart(answers.raw) | scoring.cut_count(answers.records, answers.texts)
    sums: dict[str, Any] = apart | {
        "rows": len(answers.scores),
        "tokens": rollout.response_mask.sum(),
        "reward": answers.scores.sum(),
        "squares": answers.scores.double().square().sum(),
        "raw": scoring.combined(answers.raw).sum(),
        "kl": kl.sum(),
        "negative": ((kl < -_NOISE) & rollout.response_mask).sum(),
        "finished": rollout.finished.sum(),
    }
    for number, pattern in enumerate(watched_patterns):
        sums[f"watched_{number}"] = sum(bool(re.search(pattern, text)) for text in answers.texts)
    totals = ranks.sums(sums)
    rows, tokens = totals["rows"], max(totals["tokens"], 1)
    ids = [answer for part in ranks.gather(rollout.responses()) for answer in part]
    watched = [totals[f"watched_{number}"] / rows for number in range(len(watched_patterns))]
    return {
        "reward": totals["reward"] / rows,
        "reward_std": max(totals["squares"] / rows - (totals["reward"] / rows) ** 2, 0.0) ** 0.5,
        "reward_unclipped": totals["raw"] / rows,
        "kl": totals["kl"] / rows,
        "negative_kl_share": totals["negative"] / tokens,
        "length": totals["tokens"] / rows,
        "finished_share": totals["finished"] / rows,
        "distinct_2": distinct_n(ids),
        "phrase_share": commonest_share(ids),
        **({"watched_share": max(watched)} if watched else {}),
        **({f"watched_share_{number}": share for number, share in enumerate(watched, 1)} if len(watched) > 1 else {}),
        **{name: totals[name] / rows for name in apart},
        "tokens": totals["tokens"],
    }


def sample_lines(answers: Answers) -> list[dict[str, Any]]:
    """The first of this rank's answers, as samples.jsonl has them."""
    rows = zip(answers.records, answers.texts, answers.scores.tolist(), strict=True)
    return [
        {"id": record.id, "prompt": record.turns[-1].text, "response": text, "reward": round(score, 4)}
        for record, text, score in list(rows)[:_SAMPLES]
    ]
