"""What should worry someone who watches a training run, in plain words, from the figures of its iterations alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Line = Mapping[str, float]

_SPAN = 5  # iterations that are averaged: single rollouts are noisy
_WATCHED = {"reward", "kl", "distinct_2"}  # figures that every iteration with a rollout has
_CLIMB = 0.5  # of the reward, in deviations of the first answers' (about 1 where rewards are normalised; others have any unit)
FALL = 2 / 3  # of distinct-2: LMFlow's hacked run fell from .39 to .22
SPREAD = 0.3, 0.2  # a pattern's share at least, and gained ('#' went from 3% to half of the answers there)
_FAR = 10.0  # nats a response; useful policies of the published runs stay below
_RUNAWAY = 3.0  # times the KL of the span before, once it is above 1 nat


def warnings(lines: Sequence[Line]) -> dict[str, str]:
    """Warnings about a run with these lines of metrics.jsonl, by their kind; none without rollouts.

    cut        answers were too long for a reward's classifier, which scored a part of them
    sameness   the reward climbed while distinct-2 fell (reward hacking)
    pattern    the reward climbed while a watched pattern spread (reward hacking)
    kl         the KL to the start is large, or grows many times over
    """
    found: dict[str, str] = {}
    if cut := _mean(lines, "reward_cut_share"):
        found["cut"] = (
            f"{cut:.1%} of the answers were, with their prompts, too long for the classifier that rewards them: it scored what fits. Set a "
            "smaller max_prompt_length or max_new_tokens, or take a reward model with more positions."
        )
    if len(lines) < 2 * _SPAN or not lines[-1].keys() >= _WATCHED:
        return found
    first, last = lines[:_SPAN], lines[-_SPAN:]
    climbed = _mean(last, "reward") - _mean(first, "reward")
    if climbed > _CLIMB * (_mean(first, "reward_std") or 1.0):
        before, after = _mean(first, "distinct_2"), _mean(last, "distinct_2")
        if after < FALL * before:
            found["sameness"] = (
                f"The reward climbed by {climbed:.1f} while distinct-2 fell from {before:.2f} to {after:.2f}: the answers "
                "grow alike, which pays but may not please (reward hacking). Raise kl_coef, or stop earlier."
            )
        watched = [name for name in lines[-1] if name.startswith("watched_share")]  # of all patterns the commonest, and each
        shares = [(_mean(first, name), _mean(last, name)) for name in watched]
        before, after = max(shares, key=lambda share: share[1] - share[0], default=(0.0, 0.0))
        if after > SPREAD[0] and after - before > SPREAD[1]:
            found["pattern"] = (
                f"The reward climbed by {climbed:.1f} while a watched pattern spread from {before:.0%} to {after:.0%} of "
                "the answers (reward hacking). Give it a penalty: pattern_penalties."
            )
    kl, earlier = _mean(last, "kl"), _mean(lines[-2 * _SPAN : -_SPAN], "kl")
    if kl > _FAR:
        found["kl"] = f"The policy is {kl:.1f} nats a response away from its start. Raise kl_coef or set kl_target."
    elif kl > 1.0 and kl > _RUNAWAY * max(earlier, 0.1):
        found["kl"] = (
            f"The KL runs away: {earlier:.1f} nats a response, {_SPAN} iterations later {kl:.1f}. Lower the learning rate, "
            "raise kl_coef or set kl_target."
        )
    return found


def looked_at(lines: Sequence[Line]) -> list[Line]:
    """Those of the lines that `warnings` looks at, for whoever has no room for all."""
    return list(lines) if len(lines) <= 3 * _SPAN else [*lines[:_SPAN], *lines[-2 * _SPAN :]]


def _mean(lines: Sequence[Line], name: str) -> float:
    values = [line[name] for line in lines if name in line]
    return sum(values) / len(values) if values else 0.0
