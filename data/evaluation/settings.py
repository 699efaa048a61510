"""Settings of the judgement: who compares the models' answers, and by what."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from data.instructions.settings import TeacherSettings
from data.settings import FILE, WHERE

JudgeName = Literal["rule", "reward", "teacher"]
Criterion = Literal["instruction", "correctness", "tone"]


class JudgementSettings(TeacherSettings):
    """Answers of two models to the same prompts, compared pair by pair. The fields on teachers are those of judge `teacher`."""

    judges: list[JudgeName] = Field(
        ["rule", "reward"],
        description="Who compares: rule (right, then matching preferred_pattern, then finished without repeating itself), reward (the "
        "recipe's last reward model), teacher (asked in both orders; needs teacher_url with teacher_model, teacher_local, or completions).",
    )
    criteria: list[Criterion] = Field(
        ["instruction", "correctness", "tone"], min_length=1, description="What a teacher is asked about, each apart (PandaLM and MT-Bench ask once for all)."
    )
    baseline: str | None = Field(None, description="The training stage whose model the others are compared with; null = the last SFT stage.")
    sets: list[Literal["prompts", "questions"]] = Field(["prompts"], min_length=1, description="Held-out prompts, or the recipe's questions with answers, or both.")
    preferred_pattern: str | None = Field(None, description="Judge rule: a regular expression that a preferred answer matches; null = evaluation.preferred_pattern.")
    reward_margin: float = Field(0.0, ge=0, description="Judge reward: scores that differ by no more are a tie; in the reward model's unit.")
    max_prompts: int | None = Field(None, ge=1, description="Prompts judged of each set, the first ones; null = all that were answered.")
    give_up_after: int = Field(
        8, ge=1, json_schema_extra=WHERE, description="A teacher that fails so many times in a row is asked no more; what is left is counted as not_asked."
    )
    completions: str | None = Field(
        None, json_schema_extra=FILE, description="Recorded verdicts: a verdicts.jsonl of an earlier judgement, looked up by what is asked; null = none."
    )
    max_tokens: int = Field(64, ge=1, description="Tokens of one verdict at most; more for a teacher that thinks aloud.")
    temperature: float = Field(0.0, ge=0, le=2, description="Sampling temperature of the teacher: a judge is asked for its best guess.")
    sheet: int = Field(50, ge=0, description="Pairs on the sheet for a blind check by a person; 0 = no sheet.")
    seed: int = Field(1, ge=0, description="Draws the sheet's pairs and which answer stands first on it.")

    @model_validator(mode="after")
    def _teacher_is_named(self) -> Self:
        if "teacher" in self.judges and not (self.is_live or self.completions):
            raise ValueError("judges: teacher needs teacher_url with teacher_model, teacher_local, or completions")
        return self
