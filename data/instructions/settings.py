"""Settings of the instruction half's stages. What WHERE and FILE mean is said in data/settings.py."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from data.settings import FILE, WHERE, Settings


class TeacherSettings(Settings):
    """Who writes or judges: recorded completions, an OpenAI-compatible server, or a local model that the stage serves itself."""

    completions: str | None = Field(None, description="Recorded completions (JSONL), replayed in order; null = the bundled ones.", json_schema_extra=FILE)
    teacher_url: str | None = Field(
        None, pattern=r"^https?://[^\s@?#]+$", json_schema_extra=WHERE,
        description="Base URL of an OpenAI-compatible server (http://localhost:8000/v1) that is asked instead of the recorded "
        "completions; no user, password or query in it.",
    )
    teacher_model: str | None = Field(None, description="Name of the model, as the teacher's server knows it; needed with teacher_url.")
    teacher_local: str | None = Field(
        None, json_schema_extra=FILE,
        description="A model folder that `transformers serve` serves on loopback while the stage runs, instead of teacher_url (extra `serve`).",
    )
    teacher_key_variable: str = Field(
        "TEACHER_API_KEY", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", json_schema_extra=WHERE,
        description="Environment variable that holds the teacher's key; an unset one means no key. Never the key itself.",
    )
    teacher_request: dict[str, Any] = Field(
        default_factory=dict,
        description="More fields of every request's body (chat_template_kwargs: {enable_thinking: false}); null leaves out one that the "
        "server refuses (seed, temperature, max_tokens). Kept with the artifact: no place for a key.",
    )
    teacher_timeout_seconds: float = Field(120.0, gt=0, description="One request, from sending to the last byte.", json_schema_extra=WHERE)
    teacher_retries: int = Field(
        5, ge=0, description="Further tries of a request after 429, 5xx, a time-out or a broken answer, with back-off.", json_schema_extra=WHERE
    )
    teacher_concurrency: int = Field(4, ge=1, le=256, description="Requests in flight at most.", json_schema_extra=WHERE)
    price_prompt: float = Field(0.0, ge=0, description="Price of a million prompt tokens, in your currency; for the reported cost.", json_schema_extra=WHERE)
    price_completion: float = Field(0.0, ge=0, description="Price of a million completion tokens, in the same currency.", json_schema_extra=WHERE)
    max_tokens: int = Field(2048, ge=16, description="Tokens of one completion at most (Alpaca: 3072).")
    temperature: float = Field(0.7, ge=0, le=2, description="Sampling temperature of the teacher (Self-Instruct: 0.7; Alpaca: 1.0).")

    @property
    def is_live(self) -> bool:
        """True where a model is asked, False where completions are replayed."""
        return self.teacher_url is not None or self.teacher_local is not None

    @model_validator(mode="after")
    def _one_teacher(self) -> Self:
        if self.teacher_url is not None and not self.teacher_model:
            raise ValueError("teacher_url needs teacher_model")
        if self.teacher_url is not None and self.teacher_local is not None:
            raise ValueError("give teacher_url or teacher_local, not both")
        return self


class WritingSettings(TeacherSettings):
    """What a written instruction must be like to be kept."""

    max_rouge_l: float = Field(0.7, gt=0, le=1, description="Novelty: an instruction this close to the pool is dropped (Self-Instruct: 0.7).")
    min_words: int = Field(4, ge=1, description="Words, or Chinese characters, of an instruction at least (Self-Instruct: more than 3).")
    max_words: int = Field(150, ge=1, description="Words, or Chinese characters, at most (Self-Instruct: 150).")
    blocked_words: list[str] = Field(default_factory=list, description="More words that a text model cannot serve (image, graph, ...).")
    languages: list[Literal["en", "zh"]] = Field(["en", "zh"], min_length=1, description="Languages asked for, in turn; others are dropped.")
    tasks_per_call: int = Field(10, ge=1, le=50, description="New tasks asked for in one call (BELLE: 10; Alpaca: 20 in all).")
    seed: int = Field(1, ge=0, description="Draws the exemplars of every prompt.")


class SelfInstructSettings(WritingSettings):
    """New tasks from seed tasks, written by a teacher (Wang et al. 2023)."""

    max_calls: int | None = Field(None, ge=1, description="Calls for new tasks at most; null = until target, or until the teacher has no more.")
    max_idle_calls: int = Field(20, ge=1, description="Stop after this many calls in a row that gave nothing new.")
    calls_at_once: int = Field(
        1, ge=1, le=256, description="Calls for new tasks whose prompts are drawn from the same pool, so that they can be asked together."
    )
    exemplars_human: int = Field(6, ge=1, description="Human-written exemplars in a prompt (Self-Instruct: 6).")
    exemplars_generated: int = Field(2, ge=0, description="Generated exemplars in a prompt (Self-Instruct: 2).")
    instances: Literal["in_list", "missing", "apart"] = Field(
        "in_list",
        description="Where inputs and outputs come from: the list of new tasks (Alpaca, BELLE); for tasks that came without, a second "
        "call (missing); always a call of their own, classification tasks by their label first (Self-Instruct: apart).",
    )
    max_instances: int = Field(5, ge=1, le=20, description="Instances of one task that are kept, where they have a call of their own (Self-Instruct: 5).")
    target: int | None = Field(None, ge=1, description="Stop at this many accepted instructions; null = when the teacher has no more.")

    @model_validator(mode="after")
    def _teacher_is_bounded(self) -> Self:
        if self.is_live and self.target is None and self.max_calls is None:
            raise ValueError("teacher_url and teacher_local need target or max_calls: a model never has no more to say")
        return self


class TopicSettings(WritingSettings):
    """Instructions about the topics of a set of questions or documents."""

    embedder_url: str | None = Field(
        None, pattern=r"^https?://[^\s@?#]+$", json_schema_extra=WHERE,
        description="Base URL of an OpenAI-compatible server of embeddings (http://localhost:8001/v1); null = TF-IDF vectors, made here.",
    )
    embedder_model: str | None = Field(None, description="Name of the embedding model, as that server knows it; needed with embedder_url.")
    embedder_key_variable: str = Field(
        "EMBEDDER_API_KEY", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", json_schema_extra=WHERE,
        description="Environment variable that holds the embedding server's key; an unset one means no key. Never the key itself.",
    )
    method: Literal["kmeans", "dbscan"] = Field("kmeans", description="How the texts' vectors are clustered.")
    topics: int | None = Field(None, ge=1, description="Topics of k-means; null = the square root of half the texts (Mardia et al. 1979).")
    max_distance: float = Field(0.6, gt=0, le=2, description="DBSCAN: cosine distance within which texts are neighbours.")
    min_texts: int = Field(3, ge=1, description="Texts of a topic at least; texts of smaller ones are left out and counted.")
    phrases: int = Field(8, ge=1, description="Key phrases of a topic that the prompt names.")
    patterns: int = Field(4, ge=0, description="Typical sentence patterns of a topic that the prompt names.")
    examples: int = Field(4, ge=1, description="Texts of the topic, nearest to its centre first, that the prompt quotes.")
    calls_per_topic: int = Field(1, ge=1, description="Calls of the teacher for one topic.")
    answer_questions: bool = Field(True, description="Let the teacher also answer the questions themselves.")
    max_jaccard: float = Field(
        0.8, gt=0, le=1, description="Instructions that share so many of their shingles with a kept one are near-duplicates (the corpus half's deduplication)."
    )

    @model_validator(mode="after")
    def _embedder_is_whole(self) -> Self:
        if (self.embedder_url is None) != (self.embedder_model is None):
            raise ValueError("give embedder_url and embedder_model, or neither")
        return self


class SampleSettings(TeacherSettings):
    """Responses sampled from a model, to be ranked: here the teacher is that model."""

    responses: int = Field(4, ge=2, le=16, description="Responses sampled for one prompt (InstructGPT: 4 to 9).")
    max_prompts: int | None = Field(None, ge=1, description="Prompts that are answered, the first of the file; null = all.")
    max_tokens: int = Field(512, ge=1, description="Tokens of one response at most; a longer one is left out.")
    temperature: float = Field(1.0, gt=0, le=2, description="Sampling temperature of the responses.")


class JudgeSettings(TeacherSettings):
    """Sampled responses ranked by a teacher, or by a reward model's scores (answer_scoring), and then without a teacher."""

    swap: bool = Field(True, description="Judge every pair in both orders and count only what agrees (position bias: Zheng et al. 2023).")
    min_margin: float = Field(
        0.0, ge=0, description="Responses whose scores differ by no more are equal; of equals the first is kept. A teacher's scores are "
        "shares of comparisons won (0 to 1), a reward model's its own."
    )
    max_tokens: int = Field(16, ge=1, description="Tokens of one verdict at most; a judge that thinks aloud needs more.")
    temperature: float = Field(0.0, ge=0, le=2, description="Sampling temperature of the verdicts.")


class SplitSettings(Settings):
    """Which prompts go to which training step, and which are held out."""

    shares: str = Field("2,4,4", pattern=r"^\d+(\.\d+)?(,\d+(\.\d+)?){2}$", description="Shares of SFT, reward model and PPO prompts.")
    eval_share: float = Field(0.1, ge=0, lt=1, description="Share of each step's prompts held out for its evaluation.")
    near_duplicates: float | None = Field(
        0.8, gt=0, le=1,
        description="Prompts whose character shingles have at least this Jaccard similarity stand on the same side of train and eval; null = "
        "only prompts that differ in case, spacing, punctuation or width.",
    )
    max_prompt_words: int | None = Field(
        None, ge=1,
        description="PPO prompts with more words, or Chinese characters, are left out as `too_long`; null = only the job's exact limit, "
        "max_prompt_length in tokens.",
    )
    seed: int = Field(1, ge=0, description="Another seed deals the prompts anew.")

    @field_validator("shares")
    @classmethod
    def _not_all_zero(cls, shares: str) -> str:
        if not any(float(share) for share in shares.split(",")):
            raise ValueError("at least one share must be above 0")
        return shares
