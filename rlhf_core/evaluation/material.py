"""What the models are measured with: held-out text, multiple choice, questions, prompts, rankings; and what of it is missing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rlhf_core.dataset.records import Record, read_records
from rlhf_core.evaluation.language_model import Text, read_texts
from rlhf_core.evaluation.multiple_choice import LETTERS, SKIPPED, Subject, missing_subjects, read_subjects
from rlhf_core.job.inputs import Inputs
from rlhf_core.settings import EvaluationSettings


@dataclass
class Problems:
    """What could not be measured, or not as asked: {"measure", "model" or null, "text", "count" or null}."""

    listed: list[dict[str, Any]] = field(default_factory=list)

    def add(self, measure: str, model: str | None, text: str, count: int | None = None) -> None:
        self.listed.append({"measure": measure, "model": model, "text": text, "count": count})

    def count(self, measure: str, model: str | None, text: str, count: int) -> None:
        """Where there are any."""
        if count:
            self.add(measure, model, text, count)


class Material:
    """
    sets       "questions" (with a right answer each) and "prompts" (held out from PPO)
    rankings   held-out preferences
    texts      held-out documents
    knowledge  by the name of the set
    """

    def __init__(self, inputs: Inputs, settings: EvaluationSettings, problems: Problems) -> None:
        self.settings, self.problems = settings, problems
        self.sets = {"questions": self._questions(inputs), "prompts": self._split(inputs, "ppo")[: settings.max_prompts]}
        self.sets["prompts"] = [record.prompt() for record in self.sets["prompts"]]
        self.rankings = self._split(inputs, "reward")
        self.texts = self._texts(inputs)
        self.knowledge: dict[str, list[Subject]] = {}
        for one in settings.knowledge:
            subjects = read_subjects(one.layout, inputs.folder(f"knowledge/{one.name}"))
            self.knowledge[one.name] = subjects
            measure = f"knowledge of {one.name}"
            for reason in SKIPPED:
                problems.count(measure, None, f"rows left out: {reason}", sum(subject.skipped[reason] for subject in subjects))
            if missing := missing_subjects(one.layout, subjects):
                named = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
                problems.add(measure, None, f"published subjects that are not in {one.folder}: {named}", len(missing))
            if not any(subject.questions for subject in subjects):
                problems.add(measure, None, "no question that can be asked: it was not measured")
            else:
                problems.count(measure, None, "subjects without a question that can be asked", sum(not subject.questions for subject in subjects))
            few = sum(len(subject.shots) < one.shots for subject in subjects)
            problems.count(measure, None, f"subjects with fewer than {one.shots} examples in dev", few)

    def knowledge_figures(self) -> dict[str, Any]:
        """Of each set: layout, shots, sizes, rows left out by reason, and what guessing would score."""
        return {
            one.name: {
                "layout": one.layout,
                "shots": one.shots,
                "subjects": len(self.knowledge[one.name]),
                "questions": sum(len(subject.questions) for subject in self.knowledge[one.name]),
                "skipped": {
                    reason: count
                    for reason in SKIPPED
                    if (count := sum(subject.skipped[reason] for subject in self.knowledge[one.name]))
                },
                "chance": 1 / len(LETTERS),
            }
            for one in self.settings.knowledge
        }

    def _questions(self, inputs: Inputs) -> list[Record]:
        if not inputs.has("questions"):
            return []
        read = read_records(inputs.path("questions"))
        keyed = [record.prompt() for record in read if record.reference]
        self.problems.count("exact match", None, "questions without a right answer, left out", len(read) - len(keyed))
        if not keyed:
            self.problems.add("exact match", None, "no question with a right answer: it was not measured")
        return keyed

    def _split(self, inputs: Inputs, part: str) -> list[Record]:
        if not inputs.has("splits"):
            return []
        path = inputs.folder("splits") / part / "eval.jsonl"
        records = read_records(path) if path.exists() else []
        if not records:
            what = {"ppo": "prompts: answers were not compared", "reward": "rankings: the reward model was not measured"}[part]
            self.problems.add("answers" if part == "ppo" else "reward model", None, f"{part}/eval.jsonl has no held-out {what}")
        return records

    def _texts(self, inputs: Inputs) -> list[Text]:
        if not inputs.has("corpus") or not self.settings.held_out_share:
            return []
        texts = read_texts(inputs.folder("corpus"), self.settings.held_out_share, self.settings.max_documents)
        if not texts:
            self.problems.add("language model", None, "no document is held out: raise held_out_share and pretraining's eval_share")
        return texts
