"""A recipe: everything that a run does, in one typed and checked file.

Relative paths in a recipe file are relative to that file, on the command line to the working directory.
Every error names the key and what is allowed, and comes before anything runs.
"""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from data.instructions.settings import JudgeSettings, SelfInstructSettings, SplitSettings, TopicSettings
from data.mixtures.settings import MixtureSettings
from data.settings import (
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
from rlhf_core.settings import (
    AnyStage,
    EvaluationSettings,
    PretrainStage,
    RewardStage,
    ScoringSettings,
    TokenizerSettings,
)
from tasks.publishing import PublishSettings

RECIPES = Path(__file__).parent / "recipes"
PATH_KEYS = ("corpus", "truth", "seed_tasks", "preferences", "questions", "domain_questions", "judged_prompts")
DATA_KEYS = {"ptx": "ptx_data"}
ORIGINS = ("corpus", "instructions", "domain", "splits")  # stages whose artifacts may be sources of a mixture; splits by folder
SPLITS = ("splits/sft", "splits/reward", "splits/ppo")


class RecipeError(ValueError):
    """What is wrong with a recipe, in one message for a person."""


class Runner(BaseModel):
    """Who works on the shards of the corpus."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["threads", "processes", "dask", "ray"] = Field(
        "threads", description="Threads or processes of this machine, or a Dask or Ray cluster (extras dask, ray)."
    )
    workers: int = Field(2, ge=1, description="Shard groups at the same time.")
    address: str | None = Field(
        None, description="Of a running cluster: tcp://HOST:8786 (Dask), ray://HOST:10001 or auto (Ray); null = one of this machine for the run. "
        "All its machines need this project installed, the store and the crawl under the same paths, and PREFECT_API_URL."
    )

    @model_validator(mode="after")
    def _address_has_a_cluster(self) -> Runner:
        if self.address and self.kind not in ("dask", "ray"):
            raise ValueError(f"address: only a dask or ray runner has one, not {self.kind}")
        return self


class Recipe(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9_-]+$")
    seed: int = Field(1, ge=0, description="The seed of every stage that does not name its own.")
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
    scoring: ScoringSettings = ScoringSettings()
    sensitive: SensitiveSettings = SensitiveSettings()
    decontamination: DecontaminationSettings = DecontaminationSettings()
    selection: SelectionSettings = SelectionSettings()
    card: CardSettings = CardSettings()

    tokenizer: TokenizerSettings = TokenizerSettings()
    self_instruct: SelfInstructSettings = SelfInstructSettings()
    domain: TopicSettings = TopicSettings()
    judged: JudgeSettings = JudgeSettings()
    splits: SplitSettings = SplitSettings()
    mixture: MixtureSettings | None = Field(None, description="Sources and phases that a pretraining stage with data: mixture follows.")
    training: list[AnyStage] = Field(min_length=1, description="The training stages, in order.")
    evaluation: EvaluationSettings = EvaluationSettings()

    approve_before: list[str] = Field(
        default_factory=list, description="Training stages, or `publish`, before which the run waits for a person's approval."
    )
    publish: PublishSettings | None = Field(None, description="Put the model into service if it passes the gate; null = do not.")

    @field_validator("corpus", "preferences", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _teachers_are_named(self) -> Recipe:
        if self.domain_questions and not (self.domain.is_live or self.domain.completions):
            raise ValueError("domain: give teacher_url with teacher_model, teacher_local, or completions")
        if self.judged_prompts and not (self.judged.is_live or self.judged.completions):
            raise ValueError("judged: give teacher_url with teacher_model, teacher_local, or completions")
        if self.judged_prompts and not (self.judged.policy_local or (self.judged.policy_url and self.judged.policy_model)):
            raise ValueError("judged: give policy_url with policy_model, or policy_local: the model whose answers are judged")
        return self

    @model_validator(mode="after")
    def _stages_fit_together(self) -> Recipe:
        earlier: dict[str, str] = {}
        for stage in self.training:
            if stage.name in earlier or stage.name in type(self).model_fields:
                raise ValueError(f"training: the name {stage.name!r} is taken; give every stage a name of its own")
            for role, model in stage.models().items():
                kind = "reward" if role.startswith("reward") else None
                _check_reference(stage.name, role, model, earlier, kind)
            for role, source in stage.datasets().items():
                known = ("corpus",) if role == "ptx" else ("corpus", *SPLITS, *(["mixture"] if self.mixture else []))
                if source not in known and not (role.startswith("data") and Path(source).is_dir()):
                    raise ValueError(f"{stage.name}.{DATA_KEYS.get(role, role)}: {source!r} is not one of {', '.join(known)}")
            if isinstance(stage, PretrainStage) and stage.extended_vocabulary and not self.tokenizer.extend:
                raise ValueError(f"{stage.name}.extended_vocabulary: say in tokenizer.extend which vocabulary is extended")
            if stage.init is None and stage.kind != "pretrain":
                raise ValueError(f"{stage.name}.init: name the stage or model to start from; allowed: {_choices(earlier)}")
            if isinstance(stage, RewardStage) and stage.data != "splits/reward":
                raise ValueError(f"{stage.name}.data: a reward stage needs preference pairs: splits/reward")
            earlier[stage.name] = stage.kind
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
    """What is approved and published are stages of this recipe."""
    for name in recipe.approve_before:
        if name not in (*stages, "publish"):
            raise ValueError(f"approve_before: no training stage {name!r}; allowed: {_choices(stages)}, publish")
    model = recipe.publish.model if recipe.publish else None
    if model and stages.get(model, "reward") == "reward":
        answering = {name: kind for name, kind in stages.items() if kind != "reward"}
        raise ValueError(f"publish.model: {model!r} is no stage that leaves an answering model; allowed: {_choices(answering)}")


def _choices(earlier: Mapping[str, str]) -> str:
    return ", ".join(earlier) or "none so far"


# --- loading ----------------------------------------------------------------------------------------------------------


def load(name: str, overrides: Sequence[str] = (), paths: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe called `name` (bundled) or lying at `name` (a .yaml file), with `key=value` overrides and input paths.

    Raises RecipeError with one message that names the key and what is allowed.
    """
    file = _find(name)
    try:
        raw = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{file}: not a YAML file: {error}") from None
    if not isinstance(raw, dict):
        raise RecipeError(f"{file}: a recipe is a mapping of keys to values")
    raw.setdefault("name", file.stem)
    _anchor(raw, file.parent)
    for assignment in overrides:
        _override(raw, assignment)
    _replace_inputs(raw, paths or {})
    _spread_seed(raw)
    try:
        recipe = Recipe.model_validate(raw)
    except ValidationError as error:
        raise RecipeError(f"{file.name}: " + _explain(error, raw)) from None
    _check_paths(recipe)
    return recipe


def changed(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    """The recipe with `key=value` overrides; raises RecipeError as `load` does."""
    raw = recipe.model_dump(mode="json")
    for assignment in overrides:
        _override(raw, assignment)
    try:
        return Recipe.model_validate(raw)
    except ValidationError as error:
        raise RecipeError(_explain(error, raw)) from None


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
            found[f"{prefix}{name}"] = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    return found


def _against(model: BaseModel, other: BaseModel) -> dict[str, Any]:
    """Fields of `model` whose values are not those of `other`, a model of the same type."""
    return {name: getattr(model, name) for name in type(model).model_fields if getattr(model, name) != getattr(other, name)}


def _replace_inputs(raw: dict[str, Any], paths: Mapping[str, Any]) -> None:
    """Inputs from the command line. Truth and questions speak of the recipe's own crawl: another crawl leaves them behind."""
    if paths.get("corpus"):
        raw["truth"] = raw["questions"] = None
    raw.update({key: value for key, value in paths.items() if value})


def _find(name: str) -> Path:
    if name.endswith((".yaml", ".yml")):
        if Path(name).is_file():
            return Path(name)
        raise RecipeError(f"--recipe: no file {name}")
    file = RECIPES / f"{name}.yaml"
    if not file.is_file():
        known = ", ".join(sorted(path.stem for path in RECIPES.glob("*.yaml")))
        raise RecipeError(f"--recipe: no recipe {name!r}; bundled: {known}; or give a .yaml file")
    return file


def _anchor(raw: dict[str, Any], folder: Path) -> None:
    """Make the recipe file's relative input paths absolute."""

    def anchored(value: Any) -> Any:
        if isinstance(value, list):
            return [anchored(item) for item in value]
        if not isinstance(value, str) or "://" in value:
            return value
        if value.startswith("dataset:"):  # a folder beside the recipe, else a name on the hub
            path, mark, query = value.removeprefix("dataset:").partition("?")
            return f"dataset:{(folder / path).resolve() if (folder / path).exists() else path}{mark}{query}"
        return str((folder / value).resolve())

    for key in PATH_KEYS:
        if key in raw:
            raw[key] = anchored(raw[key])
    for section, field in _file_fields():
        if isinstance(raw.get(section), dict) and field in raw[section]:
            raw[section][field] = anchored(raw[section][field])

    mixture = raw.get("mixture")
    for source in (mixture.get("sources") or {}).values() if isinstance(mixture, dict) else ():
        if isinstance(source, dict) and isinstance(source.get("origin"), str) and source["origin"].partition("/")[0] not in ORIGINS:
            source["origin"] = anchored(source["origin"])

    def beside(value: Any) -> Any:  # a folder is written ./NAME or ../NAME; other names are stages and artifacts
        return anchored(value) if isinstance(value, str) and value.startswith(("./", "../")) else value

    for stage in raw.get("training") or []:
        if isinstance(stage, dict):
            stage |= {key: beside(stage[key]) for key in ("init", "data") if key in stage}
            if isinstance(stage.get("launch"), dict) and "hostfile" in stage["launch"]:
                stage["launch"] = stage["launch"] | {"hostfile": beside(stage["launch"]["hostfile"])}
            if isinstance(stage.get("blend"), dict):
                stage["blend"] = {beside(name): passes for name, passes in stage["blend"].items()}


def _file_fields() -> Iterator[tuple[str, str]]:
    """(section, key) of every setting that is an input file."""
    for section, field in Recipe.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            for key, inner in field.annotation.model_fields.items():
                if isinstance(inner.json_schema_extra, dict) and inner.json_schema_extra.get("file"):
                    yield section, key


def _override(raw: dict[str, Any], assignment: str) -> None:
    """Apply `stage.key=value`; the value is read as YAML, so numbers, lists and null have their types."""
    path, equals, text = assignment.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise RecipeError(f"--set {assignment!r}: write stage.key=value")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = text
    if isinstance(value, str):
        value = _as_number(value)
    stages = {stage.get("name"): stage for stage in raw.get("training") or [] if isinstance(stage, dict)}
    place: Any = raw
    if keys[0] in stages:
        place, keys = stages[keys[0]], keys[1:]
    elif keys[0] not in Recipe.model_fields:
        known = [*Recipe.model_fields, *map(str, stages)]
        raise RecipeError(f"--set {path}: unknown key {keys[0]!r}{_near(keys[0], known)}; allowed: {', '.join(known)}")
    for key in keys[:-1]:
        place = place.setdefault(key, {})
        if not isinstance(place, dict):
            raise RecipeError(f"--set {path}: {key!r} has no keys of its own")
    if not keys:
        raise RecipeError(f"--set {path}: name a key of that stage, as in {path}.seed=2")
    place[keys[-1]] = value


def _as_number(text: str) -> Any:
    """YAML 1.1 reads 1e-4 as text; a person who writes it means the number."""
    try:
        return float(text)
    except ValueError:
        return text


def _spread_seed(raw: dict[str, Any]) -> None:
    seed = raw.get("seed", 1)
    for section, field in Recipe.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel) and "seed" in annotation.model_fields:
            place = raw.setdefault(section, {})
            if isinstance(place, dict):
                place.setdefault("seed", seed)
    for stage in raw.get("training") or []:
        if isinstance(stage, dict):
            stage.setdefault("seed", seed)


def _check_paths(recipe: Recipe) -> None:
    for key in PATH_KEYS:
        value = getattr(recipe, key)
        for path in value if isinstance(value, list) else [value]:
            if path and "://" not in path and not path.startswith("dataset:") and not _exists(path):
                raise RecipeError(f"{key}: no such file, folder or glob: {path}")
    for section, key in _file_fields():
        value = getattr(getattr(recipe, section), key)
        for path in value if isinstance(value, list) else [value]:
            if path and "://" not in path and not _exists(path):
                raise RecipeError(f"{section}.{key}: no such file or folder: {path}")


    for name, source in recipe.mixture.sources.items() if recipe.mixture else ():
        if source.origin.partition("/")[0] not in ORIGINS and not _exists(source.origin):
            raise RecipeError(f"mixture.sources.{name}.origin: {source.origin!r} is neither one of {', '.join(ORIGINS)} nor a file or folder")


def _exists(path: str) -> bool:
    import glob

    return Path(path).exists() or (glob.has_magic(path) and bool(glob.glob(path, recursive=True)))


# --- errors -----------------------------------------------------------------------------------------------------------


def _explain(error: ValidationError, raw: dict[str, Any]) -> str:
    return "; ".join(_one(problem, raw) for problem in error.errors()[:5])


def _one(problem: Any, raw: dict[str, Any]) -> str:
    location = list(problem["loc"])
    named = _name(location, raw)
    if problem["type"] == "extra_forbidden":
        allowed = _allowed(location[:-1])
        return f"{named}: unknown key{_near(str(location[-1]), allowed)}; allowed: {', '.join(allowed)}"
    if problem["type"] == "missing":
        return f"{named}: this key is missing"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return f"{named}: {message}" if named else message
    return f"{named}: {message[0].lower()}{message[1:]} (given: {problem.get('input')!r})"


def _name(location: list[Any], raw: dict[str, Any]) -> str:
    """`training.1.sft.batch_size` becomes `sft.batch_size`: the name that --set takes."""
    if len(location) > 1 and location[0] == "training" and isinstance(location[1], int):
        stage = raw["training"][location[1]]
        head = stage.get("name", f"training[{location[1]}]") if isinstance(stage, dict) else f"training[{location[1]}]"
        location = [head, *location[3:]]
    return ".".join(str(part) for part in location)


def _allowed(location: list[Any]) -> list[str]:
    """The keys allowed at a place of the recipe."""
    model: Any = Recipe
    for part in location:
        if isinstance(part, int):
            continue
        options = list(_models(model.model_fields[part].annotation)) if part in model.model_fields else []
        if not options:  # the tag of a discriminated union: training, 1, "sft"
            tagged = [m for m in _models(Recipe.model_fields["training"].annotation) if m.model_fields["kind"].default == part]
            options = tagged or [model]
        model = options[0]
    return list(model.model_fields)


def _models(annotation: Any) -> Iterator[Any]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) is not None or isinstance(annotation, types.UnionType) or annotation is Union:
        for inner in get_args(annotation):
            yield from _models(inner)


def _near(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
