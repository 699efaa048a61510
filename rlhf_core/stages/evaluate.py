"""What each stage changed: answers of every model to the same prompts, judged by rules and by the reward model.

Inputs by role: `KIND:NAME` for every training stage, in the recipe's order (KIND: pretrain, sft, reward, ppo);
`questions`, prompts with a right answer each; `splits`, the artifact with {reward,ppo}/eval.jsonl.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from rlhf_core.chat_template import Chat, load_chat
from rlhf_core.errors import BadInput
from rlhf_core.inputs import Inputs
from rlhf_core.losses import kl_estimate, token_logprobs
from rlhf_core.models import PolicyModel, load_policy, load_scalar, selected_labels
from rlhf_core.records import Record, read_records
from rlhf_core.rewards import RewardModel
from rlhf_core.rollout import Rollout, generate, noise
from rlhf_core.settings import EvaluationSettings, Job
from rlhf_core.text_measures import distinct_n, exact_match, repeats_itself

_ROWS = 128  # answers written at once


@dataclass(frozen=True)
class Answer:
    text: str
    ids: list[int]
    finished: bool


@dataclass
class Writer:
    """A model that answers. The base model has never seen a role mark: it is given the plain question to go on from."""

    name: str
    kind: str
    chat: Chat
    policy: PolicyModel
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    rewards: list[float] = field(default_factory=list)  # of the answers to the set `prompts`

    def encode(self, prompts: list[Record]) -> list[list[int]]:
        if self.kind != "pretrain":
            return self.chat.prompts(prompts)
        plain = self.chat.plain([prompt.turns[-1].text.strip() + "\n" for prompt in prompts])
        return [[self.chat.end_id, *ids] for ids in plain]

    def write(
        self, prompts: list[Record], settings: EvaluationSettings, sampled: bool = False
    ) -> list[Rollout]:
        ids, rollouts = self.encode(prompts), []
        for start in range(0, len(ids), _ROWS):
            part = ids[start : start + _ROWS]
            uniforms = noise(settings.seed, start, len(part), settings.max_new_tokens) if sampled else None
            rollouts.append(
                generate(self.policy.model, self.chat, part, settings.max_new_tokens, 1.0, uniforms)
            )
        return rollouts

    def read(self, rollouts: list[Rollout]) -> list[Answer]:
        return [
            Answer(self.chat.decode(ids), ids, finished)
            for rollout in rollouts
            for ids, finished in zip(rollout.responses(), rollout.finished.tolist(), strict=True)
        ]


def run(job: Job, settings: EvaluationSettings, device: torch.device) -> None:
    inputs = Inputs(job.inputs)
    writers, reward_model = load_models(inputs, device)
    questions = read_records(inputs.path("questions")) if inputs.has("questions") else []
    questions = [record.prompt() for record in questions if record.reference]
    splits = inputs.folder("splits") if inputs.has("splits") else None
    prompts = _eval_records(splits, "ppo")[: settings.max_prompts]
    report: dict[str, Any] = {"questions": len(questions), "prompts": len(prompts), "models": {}}
    for writer in writers:
        for name, records in (("questions", questions), ("prompts", prompts)):
            writer.answers[name] = writer.read(writer.write(records, settings)) if records else []
        report["models"][writer.name] = describe(writer, questions, prompts, settings)
    if reward_model is not None:
        report["reward_model"] = pair_accuracy(
            reward_model, _eval_records(splits, "reward", prompts_only=False)
        )
        for writer in writers:
            if writer.kind != "pretrain" and prompts:
                scores = reward_model.score_texts(
                    prompts,
                    [a.text for a in writer.answers["prompts"]],
                    [a.finished for a in writer.answers["prompts"]],
                )
                report["models"][writer.name]["reward"] = float(scores.mean())
                writer.rewards = scores.tolist()
    compare(report, writers, prompts, settings)
    output = Path(job.output)
    output.mkdir(parents=True, exist_ok=True)
    with (output / "answers.jsonl").open("w", encoding="utf-8") as file:
        for writer in writers:
            for line in answer_lines(writer, {"questions": questions, "prompts": prompts}):
                file.write(json.dumps(_rounded(line), ensure_ascii=False) + "\n")
    with (output / "samples.jsonl").open("w", encoding="utf-8") as file:
        for line in side_by_side(writers, questions, prompts, settings.samples):
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
    text = json.dumps(_rounded(report), ensure_ascii=False, indent=2) + "\n"
    (output / "evaluation.json").write_text(text, encoding="utf-8")
    summary = {name: report[name] for name in ("sft", "ppo", "reward_model") if name in report}
    flat = {f"{part}_{key}": value for part, figures in summary.items() for key, value in figures.items()}
    (output / "summary.json").write_text(json.dumps(_rounded(flat), indent=2) + "\n", encoding="utf-8")


def load_models(inputs: Inputs, device: torch.device) -> tuple[list[Writer], RewardModel | None]:
    """The models that write, in order, and the last reward model."""
    writers: list[Writer] = []
    reward_role: str | None = None
    for role in inputs.roles:
        kind, colon, name = role.partition(":")
        if not colon:
            continue
        if kind == "reward":
            reward_role = role
            continue
        chat = load_chat(inputs.model(role))
        policy = load_policy(inputs.model(role), chat, "fp32").to(device).eval()
        writers.append(Writer(name, kind, chat, policy))
    if not writers:
        raise BadInput("no model to evaluate: the job's inputs have no role KIND:NAME")
    reward_model = None
    if reward_role:
        source = inputs.model(reward_role)
        chat = load_chat(source)
        reward_model = RewardModel(load_scalar(source, chat, "fp32", 0), chat, writers[-1].chat, device)
    return writers, reward_model


def describe(
    writer: Writer, questions: list[Record], prompts: list[Record], settings: EvaluationSettings
) -> dict[str, Any]:
    """Figures of one model's greedy answers."""
    figures: dict[str, Any] = {"kind": writer.kind}
    if questions:
        right = [
            exact_match(a.text, q.reference or "")
            for a, q in zip(writer.answers["questions"], questions, strict=True)
        ]
        figures["exact_match"] = sum(right) / len(right)
        for lang in sorted({q.lang for q in questions if q.lang}):
            own = [r for r, q in zip(right, questions, strict=True) if q.lang == lang]
            figures[f"exact_match_{lang}"] = sum(own) / len(own)
    answers = writer.answers["prompts"] or writer.answers["questions"]
    if answers:
        figures |= {
            "distinct_2": distinct_n([a.ids for a in answers]),
            "length": sum(len(a.ids) for a in answers) / len(answers),
            "finished_share": sum(a.finished for a in answers) / len(answers),
            "repeating_share": sum(repeats_itself(a.ids) for a in answers) / len(answers),
        }
        if settings.preferred_pattern:
            figures["preferred_share"] = sum(_preferred(a, settings) for a in answers) / len(answers)
    return figures


def compare(
    report: dict[str, Any], writers: list[Writer], prompts: list[Record], settings: EvaluationSettings
) -> None:
    """Fill report["sft"] and report["ppo"]: the last policy against the SFT model before it."""
    tuned = [writer for writer in writers if writer.kind == "sft"]
    policies = [writer for writer in writers if writer.kind not in ("pretrain", "sft")]
    models = report["models"]
    if tuned:
        report["sft"] = {"model": tuned[-1].name, "exact_match": models[tuned[-1].name].get("exact_match")}
    if not (tuned and policies):
        return
    sft, policy = tuned[-1], policies[-1]
    result = {"model": policy.name, "exact_match": models[policy.name].get("exact_match")}
    if prompts:
        result |= {
            "win_rate": win_rate(policy.answers["prompts"], sft.answers["prompts"], prompts, settings),
            "reward_before": models[sft.name].get("reward"),
            "reward_after": models[policy.name].get("reward"),
            **policy_kl(policy, sft, prompts, settings),
        }
    report["ppo"] = result


def _preferred(answer: Answer, settings: EvaluationSettings) -> bool:
    return bool(settings.preferred_pattern and re.search(settings.preferred_pattern, answer.text))


def judge(first: Answer, second: Answer, prompt: Record, settings: EvaluationSettings) -> float:
    """1 where the first answer is better, 0 where the second is, 0.5 for a tie. In this order: right (where the
    prompt has a right answer), matching the preferred pattern, finished without repeating itself."""

    def worth(answer: Answer) -> tuple[bool, ...]:
        right = prompt.reference is None or exact_match(answer.text, prompt.reference)
        return (right, _preferred(answer, settings), answer.finished and not repeats_itself(answer.ids))

    one, two = worth(first), worth(second)
    return 0.5 if one == two else float(one > two)


def win_rate(
    policy: Sequence[Answer], other: Sequence[Answer], prompts: list[Record], settings: EvaluationSettings
) -> float:
    """Share of prompts on which the policy is better, ties half, each pair judged in both orders."""
    wins = 0.0
    for mine, theirs, prompt in zip(policy, other, prompts, strict=True):
        wins += 0.5 * (judge(mine, theirs, prompt, settings) + 1 - judge(theirs, mine, prompt, settings))
    return wins / len(prompts)


@torch.no_grad()
def policy_kl(
    policy: Writer, sft: Writer, prompts: list[Record], settings: EvaluationSettings
) -> dict[str, float]:
    """KL(policy || sft) in nats per response, from the policy's sampled answers (temperature 1), and their variety."""
    total, rows, answers = 0.0, 0, []
    if policy.chat.vocab_size != sft.chat.vocab_size:
        return {}
    for rollout in policy.write(prompts, settings, sampled=True):
        batch = rollout.sequences(policy.chat.pad_id).to(rollout.response_mask.device)
        select, labels = selected_labels(batch.input_ids, batch.response_mask)
        ref = token_logprobs(sft.policy(batch.input_ids, select), labels)
        total += float(kl_estimate(rollout.logprobs[rollout.response_mask], ref).sum())
        rows += len(rollout.prompts)
        answers += rollout.responses()
    return {"kl": total / rows, "sampled_distinct_2": distinct_n(answers)}


def pair_accuracy(reward_model: RewardModel, preferences: list[Record]) -> dict[str, Any]:
    """Share of held-out pairs whose better answer has the higher score; equal scores count half."""
    flat = [(record.prompt(), text) for record in preferences for text in record.responses]
    if not flat:
        return {"accuracy": None, "pairs": 0}
    scores = reward_model.score_texts([p for p, _ in flat], [t for _, t in flat], [True] * len(flat)).tolist()
    right, pairs, start = 0.0, 0, 0
    for record in preferences:
        own = scores[start : start + len(record.responses)]
        start += len(own)
        for i in range(len(own)):
            for j in range(i + 1, len(own)):
                right += 1.0 if own[i] > own[j] else 0.5 if own[i] == own[j] else 0.0
                pairs += 1
    return {"accuracy": right / pairs if pairs else None, "pairs": pairs}


def answer_lines(writer: Writer, sets: dict[str, list[Record]]) -> list[dict[str, Any]]:
    """Lines of answers.jsonl: one for each prompt, with the model's greedy answer."""
    lines = []
    for name, records in sets.items():
        rewards = writer.rewards if name == "prompts" and writer.rewards else [None] * len(records)
        for record, answer, reward in zip(records, writer.answers[name], rewards, strict=True):
            lines.append(
                {
                    "id": record.id, "set": name, "lang": record.lang, "prompt": record.turns[-1].text, "reference": record.reference,
                    "model": writer.name, "text": answer.text, "finished": answer.finished, "length": len(answer.ids),
                    "repeating": repeats_itself(answer.ids), "reward": reward,
                }
            )  # fmt: skip
    return lines


def side_by_side(
    writers: list[Writer], questions: list[Record], prompts: list[Record], count: int
) -> list[dict[str, Any]]:
    """Lines {"id", "set", "prompt", "reference", "answers": {model: text}}: half questions, half held-out prompts."""
    lines = []
    for name, records, wanted in (
        ("questions", questions, count - count // 2),
        ("prompts", prompts, count // 2),
    ):
        step = max(1, len(records) // max(1, wanted))
        for i in list(range(0, len(records), step))[:wanted]:
            answers = {writer.name: writer.answers[name][i].text for writer in writers}
            record = records[i]
            lines.append(
                {
                    "id": record.id,
                    "set": name,
                    "lang": record.lang,
                    "prompt": record.turns[-1].text,
                    "reference": record.reference,
                    "answers": answers,
                }
            )
    return lines


def _eval_records(splits: Path | None, part: str, prompts_only: bool = True) -> list[Record]:
    path = splits / part / "eval.jsonl" if splits else None
    if path is None or not path.exists():
        return []
    return [record.prompt() if prompts_only else record for record in read_records(path)]


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.7g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return value
