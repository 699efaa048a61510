"""What to look at first: a run's figures gone through for what should worry a reader, in plain words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rlhf_core.settings import AnyStage
from tasks.reporting.figures import answering

_FEW_KEPT = 0.1  # share of the crawl
_FAR = 10.0  # nats a response; InstructGPT-like runs stay below (Stiennon et al. 2020, figure 5: rewards turn from about 10)
_UNSURE = 0.6  # accuracy of a reward model little better than a coin
_BIASED = 0.65  # share of decided orders that the answer shown first won
_NO_LETTERS = 0.01  # probability of the four letters together, of every model: none of them answers with a letter
_TAX = 1.1  # bits per byte of the last model against the first


def warnings(figures: Mapping[str, Any], stages: Sequence[AnyStage]) -> list[str]:
    """Sentences, the corpus first and then in the order of the stages."""
    found = [*_corpus(figures["corpus"])]
    for stage in stages:
        found += [f"{stage.name}: {text}" for text in _stage(stage, figures[stage.name])]
    found += [*_letters(figures), *_tax(figures, stages), *figures.get("evaluation", {}).get("warnings", []), *_judges(figures.get("judgement", {}), {stage.name: stage.kind for stage in stages})]
    return found + [_problem(one) for one in figures.get("evaluation", {}).get("problems", [])]


def _corpus(corpus: Mapping[str, Any]) -> Iterator[str]:
    if corpus["kept"] < _FEW_KEPT * corpus["documents_in"]:
        worst = max(corpus["dropped"], key=corpus["dropped"].get)
        yield f"Only {corpus['kept']:,} of {corpus['documents_in']:,} documents were kept; most were dropped as {worst}."


def _stage(stage: AnyStage, own: Mapping[str, Any]) -> Iterator[str]:
    yield from own.get("warnings", [])  # what its training said
    if own.get("kl", 0) > _FAR:
        yield f"the policy has moved {own['kl']:.1f} nats a response away from its start; raise kl_coef."
    if own.get("reward_after", 0) < own.get("reward_before", float("-inf")):
        yield f"the reward fell from {own['reward_before']:.2f} to {own['reward_after']:.2f}."
    if stage.kind == "reward" and own.get("accuracy", 1) < _UNSURE:
        yield f"the reward model orders only {own['accuracy']:.0%} of held-out pairs right; what is trained on it means little."


def _tax(figures: Mapping[str, Any], stages: Sequence[AnyStage]) -> Iterator[str]:
    """What alignment cost: held-out text is predicted worse, and known answers are lost beyond what chance explains."""
    names = [stage.name for stage in stages if stage.kind != "reward"]
    first, last = figures[names[0]].get("language_model", {}), figures[names[-1]].get("language_model", {})
    for lang, own in ({"all": last["all"]} if "all" in last else last).items():
        before = first.get(lang, {}).get("bits_per_byte")
        if before and own["bits_per_byte"] > _TAX * before:
            yield f"{names[-1]}: held-out text{'' if lang == 'all' else f' ({lang})'} costs {own['bits_per_byte']:.2f} bits a byte, {before:.2f} with {names[0]}: the alignment tax."
    for name, known in figures[names[-1]].get("knowledge", {}).items():
        before = figures[names[0]].get("knowledge", {}).get(name, {})
        if known.get("interval") and before.get("interval") and known["interval"][1] < before["interval"][0]:
            yield f"{names[-1]}: knowledge ({name}) fell from {before['accuracy']:.0%} to {known['accuracy']:.0%}."


def _letters(figures: Mapping[str, Any]) -> Iterator[str]:
    """Multiple choice that measures nothing but a taste for letters."""
    said: dict[str, list[float]] = {}
    for own in answering(figures).values():
        for name, known in own.get("knowledge", {}).items():
            if known.get("letter_probability") is not None:  # null: no question was answered
                said.setdefault(name, []).append(known["letter_probability"])
    if silent := [name for name, shares in said.items() if max(shares) < _NO_LETTERS]:
        yield f"Knowledge of {', '.join(silent)}: no model answers with a letter (A to D together get under {_NO_LETTERS:.0%} of the probability): these accuracies say little of what it knows."


def _judges(judgement: Mapping[str, Any], kinds: Mapping[str, str]) -> Iterator[str]:
    judges = judgement.get("judges", {})
    for judge, models in judges.items():
        for model, criteria in models.items():
            for criterion, tally in criteria.items():
                name = f"judge {judge}, {model}" + (f", {criterion}" if criterion != "overall" else "")
                if failures := tally["failures"]:
                    total = sum(failures.values()) + tally["wins"] + tally["ties"] + tally["losses"]
                    reasons = ", ".join(f"{count:,} {reason}" for reason, count in failures.items())
                    outcome = "no win rate" if tally["win_rate"] is None else "left out of the win rate"
                    yield f"{name}: {sum(failures.values()):,} of {total:,} comparisons failed ({reasons}); {outcome}."
                first = tally["first_preferred"]
                if judge == "teacher" and first is not None and max(first, 1 - first) > _BIASED:
                    yield f"{name}: in {first:.0%} of the decided orders the answer shown first won; the judge goes by position."
    for model, criteria in judges.get("reward", {}).items():
        for judge in ("rule", "teacher"):
            other = judges.get(judge, {}).get(model, {}).get("overall", {}).get("win_rate")
            own = criteria["overall"]["win_rate"]
            if own and other and own["low"] > 0.5 and other["high"] < 0.5:
                aligned = kinds.get(model) not in (None, "pretrain", "sft")  # the others never saw the reward
                found = "the reward is hacked" if aligned else "the reward model is wrong about such answers"
                yield f"{model}: the reward model prefers it ({own['value']:.0%}) where judge {judge} does not ({other['value']:.0%}): {found}."


def _problem(problem: Mapping[str, Any]) -> str:
    count = f" ({problem['count']:,})" if problem.get("count") else ""
    return f"{problem['measure']}{', ' + problem['model'] if problem.get('model') else ''}: {problem['text']}{count}."
