"""A recipe: everything that a run does, as one typed and checked model. Its file is read by recipe_file.py."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import to_jsonable_python

from data.evaluation.settings import JudgementSettings
from data.instructions.settings import (
    JudgeSettings,
    SampleSettings,
    SelfInstructSettings,
    SplitSettings,
    TopicSettings,
)
from data.mixtures.settings import MixtureSettings
from data.settings import (
    BucketSettings,
    CardSettings,
    ClassifierSettings,
    DecontaminationSettings,
    DedupSettings,
    ExtractionSettings,
    IngestSettings,
    LanguageSettings,
    LineSettings,
    PerplexitySettings,
    QualitySettings,
    SelectionSettings,
    SensitiveSettings,
    UrlSettings,
)
from flows.recipe_labels import check_labels
from rlhf_core.settings import (
    AnswerSamplingSettings,
    AnswerScoringSettings,
    AnyStage,
    EvaluationSettings,
    PretrainStage,
    RewardStage,
    ScoringSettings,
    TokenizerSettings,
)
from tasks.publishing import PublishSettings
from tasks.reporting.model_card import ModelCardSettings

NAME_PATTERN = r"^[a-z0-9_-]+$"  # of a recipe: reports and folders are called so
PATH_KEYS = ("corpus", "truth", "seed_tasks", "preferences", "questions", "domain_questions", "judged_prompts")
DATA_KEYS = {"ptx": "ptx_data"}
ORIGINS = ("corpus", "instructions", "domain", "splits")  # stages whose artifacts may be sources of a mixture; splits by folder
SPLITS = ("splits/sft", "splits/reward", "splits/ppo")
# What a training stage cannot be called, beside the recipe's own keys: its name is a folder of the store, a row of the run's table and
# a section of report.json.
TAKEN_NAMES = frozenset({
    "rough_language", "signatures", "instructions", "answers", "answer_scores", "report",  # stages that have no key of their own
    "recipe", "crawl", "way", "settings", "stages", "warnings", "samples", "curves",  # parts of the report
    "reports", "runs", "published", "retrained", "sweeps",  # folders of the store that hold no artifacts
})  # fmt: skip


class Runner(BaseModel):
    """Who works on the shards of the corpus."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["threads", "processes", "dask", "ray"] = Field(
        "threads", description="Threads or processes of this machine, or a Dask or Ray cluster (extras dask, ray)."
    )
    workers: int = Field(2, ge=1, description="Shard groups at the same time.")
    address: str | None = Field(
        None, description="Of a running cluster: tcp://HOST:8786 (Dask), HOST:6379 or auto (Ray); null = one of this machine for the run. "
        "All its machines need this project installed, the store and the crawl under the same paths, and PREFECT_API_URL."
    )

    @model_validator(mode="after")
    def _address_has_a_cluster(self) -> Runner:
        if self.address and self.kind not in ("dask", "ray"):
            raise ValueError(f"address: only a dask or ray runner has one, not {self.kind}")
        return self


class Recipe(BaseModel):
    """Everything that a run does: its inputs, and the settings of every stage."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=NAME_PATTERN, description="What runs, reports and notes call it; a file's own name where it says none.")
    seed: int = Field(1, ge=0, description="The seed of every stage that does not name its own. In a deployment's form all name theirs: change those, or deploy with --set seed=N.")
    runner: Runner = Runner()

    corpus: list[str] = Field(
        min_length=1, description="The crawl: files, folders, globs or fsspec URLs of WARC, ARC, WET, HTML, JSONL or Parquet, or dataset:PATH?name=NAME&split=SPLIT "
        "(Hugging Face); one may stand without a list."
    )
    truth: str | None = Field(None, description="Labels of the crawl's planted dirt, if it has some: the run scores its cleaning.")
    seed_tasks: str = Field(description="Seed tasks in Self-Instruct's format (JSONL).")
    preferences: list[str] = Field(min_length=1, description="Preference files: pairs or rankings; one may stand without a list.")
    questions: str | None = Field(None, description="Held-out questions with answers (JSONL), for exact match.")
    domain_questions: str | None = Field(
        None, description="User questions (JSONL), or a folder of documents, of a domain: stage `domain` writes instructions about their topics."
    )
    judged_prompts: str | None = Field(None, description="Prompts (JSONL) whose sampled responses stage `judged` ranks; they join the preferences.")

    ingest: IngestSettings = IngestSettings()
    urls: UrlSettings = UrlSettings()
    language: LanguageSettings = LanguageSettings()
    extraction: ExtractionSettings = ExtractionSettings()
    lines: LineSettings = LineSettings()
    quality: QualitySettings = QualitySettings()
    classifiers: ClassifierSettings = ClassifierSettings()
    duplicates: DedupSettings = DedupSettings()
    perplexity: PerplexitySettings = PerplexitySettings()
    buckets: BucketSettings = BucketSettings()
    scoring: ScoringSettings = ScoringSettings()
    sensitive: SensitiveSettings = SensitiveSettings()
    decontamination: DecontaminationSettings = DecontaminationSettings()
    selection: SelectionSettings = SelectionSettings()
    card: CardSettings = CardSettings()

    tokenizer: TokenizerSettings = TokenizerSettings()
    self_instruct: SelfInstructSettings = SelfInstructSettings()
    domain: TopicSettings = TopicSettings()
    sampled: SampleSettings = SampleSettings()
    answer_sampling: AnswerSamplingSettings = AnswerSamplingSettings()
    answer_scoring: AnswerScoringSettings = AnswerScoringSettings()
    judged: JudgeSettings = JudgeSettings()
    splits: SplitSettings = SplitSettings()
    mixture: MixtureSettings | None = Field(None, description="Sources and phases that a pretraining stage with data: mixture follows.")
    training: list[AnyStage] = Field(min_length=1, description="The training stages, in order.")
    evaluation: EvaluationSettings = EvaluationSettings()
    judgement: JudgementSettings = JudgementSettings()

    approve_before: list[str] = Field(
        default_factory=list, description="Training stages that are not in the store yet, or `publish`, before which the run waits for a person's approval."
    )
    model_card: ModelCardSettings = ModelCardSettings()
    publish: PublishSettings | None = Field(None, description="Put the model into service if it passes the gate; null = do not.")

    @field_validator("corpus", "preferences", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _teachers_are_named(self) -> Recipe:
        if self.domain_questions and not (self.domain.is_live or self.domain.completions):
            raise ValueError("domain: give teacher_url with teacher_model, teacher_local, or completions")
        if self.judged_prompts and bool(self.answer_sampling.model) == (self.sampled.is_live or bool(self.sampled.completions)):
            raise ValueError(
                "sampled: name the model whose responses are judged: either teacher_url with teacher_model, teacher_local, or completions, "
                "or answer_sampling.model"
            )
        if self.judged_prompts and bool(self.answer_scoring.model) == (self.judged.is_live or bool(self.judged.completions)):
            raise ValueError(
                "judged: give either a judge (teacher_url with teacher_model, teacher_local, or completions) or a reward model "
                "(answer_scoring.model)"
            )
        return self

    @model_validator(mode="after")
    def _labels_are_measured(self) -> Recipe:
        check_labels(self)
        return self

    @property
    def asked(self) -> dict[str, str]:
        """Role -> file or folder of all that the recipe's evaluation asks, where it is held against the corpus."""
        if not self.decontamination.use_questions:
            return {}
        questions = {"questions": self.questions} if self.questions else {}
        return questions | {f"knowledge/{one.name}": one.folder for one in self.evaluation.knowledge}

    @property
    def corpus_left_out(self) -> set[str]:
        """Stages of the corpus that this recipe gives nothing to do: no classifier, nothing to decontaminate from."""
        busy = {"classifiers": self.classifiers.has_model, "scoring": self.scoring.model, "decontamination": self.asked or self.decontamination.files}
        return {name for name, work in busy.items() if not work}

    @model_validator(mode="after")
    def _stages_fit_together(self) -> Recipe:
        earlier: dict[str, str] = {}
        for stage in self.training:
            if stage.name in earlier:
                raise ValueError(f"training: two stages are called {stage.name!r}; give every stage a name of its own")
            if stage.name in TAKEN_NAMES or stage.name in type(self).model_fields:
                raise ValueError(f"training: no stage can be called {stage.name!r}: another part of a run has that name")
            for role, model in stage.models().items():
                kind = "reward" if role.startswith("reward") else None
                _check_reference(stage.name, role, model, earlier, kind)
            for role, source in stage.datasets().items():
                known = ("corpus",) if role == "ptx" else ("corpus", *SPLITS, *(["mixture"] if self.mixture else []))
                if source not in known and not (role.startswith("data") and Path(source).is_dir()):
                    raise ValueError(f"{stage.name}.{DATA_KEYS.get(role, role)}: {source!r} is not one of {', '.join(known)}")
            try:
                stage.code()
            except ValueError as error:
                raise ValueError(f"{stage.name}.rewards: {error}") from None
            if isinstance(stage, PretrainStage) and stage.extended_vocabulary and not self.tokenizer.extend:
                raise ValueError(f"{stage.name}.extended_vocabulary: say in tokenizer.extend which vocabulary is extended")
            if stage.init is None and stage.kind != "pretrain":
                raise ValueError(f"{stage.name}.init: name the stage or model to start from; allowed: {_choices(earlier)}")
            if isinstance(stage, RewardStage) and stage.data != "splits/reward":
                raise ValueError(f"{stage.name}.data: a reward stage needs preference pairs: splits/reward")
            earlier[stage.name] = stage.kind
            if isinstance(stage, PretrainStage) and stage.eval_share < self.evaluation.held_out_share:
                raise ValueError(
                    f"evaluation.held_out_share: {self.evaluation.held_out_share} is more than {stage.name}.eval_share "
                    f"({stage.eval_share}): the rest is trained on"
                )
        for name, model in self.evaluation.others.items():
            if name in earlier:
                raise ValueError(f"evaluation.others: {name!r} is a training stage of this recipe; give the other model a name of its own")
            _check_reference("evaluation", f"others.{name}", model, {})
        _check_service(self, earlier)
        return self


def _check_reference(stage: str, key: str, value: str | None, earlier: Mapping[str, str], kind: str | None = None) -> None:
    """A model reference is an earlier stage, a folder that exists, or a hub name with a slash."""
    if value is None or Path(value).is_dir():
        return
    if value in earlier:
        if kind and earlier[value] != kind:
            raise ValueError(f"{stage}.{key}: {value!r} is a {earlier[value]} stage, a {kind} stage is needed")
        return
    if "/" not in value or value.startswith((".", "/")):
        fitting = {name: of for name, of in earlier.items() if kind in (None, of)}
        raise ValueError(f"{stage}.{key}: {value!r} is neither an earlier stage ({_choices(fitting)}), a folder, nor a hub name")


def _check_service(recipe: Recipe, stages: Mapping[str, str]) -> None:
    """What is approved, published and compared with are stages of this recipe."""
    for name in recipe.approve_before:
        if name not in (*stages, "publish"):
            raise ValueError(f"approve_before: no training stage {name!r}; allowed: {_choices(stages)}, publish")
    answering = {name: kind for name, kind in stages.items() if kind != "reward"}
    baseline = recipe.judgement.baseline
    if baseline and baseline not in answering:
        raise ValueError(f"judgement.baseline: {baseline!r} is no stage that leaves an answering model; allowed: {_choices(answering)}")
    model = recipe.publish.model if recipe.publish else None
    if model and model not in answering:
        raise ValueError(f"publish.model: {model!r} is no stage that leaves an answering model; allowed: {_choices(answering)}")


def _choices(earlier: Mapping[str, str]) -> str:
    return ", ".join(earlier) or "none so far"


def differences(recipe: Recipe) -> dict[str, Any]:
    """The settings that differ from the defaults, by the names that --set takes."""
    found: dict[str, Any] = {}
    for name in type(recipe).model_fields:
        if name == "training":
            for stage in recipe.training:
                found |= _differences(stage, f"{stage.name}.")
        elif isinstance(section := getattr(recipe, name), BaseModel):
            found |= _differences(section, f"{name}.")
        elif name not in PATH_KEYS and section != type(recipe).model_fields[name].get_default(call_default_factory=True):
            found[name] = section
    return found


def _differences(model: BaseModel, prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        default = None if field.is_required() else field.get_default(call_default_factory=True)
        if isinstance(value, BaseModel) and isinstance(default, type(value)):
            found |= {f"{prefix}{name}.{key}": inner for key, inner in _against(value, default).items()}
        elif value != default and name not in ("name", "kind"):
            found[f"{prefix}{name}"] = to_jsonable_python(value)
    return found


def _against(model: BaseModel, other: BaseModel) -> dict[str, Any]:
    """Fields of `model` whose values are not those of `other`, a model of the same type."""
    return {name: getattr(model, name) for name in type(model).model_fields if getattr(model, name) != getattr(other, name)}
