"""What each stage changed: every model on the same texts, questions and prompts; answers scored by the last reward model.

Inputs by role: see rlhf_core.settings.Job. One model is loaded at a time, and the SFT model beside the policies that came of it.

Leaves in the job's output
    evaluation.json   figures by model and measure; `problems`: what could not be measured, with counts; `warnings`: hacking watch
    answers.jsonl     {"id", "set", "lang", "prompt", "reference", "model", "text", "finished", "length", "repeating",
                      "reward", "sampled"}; text is null where the prompt did not fit the model
    knowledge.jsonl   one line a model and question; language_model.jsonl, one a model and held-out document
    pairs.jsonl       one line a held-out pair; samples.jsonl, some prompts side by side
    metrics.jsonl     how far the job is
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from rlhf_core.dataset.chat_template import Chat
from rlhf_core.dataset.records import Record
from rlhf_core.evaluation import drift, knowledge, language_model, preferences
from rlhf_core.evaluation.answers import (
    Answer,
    Answers,
    describe,
    describe_sampled,
    exact_matches,
    grouped_mean_figures,
    is_right,
    mean_figures,
    side_by_side,
)
from rlhf_core.evaluation.candidate import Candidate, load_candidate
from rlhf_core.evaluation.material import Material, Problems
from rlhf_core.evaluation.scoring import score_answers
from rlhf_core.job.errors import BadInput
from rlhf_core.job.inputs import Inputs
from rlhf_core.measures.text_measures import repeats_itself
from rlhf_core.rewards.sources import Scorer, load_scorer
from rlhf_core.settings import EvaluationSettings, Job
from rlhf_core.settings.alignment import RewardSource

SETS = ("questions", "prompts")


@dataclass
class Measured:
    """What is kept of a model after it was measured."""

    name: str
    kind: str
    chat: Chat
    figures: dict[str, Any]
    greedy: dict[str, Answers] = field(default_factory=dict)  # by set
    sampled: list[list[Answer | None]] = field(default_factory=list)  # of each sampled prompt
    rewards: dict[str, list[float | None]] = field(default_factory=dict)  # of the greedy answers, by set
    sampled_rewards: list[list[float]] = field(default_factory=list)
    knowledge: list[dict[str, Any]] = field(default_factory=list)  # lines of knowledge.jsonl
    texts: list[language_model.Scored] = field(default_factory=list)


class Evaluation:
    def __init__(self, job: Job, settings: EvaluationSettings, device: torch.device) -> None:
        self.settings, self.device, self.inputs = settings, device, Inputs(job.inputs)
        self.problems = Problems()
        self.material = Material(self.inputs, settings, self.problems)
        self.output = Path(job.output)
        self.output.mkdir(parents=True, exist_ok=True)
        kinds = [(role, role.partition(":")[0]) for role in self.inputs.roles if ":" in role]
        self.roles = [role for role, kind in kinds if kind != "reward"]
        self.reward_role = next((role for role, kind in reversed(kinds) if kind == "reward"), None)
        if not self.roles:
            raise BadInput("no model to evaluate: the job's inputs have no role KIND:NAME")

    def run(self) -> None:
        measured = self.measure_models()
        report: dict[str, Any] = {
            **{name: len(self.material.sets[name]) for name in SETS},
            "models": {one.name: one.figures for one in measured},
            "knowledge": self.material.knowledge_figures(),
        }
        pairs = self.score(measured, report)
        report["drift"] = self.curves(measured)
        report["warnings"] = self.compare(measured, report)
        report["problems"] = self.problems.listed
        self.write(measured, pairs, report)

    def measure_models(self) -> list[Measured]:
        """Every model in turn; the last SFT model stays, for the KL of those after it."""
        reference: Candidate | None = None
        measured = []
        for number, role in enumerate(self.roles):
            candidate = load_candidate(self.inputs, role, self.device, self.settings.precision)
            measured.append(self.measure(candidate, reference))
            if candidate.kind == "sft":
                reference = candidate
            del candidate  # before the next is read
            self._progress(number + 1)
        return measured

    def measure(self, candidate: Candidate, reference: Candidate | None) -> Measured:
        settings, sets = self.settings, self.material.sets
        found = Measured(candidate.name, candidate.kind, candidate.chat, {"kind": candidate.kind})
        if candidate.plain and candidate.kind != "pretrain":
            self.problems.add("answers", candidate.name, "the model has no chat template: it was given the bare prompts to go on from")
        if self.material.texts:
            scored = self._language_model(candidate)
            found.texts = [text for text in scored if math.isfinite(text.nats)]
            self.problems.count("language model", candidate.name, "texts whose probability is no number (broken weights?), left out", len(scored) - len(found.texts))
            found.figures["language_model"] = language_model.summarise(found.texts)
            lossy = sum(text.lossy for text in found.texts)
            self.problems.count("language model", candidate.name, "texts that its tokenizer does not give back: their bits are of less", lossy)
        for one, subjects in self.material.knowledge.items():
            self._ask(candidate, one, subjects, found)
        for name in SETS:
            _, found.greedy[name] = candidate.answer(sets[name], settings.max_new_tokens)
            self.problems.count("answers", candidate.name, f"{name} too long for the model's context", found.greedy[name].count(None))
        if sets["questions"]:
            found.figures |= exact_matches(found.greedy["questions"], sets["questions"])
        found.figures |= describe(found.greedy["prompts"] or found.greedy["questions"], settings.preferred_pattern)
        self._sample(candidate, reference, found)
        return found

    def _language_model(self, candidate: Candidate) -> list[language_model.Scored]:
        settings = self.settings
        window = min(settings.window, candidate.context)
        return language_model.score(
            candidate.policy, candidate.chat.tokenizer, candidate.chat.end_id, self.material.texts, window,
            min(settings.stride or max(1, window // 2), window - 1), settings.batch_tokens, self.device,
        )  # fmt: skip

    def _ask(self, candidate: Candidate, name: str, subjects: list[Any], found: Measured) -> None:
        shots = next(one.shots for one in self.settings.knowledge if one.name == name)
        tokenizer = candidate.chat.tokenizer
        replies = knowledge.ask(candidate.policy, tokenizer, subjects, shots, candidate.context, self.settings.batch_tokens)
        figures = knowledge.summarise(replies, shots)
        found.figures.setdefault("knowledge", {})[name] = figures
        found.knowledge += [{"model": candidate.name, "set": name, **reply.line()} for reply in replies]
        measure = f"knowledge of {name}"
        self.problems.count(measure, candidate.name, "questions too long for the model's context, taken as wrong", figures["too_long"])
        self.problems.count(measure, candidate.name, "questions asked with fewer examples to fit the context", figures["fewer_shots"])
        self.problems.count(measure, candidate.name, "questions whose letters the tokenizer writes alike", figures["letters_alike"])
        self.problems.count(measure, candidate.name, "questions whose letters' probabilities are no numbers (broken weights?), taken as wrong", figures["not_a_number"])

    def _sample(self, candidate: Candidate, reference: Candidate | None, found: Measured) -> None:
        settings, copies = self.settings, self.settings.samples_a_prompt
        prompts = self.material.sets["prompts"][: settings.sampled_prompts]
        if not prompts:
            return
        repeated = [prompt for prompt in prompts for _ in range(copies)]
        rollouts, flat = candidate.answer(repeated, settings.max_new_tokens, settings.seed)
        found.sampled = [flat[i : i + copies] for i in range(0, len(flat), copies)]
        found.figures["sampled"] = describe_sampled(found.sampled, prompts, settings.preferred_pattern)
        if reference is not None and candidate.kind not in ("pretrain", "sft", "other"):
            nats = drift.kl_to(reference, candidate, rollouts)
            found.figures |= grouped_mean_figures("kl", [nats[i : i + copies] for i in range(0, len(nats), copies)])
            if not nats:
                why = f"its vocabulary is not that of {reference.name}" if rollouts else "no prompt leaves room for an answer"
                self.problems.add("kl", candidate.name, why)

    def score(self, measured: list[Measured], report: dict[str, Any]) -> list[preferences.Pair]:
        """Fill in what the last reward model says: of every model's answers, and of the held-out rankings."""
        if self.reward_role is None:
            return []
        source = self.inputs.model(self.reward_role)
        scorer = load_scorer(RewardSource(model=source), source, measured[-1].chat, self.device, self.settings.precision)
        for one in measured:
            for name in SETS:
                one.rewards[name] = self._rewards(one, scorer, self.material.sets[name], one.greedy[name])
            one.figures |= mean_figures("reward", [value for value in one.rewards["prompts"] if value is not None])
            flat = [(prompt, answer) for prompt, own in zip(self.material.sets["prompts"], one.sampled, strict=False) for answer in own]
            if flat:
                scores = self._rewards(one, scorer, [prompt for prompt, _ in flat], [answer for _, answer in flat])
                copies = self.settings.samples_a_prompt
                parts = [scores[i : i + copies] for i in range(0, len(scores), copies)]
                one.sampled_rewards = [[value for value in part if value is not None] for part in parts]
                one.figures["sampled"] |= grouped_mean_figures("reward", one.sampled_rewards)
        pairs, left_out = preferences.score_pairs(scorer, self.material.rankings)
        report["reward_model"] = {"model": self.reward_role.partition(":")[2], **preferences.summarise(pairs)}
        for reason, count in left_out.items():
            self.problems.count("reward model", report["reward_model"]["model"], f"held-out pairs left out: {reason}", count)
        if not pairs:
            self.problems.add("reward model", report["reward_model"]["model"], "no held-out pair: its accuracy was not measured")
        self._progress(len(self.roles) + 1)
        return pairs

    def _rewards(self, one: Measured, scorer: Scorer, prompts: list[Record], answers: Answers) -> list[float | None]:
        scores = score_answers(scorer, prompts, answers)
        unscored = sum(score is None and answer is not None for score, answer in zip(scores, answers, strict=True))
        self.problems.count("reward", one.name, "answers too long for the reward model's context, not scored", unscored)
        return scores

    def curves(self, measured: list[Measured]) -> dict[str, Any]:
        """Reward against KL: of best-of-N by the SFT model, and over each stage's iterations."""
        found: dict[str, Any] = {}
        tuned = [one for one in measured if one.kind == "sft" and one.sampled_rewards]
        if tuned:
            counts = [n for n in (1, 2, 4, 8, 16, 32, 64) if n <= self.settings.samples_a_prompt]
            found["best_of_n"] = {"model": tuned[-1].name, "points": drift.best_of_n(tuned[-1].sampled_rewards, counts)}
        stages = {}
        for role in self.roles:
            if points := drift.curve(Path(self.inputs.roles[role])):
                stages[role.partition(":")[2]] = points
        return {**found, "stages": stages}

    def compare(self, measured: list[Measured], report: dict[str, Any]) -> list[str]:
        """Fill report["sft"] and report["ppo"], the last policy against the SFT model before it; returns the hacking watch's words."""
        tuned = [one for one in measured if one.kind == "sft"]
        policies = [one for one in measured if one.kind not in ("pretrain", "sft", "other")]
        if tuned:
            report["sft"] = {"model": tuned[-1].name, "exact_match": tuned[-1].figures.get("exact_match")}
        if not (tuned and policies):
            return []
        sft, last = tuned[-1], policies[-1]
        report["ppo"] = {"model": last.name, "exact_match": last.figures.get("exact_match")}
        if self.material.sets["prompts"]:
            report["ppo"] |= {
                "reward_before": sft.figures.get("reward"),
                "reward_after": last.figures.get("reward"),
                "kl": last.figures.get("kl"),
                "sampled_distinct_2": last.figures.get("sampled", {}).get("distinct_2"),
            }
        return [text for policy in policies for text in self._hacking(sft, policy)]

    def _hacking(self, sft: Measured, policy: Measured) -> list[str]:
        questions = self.material.sets["questions"]
        both = list(zip(sft.rewards.get("prompts", []), policy.rewards.get("prompts", []), strict=True))
        rewards = [(a, b) for a, b in both if a is not None and b is not None]
        right = [[is_right(a, q) for a, q in zip(one.greedy["questions"], questions, strict=True)] for one in (sft, policy)]
        pattern = self.settings.preferred_pattern
        words = [[drift.unwanted(a.text if a else "", pattern) for a in one.greedy["prompts"]] for one in (sft, policy)]
        if phrase := drift.spread_phrase(words[0], words[1]):
            policy.figures["spread_phrase"] = phrase
        before, after = [a for a, _ in rewards], [b for _, b in rewards]
        return drift.hacking(policy.name, (before, after), (right[0], right[1]), (words[0], words[1]))

    # Files

    def write(self, measured: list[Measured], pairs: list[preferences.Pair], report: dict[str, Any]) -> None:
        _write_lines(self.output / "answers.jsonl", (line for one in measured for line in self._answer_lines(one)))
        _write_lines(self.output / "knowledge.jsonl", (line for one in measured for line in one.knowledge))
        documents = ({"model": one.name, **text.line()} for one in measured for text in one.texts)
        _write_lines(self.output / "language_model.jsonl", documents)
        _write_lines(self.output / "pairs.jsonl", ({**asdict(pair), "right": pair.right} for pair in pairs))
        samples = []
        for name, count in zip(SETS, (self.settings.samples - self.settings.samples // 2, self.settings.samples // 2), strict=True):
            greedy = {one.name: one.greedy[name] for one in measured}
            rewards = {one.name: one.rewards[name] for one in measured if name in one.rewards}
            samples += side_by_side(greedy, self.material.sets[name], name, count, rewards)
        _write_lines(self.output / "samples.jsonl", samples)
        _write_json(self.output / "evaluation.json", report)
        summary = {name: report[name] for name in ("sft", "ppo", "reward_model") if name in report}
        flat = {f"{part}_{key}": value for part, figures in summary.items() for key, value in figures.items()}
        _write_json(self.output / "summary.json", {name: value for name, value in flat.items() if not isinstance(value, dict | list)})

    def _answer_lines(self, one: Measured) -> Iterable[dict[str, Any]]:
        for name in SETS:
            rewards = one.rewards.get(name) or [None] * len(one.greedy[name])
            for place, (prompt, answer) in enumerate(zip(self.material.sets[name], one.greedy[name], strict=True)):
                sampled = one.sampled[place] if name == "prompts" and place < len(one.sampled) else []
                yield {
                    "id": prompt.id,
                    "set": name,
                    "lang": prompt.lang,
                    "prompt": prompt.turns[-1].text,
                    "reference": prompt.reference,
                    "model": one.name,
                    "text": answer.text if answer else None,
                    "finished": answer is not None and answer.finished,
                    "length": len(answer.ids) if answer else 0,
                    "repeating": answer is not None and repeats_itself(answer.ids),
                    "reward": rewards[place],
                    "sampled": [drawn.text for drawn in sampled if drawn],
                }

    def _progress(self, step: int) -> None:
        with (self.output / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "steps": len(self.roles) + 1, "time": round(time.time(), 1)}) + "\n")


def _write_lines(path: Path, lines: Iterable[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(_rounded(line), ensure_ascii=False) + "\n" for line in lines)


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(_rounded(value), ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def _rounded(value: Any) -> Any:
    """Seven significant digits: more would be noise."""
    if isinstance(value, float):
        return float(f"{value:.7g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value
