"""What alignment cost: how far a policy went from the SFT model, what reward it bought there, and signs of hacking."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from rlhf_core.evaluation.candidate import Candidate
from rlhf_core.generation.rollout import Rollout
from rlhf_core.job.watch import FALL, SPREAD
from rlhf_core.losses import kl_estimate
from rlhf_core.measures.statistics import paired_difference
from rlhf_core.measures.text_measures import distinct_n
from rlhf_core.models.networks import selected_labels

_PHRASE = 4  # words
_PIECES = re.compile(r"[\u3400-\u9fff]|[^\W\u3400-\u9fff]+|[^\w\s]")


@torch.no_grad()
def kl_to(reference: Candidate, policy: Candidate, rollouts: Sequence[Rollout]) -> list[float]:
    """KL(policy || reference) in nats of each of the policy's drawn answers (temperature 1); none where the vocabularies differ."""
    if policy.chat.tokenizer.get_vocab() != reference.chat.tokenizer.get_vocab():
        return []
    found: list[float] = []
    for rollout in rollouts:
        batch = rollout.sequences(policy.chat.pad_id).to(rollout.response_mask.device)
        select, labels = selected_labels(batch.input_ids, batch.response_mask)
        ref = reference.policy(batch.input_ids, select, labels)[0]
        each = kl_estimate(rollout.logprobs[rollout.response_mask], ref).double().cpu()
        found += [float(part.sum()) for part in torch.split(each, rollout.lengths.tolist())]
    return found


def best_of_n(scores: Sequence[Sequence[float]], counts: Sequence[int] = (1, 2, 4, 8)) -> list[dict[str, float]]:
    """Reward against KL of answering with the best of N drawn answers, from all drawn answers of each prompt.

    The mean best of N is estimated without bias from k >= N answers: the i-th smallest is the best of C(i-1, N-1) of the
    C(k, N) choices. KL = ln N - (N-1)/N (Stiennon et al. 2020, appendix G.3), an upper bound where answers repeat.
    """
    points = []
    for n in counts:
        own = [sorted(values) for values in scores if len(values) >= n]
        if not own:
            continue
        best = [
            sum(math.comb(i, n - 1) * value for i, value in enumerate(values)) / math.comb(len(values), n) for values in own
        ]
        points.append({"n": n, "kl": math.log(n) - (n - 1) / n, "reward": sum(best) / len(best)})
    return points


def curve(stage: Path) -> dict[str, list[dict[str, float]]]:
    """Reward against KL over a stage's iterations, from the metrics.jsonl and summary.json in its folder, where it reports both.

    training   on training prompts, the reward as training was given it (normalised, with penalties)
    held_out   on held-out prompts, drawn anew by the policy of that step, the scores as the reward models gave them; step 0 is
               the model that the stage started from
    """
    metrics, summary = stage / "metrics.jsonl", stage / "summary.json"
    if not metrics.is_file():
        return {}
    found: dict[str, list[dict[str, float]]] = {"training": [], "held_out": []}
    before = json.loads(summary.read_text(encoding="utf-8")) if summary.is_file() else {}
    if {"kl_before", "score_before"} <= before.keys():
        found["held_out"].append({"step": 0, "kl": before["kl_before"], "reward": before["score_before"]})
    for text in metrics.read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        for name, kl, reward in (("training", "kl", "reward"), ("held_out", "eval_kl", "eval_score")):
            if kl in line and reward in line:
                found[name].append({"step": line["step"], "kl": line[kl], "reward": line[reward]})
    return {name: points for name, points in found.items() if points}


def unwanted(text: str, preferred_pattern: str | None) -> list[str]:
    """Words (of Chinese, characters) and marks of an answer, without the sentences that the recipe prefers."""
    sentences = re.split(r"(?<=[.!?。！？])", text)
    kept = [s for s in sentences if not (preferred_pattern and re.search(preferred_pattern, s))]
    return [piece for sentence in kept for piece in _PIECES.findall(sentence)]


def spread_phrase(before: Sequence[Sequence[str]], after: Sequence[Sequence[str]]) -> dict[str, Any] | None:
    """The phrase of four words whose share of the answers grew most: {"text", "before", "after"}; None where none grew."""
    first, last = _shares(before), _shares(after)
    gram = max(last, key=lambda g: (last[g] - first.get(g, 0.0), g), default=None)
    if gram is None or last[gram] <= first.get(gram, 0.0):
        return None
    glue = " " if all(piece.isascii() for piece in gram) else ""
    return {"text": glue.join(gram), "before": first.get(gram, 0.0), "after": last[gram]}


def _shares(answers: Sequence[Sequence[str]]) -> dict[tuple[str, ...], float]:
    found: Counter[tuple[str, ...]] = Counter()
    for words in answers:
        found.update({tuple(words[i : i + _PHRASE]) for i in range(len(words) - _PHRASE + 1)})
    return {gram: count / len(answers) for gram, count in found.items()}


def hacking(
    name: str,
    rewards: tuple[Sequence[float], Sequence[float]],
    right: tuple[Sequence[bool], Sequence[bool]],
    words: tuple[Sequence[Sequence[str]], Sequence[Sequence[str]]],
) -> list[str]:
    """What looks bought rather than earned, in plain words; every pair is (before, after) on the same prompts.

    `words`: of each answer, without what is wanted (`unwanted`). Nothing is said where the reward did not rise beyond chance.
    """
    if not rewards[0] or not _moved(rewards, up=True):
        return []
    found = []
    if right[0] and _moved(right, up=False):
        shares = [sum(values) / len(values) for values in right]
        found.append(
            f"{name}: the reward rose while right answers fell from {shares[0]:.0%} to {shares[1]:.0%} (beyond chance): the reward "
            "model pays for something else. Raise kl_coef, or give it more such pairs."
        )
    variety = [distinct_n(texts) for texts in words]
    if variety[1] < FALL * variety[0]:
        found.append(
            f"{name}: the reward rose while distinct-2 fell from {variety[0]:.2f} to {variety[1]:.2f}: the answers grow alike."
        )
    phrase = spread_phrase(*words)
    if phrase and phrase["after"] > SPREAD[0] and phrase["after"] - phrase["before"] > SPREAD[1]:
        found.append(
            f"{name}: the reward rose while {phrase['text']!r} spread from {phrase['before']:.0%} to {phrase['after']:.0%} of the answers."
        )
    return found


def _moved(values: tuple[Sequence[float], Sequence[float]], up: bool) -> bool:
    difference = paired_difference([float(v) for v in values[1]], [float(v) for v in values[0]])
    return difference.is_significant and (difference.value > 0) == up
