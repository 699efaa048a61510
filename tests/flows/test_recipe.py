"""A wrong recipe is refused before anything runs, by one message that names the key and what is allowed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from data.corpus.learned.classifiers import train_classifier
from flows.full_pipeline import stage_names
from flows.recipe import TAKEN_NAMES, Recipe
from flows.recipe_errors import RecipeError
from flows.recipe_file import RECIPES, changed, load
from tasks.reporting.figures import SECTIONS
from tasks.stage import Run
from tasks.store.fingerprints import hash_files, significant


@pytest.mark.parametrize("name", sorted(path.stem for path in RECIPES.glob("*.yaml")))
def test_bundled_recipes_are_valid(name: str) -> None:
    assert load(name).name == name


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sft.batch_sise=4", r"sft\.batch_sise: unknown key \(did you mean 'batch_size'\?\); allowed: .*learning|sft\.batch_sise.*allowed"),
        ("sft.batch_size=0", r"sft\.batch_size: input should be greater than or equal to 1 \(given: 0\)"),
        ("sft.optimizer.learning_rate=fast", r"sft\.optimizer\.learning_rate: input should be a valid number"),
        ("ppo.reward_model=sft", r"ppo\.reward_model: 'sft' is a sft stage, a reward stage is needed"),
        ("ppo.init=nothing", r"ppo\.init: 'nothing' is neither an earlier stage \(pretrain, sft, reward_model\)"),
        ("sft.init=null", r"sft\.init: name the stage or model to start from"),
        ("extraktion.engine=resiliparse", r"unknown key 'extraktion' \(did you mean 'extraction'\?\)"),
        ("extraction.engine=lynx", r"extraction\.engine: input should be 'combined', 'trafilatura', 'trafilatura_fast' or 'resiliparse'"),
        ("splits.shares=2,4", r"splits\.shares"),
        ("corpus=nowhere/*.warc", r"corpus: no such file, folder or glob: nowhere"),
        ("sensitive.terms_file=missing.txt", r"sensitive\.terms_file: no such file"),
        ("sft", "write stage.key=value"),
        ("ppo.kind=magic", r"ppo"),
        ("pretrain.launch.zero_stage=4", r"pretrain\.launch\.zero_stage"),
        ("evaluation.others={before: nowhere}", r"evaluation\.others\.before: 'nowhere' is neither an earlier stage \(none so far\), a folder, nor a hub name"),
        ("evaluation.others={sft: data}", r"evaluation\.others: 'sft' is a training stage of this recipe"),
        ("evaluation.others={a.b: data}", r"evaluation: others: 'a\.b' is no name; names begin with a letter"),
    ],
)
def test_wrong_values_are_named(override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load("tiny", [override])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["domain_questions=data/samples/questions.jsonl"], r"domain: give teacher_url with teacher_model, teacher_local, or completions"),
        (["judged_prompts=data/samples/questions.jsonl", "judged.teacher_url=http://a/v1", "judged.teacher_model=m"], r"sampled: name the model .* or answer_sampling\.model"),
        (
            ["judged_prompts=data/samples/questions.jsonl", "sampled.completions=data/samples/completions.jsonl", "answer_sampling.model=data/samples"],
            r"sampled: name the model whose responses are judged: either",
        ),
        (["judged_prompts=data/samples/questions.jsonl", "sampled.completions=data/samples/completions.jsonl"], r"judged: give either a judge .* or a reward model"),
        (
            ["judged_prompts=data/samples/questions.jsonl", "sampled.completions=data/samples/completions.jsonl",
             "judged.completions=data/samples/completions.jsonl", "answer_scoring.model=data/samples"],
            r"judged: give either a judge .* or a reward model",
        ),
        (["domain_questions=nowhere.jsonl", "domain.completions=data/samples/completions.jsonl"], r"domain_questions: no such file"),
        (["pretrain.data=mixture"], r"pretrain\.data: 'mixture' is not one of corpus"),
        (["mixture={tokens: 10, sources: {web: {origin: nowhere}}}"], r"mixture\.sources\.web\.origin: 'nowhere' is neither one of corpus"),
        (["mixture={tokens: 10, good: [sft], sources: {web: {origin: corpus}}}"], r"unknown or malformed source 'sft'; sources: web"),
    ],
)
def test_stages_that_lack_what_they_need_are_named(overrides: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load("tiny", overrides)


def test_domain_judged_and_mixture_are_stages_where_the_recipe_asks_for_them() -> None:
    from flows import instructions, training

    said = "data/samples/completions.jsonl"
    recipe = load("tiny", [
        "domain_questions=data/samples/questions.jsonl", f"domain.completions={said}", "pretrain.data=mixture",
        "judged_prompts=data/samples/questions.jsonl", f"judged.completions={said}", "sampled.teacher_url=http://localhost:1/v1", "sampled.teacher_model=m",
        "mixture={tokens: 1000, sources: {web: {origin: corpus}, sft: {origin: splits/sft}}, schedule: late, good: [sft]}",
    ])  # fmt: skip
    run = Run(store="nowhere")
    assert list(instructions.steps(recipe, run)) == ["instructions", "domain", "sampled", "judged", "splits"]
    by_reward = load("tiny", ["judged_prompts=data/samples/questions.jsonl", f"sampled.completions={said}", "answer_scoring.model=data/samples"])
    assert list(instructions.steps(by_reward, run)) == ["instructions", "sampled", "answer_scores", "judged", "splits"]
    by_job = load("tiny", ["judged_prompts=data/samples/questions.jsonl", "answer_sampling.model=data/samples", f"judged.completions={said}"])
    assert list(instructions.steps(by_job, run)) == ["instructions", "answers", "sampled", "judged", "splits"]
    assert by_job.answer_sampling.seed == by_job.seed
    assert list(training.steps(recipe, run))[:3] == ["tokenizer", "mixture", "pretrain"]
    assert list(instructions.steps(load("tiny"), run)) == ["instructions", "splits"]


def test_the_seed_of_a_changed_recipe_is_that_of_its_stages() -> None:
    recipe = changed(load("tiny", ["sft.seed=7"]), ["seed=5"])
    assert {stage.name: stage.seed for stage in recipe.training} == {"pretrain": 5, "sft": 7, "reward_model": 5, "ppo": 5}
    assert recipe.seed == recipe.splits.seed == recipe.evaluation.seed == 5
    assert changed(recipe, ["ppo.seed=2"]).training[0].seed == 5
    mixture = load("tiny", ["seed=4", "mixture={tokens: 1000, sources: {web: {origin: corpus}}}"]).mixture
    assert mixture and mixture.seed == 4  # a section that a recipe may do without
    assert load("tiny", ["seed=4"]).mixture is None


def test_a_key_of_a_section_that_is_null_begins_the_section() -> None:
    for recipe in (load("tiny", ["sft.optimizer.lora=null", "sft.optimizer.lora.rank=8"]), changed(load("tiny"), ["sft.optimizer.lora.rank=8"])):
        [lora] = [stage.optimizer.lora for stage in recipe.training if stage.name == "sft"]
        assert lora and lora.rank == 8
    with pytest.raises(RecipeError, match="'steps' has no keys of its own"):
        changed(load("tiny"), ["sft.steps.many=1"])


def renamed(folder: Path, name: str) -> Path:
    """The recipe tiny with its first stage called so."""
    raw = yaml.safe_load((RECIPES / "tiny.yaml").read_text().replace("../../data/", f"{RECIPES.parents[1] / 'data'}/"))
    raw["training"][0]["name"] = raw["training"][1]["init"] = name
    (folder / "mine.yaml").write_text(yaml.safe_dump(raw))
    return folder / "mine.yaml"


@pytest.mark.parametrize("name", ["lines", "rough_language", "report", "answer_scores", "publish", "runs", "way"])
def test_a_stage_has_no_name_of_another_part(tmp_path: Path, name: str) -> None:
    with pytest.raises(RecipeError, match=f"training: no stage can be called '{name}': another part of a run has that name"):
        load(str(renamed(tmp_path, name)))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("card.labels=[words, nosuch]", r"card\.labels\.1: 'nosuch': no stage measures this label; labels: adult_terms, .*, words"),
        ("selection.prefer=word", r"selection\.prefer: 'word': no stage measures this label \(did you mean 'words'\?\)"),
        ("selection.balance=[{label: topic, max_documents: 3}]", r"selection\.balance\.0\.label: 'topic': the stage that measures it has nothing to do"),
        ("selection.rules=[{reason: short, label: words, min: 5}, {reason: bad, label: wrds, min: 5}]", r"selection\.rules\.1\.label: 'wrds': .*'words'"),
        ("selection.rules=[{reason: bad, label: rude_terms, max: 0}]", r"selection\.rules\.0\.label: 'rude_terms': no stage measures"),
        ("mixture={tokens: 10, sources: {web: {origin: corpus, sample: {label: year}}}}", r"mixture\.sources\.web\.sample\.label: 'year'"),
    ],
)
def test_a_label_that_no_stage_measures_is_refused(override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load("tiny", [override])
    with pytest.raises(RecipeError, match=message):
        changed(load("tiny"), [override])


def test_labels_of_any_run_and_of_lists_of_terms_may_be_named(tmp_path: Path) -> None:
    terms = tmp_path / "terms.txt"
    terms.write_text("rude\tblockhead\n")
    rude = "selection.rules=[{reason: rude, label: rude_terms, max: 0}, {reason: old, label: year, min: 2000}]"
    load("tiny", [f"sensitive.terms_file={terms}", rude])
    recipe = load("tiny", ["card.labels=[topic, earlier_duplicate]", "selection.rules=[{reason: any, label: nosuch, max: 0, if_measured: true}]"])
    elsewhere = recipe.model_dump(mode="json")
    elsewhere["sensitive"]["terms_file"] = "s3://bucket/terms.txt"
    elsewhere["selection"]["prefer"] = "rude_terms"
    assert Recipe.model_validate(elsewhere).selection.prefer == "rude_terms"


def test_classifiers_of_another_kind_or_class_are_refused_before_anything_runs(tmp_path: Path) -> None:
    for kind, classes in (("quality", ("raw", "good")), ("topic", ("sport", "food"))):
        train_classifier(kind, {name: [f"{name} text"] for name in classes}, 10, 1, bits=8).save(tmp_path / f"{kind}.npz")
    (tmp_path / "torn.npz").write_bytes((tmp_path / "topic.npz").read_bytes()[:200])
    (tmp_path / "none.bin").write_bytes(b"none")
    for key, name, message in [
        ("quality_model", "topic.npz", r"classifiers\.quality_model: .*topic\.npz: a topic model of version 1; needed: quality"),
        ("quality_model", "quality.npz", r"classifiers\.trusted_class: .*quality\.npz has no class 'trusted'; its classes: good, raw"),
        ("topic_model", "torn.npz", r"classifiers\.topic_model: .*torn\.npz: not a model of this project"),
        ("topic_model", "none.bin", r"classifiers\.topic_model: .*none\.bin: not a fastText model"),
    ]:
        with pytest.raises(RecipeError, match=message):
            load("tiny", [f"classifiers.{key}={tmp_path / name}"])
    good = [f"classifiers.quality_model={tmp_path / 'quality.npz'}", "classifiers.trusted_class=good", f"classifiers.topic_model={tmp_path / 'topic.npz'}"]
    assert load("tiny", [*good, "selection.prefer=quality_score"]).classifiers.has_model


def test_what_a_run_leaves_under_a_name_of_its_own_is_taken(tmp_path: Path) -> None:
    """Every stage beside the training stages, and what report.json calls its parts."""
    said = "data/samples/completions.jsonl"
    train_classifier("topic", {"sport": ["goal"], "food": ["bread"]}, 10, 1, bits=8).save(tmp_path / "topic.npz")
    recipe = load("tiny", [
        "domain_questions=data/samples/questions.jsonl", f"domain.completions={said}", "judged_prompts=data/samples/questions.jsonl",
        "answer_sampling.model=data/samples", "answer_scoring.model=data/samples", f"classifiers.topic_model={tmp_path / 'topic.npz'}",
        "scoring.model=data/samples", "mixture={tokens: 10, sources: {web: {origin: corpus}}}",
    ])  # fmt: skip
    stages = set(stage_names(recipe, Run(store="nowhere"))) - {stage.name for stage in recipe.training}
    assert len(stages) > 25 and {"answers", "answer_scores", "domain", "judged", "mixture", "scoring", "classifiers"} <= stages
    assert stages | set(SECTIONS) <= TAKEN_NAMES | set(Recipe.model_fields)
    with pytest.raises(RecipeError, match="training: two stages are called 'sft'; give every stage a name of its own"):
        load(str(renamed(tmp_path, "sft")))


def test_overrides_are_typed() -> None:
    recipe = load("tiny", ["sft.optimizer.learning_rate=1e-5", "ppo.steps=3", "language.languages=[zh]", "seed=7", "sft.seed=9"])
    stages = {stage.name: stage for stage in recipe.training}
    assert stages["sft"].optimizer.learning_rate == 1e-5
    assert stages["ppo"].steps == 3
    assert recipe.language.languages == ["zh"]
    assert stages["sft"].seed == 9
    assert stages["ppo"].seed == recipe.duplicates.seed == 7


@pytest.mark.parametrize("kind", ["rloo", "grpo", "raft", "best_of_n", "dpo"])
def test_every_kind_of_alignment_may_stand_in_ppos_place(kind: str, tmp_path: Path) -> None:
    text = (RECIPES / "tiny.yaml").read_text().replace("../../data/", f"{RECIPES.parents[1] / 'data'}/")
    raw = yaml.safe_load(text)
    ppo = raw["training"].pop()
    kept = ("name", "init", "steps", "optimizer") if kind == "dpo" else ("name", "init", "steps", "optimizer", "reward_model")
    raw["training"].append({"kind": kind, **{key: ppo[key] for key in kept}})
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(raw))
    stage = load(str(file)).training[-1]
    assert stage.kind == kind
    assert stage.datasets() == {"data": "splits/reward" if kind == "dpo" else "splits/ppo"}
    assert stage.models() == {key: ppo[key] for key in kept if key in ("init", "reward_model")}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("ppo.ptx_coef=27.8", r"ppo.*ptx_data"),
        ("ppo.reward_model=null", r"ppo: name a reward: reward_model, or a list of rewards"),
        ("ppo.rewards=[{function: os}]", r"function.*pattern"),
        ("ppo.rewards=[{function: 'nowhere.at_all:f'}]", r"ppo\.rewards: function: no module nowhere\.at_all"),
        ("ppo.rewards=[{model: sft}]", r"ppo\.reward_1: 'sft' is a sft stage, a reward stage is needed"),
        ("ppo.pattern_penalties=[{pattern: '('}]", r"is no regular expression"),
    ],
)
def test_wrong_options_of_alignment_are_named(override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load("tiny", [override])


def test_the_code_of_a_reward_function_is_an_input_of_its_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found where the job will find it, without importing it; another text is another fingerprint."""
    from flows.training import inputs
    from tasks.stage import Made
    from tasks.store.artifacts import Artifact

    package = tmp_path / "my_rewards"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('imported')")
    file = package / "short.py"
    file.write_text("raise SystemExit('imported')\ndef f(prompts, answers): ...")
    monkeypatch.chdir(tmp_path)
    stage = load("tiny", ["ppo.rewards=[{function: 'my_rewards.short:f', weight: 0.5}]"]).training[-1]
    artifact = Artifact(stage="s", fingerprint="f" * 24, url="nowhere")
    made = dict.fromkeys(("splits", "sft", "reward"), Made(artifact=artifact, reused=True, seconds=0, counts={}, metrics={}))
    found = []
    for text in ("one", "one", "two"):
        file.write_text(text)
        artifacts, folders = inputs(stage, made)
        assert Path(artifacts["reward_1_code"].path) == file and folders["reward_1_code"] == ""
        found.append(artifacts["reward_1_code"].fingerprint)
    assert found[0] == found[1] != found[2]


def test_another_crawl_leaves_truth_and_questions_behind(tmp_path: Path) -> None:
    recipe = load("tiny", paths={"corpus": [str(tmp_path)]})
    assert recipe.corpus == [str(tmp_path)] and recipe.truth is None and recipe.questions is None
    assert load("tiny").evaluation.knowledge and not recipe.evaluation.knowledge


def test_paths_in_a_recipe_are_relative_to_it(tmp_path: Path) -> None:
    raw = yaml.safe_load((RECIPES / "tiny.yaml").read_text())
    for name in ("crawl", "tasks.jsonl", "ranks.jsonl"):
        (tmp_path / name).write_text("")
    raw |= {"corpus": "crawl", "truth": None, "questions": None, "seed_tasks": "tasks.jsonl", "preferences": ["ranks.jsonl"]}
    for section in ("urls", "perplexity", "sensitive", "self_instruct", "evaluation"):
        raw.pop(section)
    raw["evaluation"] = {"others": {"before": "./base", "hub": "someone/base"}}
    (tmp_path / "base").mkdir()
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(raw))
    assert load(str(tmp_path / "mine.yaml")).evaluation.others == {"before": str(tmp_path / "base"), "hub": "someone/base"}
    assert load(str(tmp_path / "mine.yaml")).seed_tasks == str(tmp_path / "tasks.jsonl")
    assert load(str(tmp_path / "mine.yaml")).name == "mine"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seed: 1\n", "seed: 1\nseed: 2\n", "the key 'seed' stands there twice"),
        ("  vocab_size: 2048\n", "  vocab_size: 2048\n  vocab_size: 4096\n", "the key 'vocab_size' stands there twice"),
        ("  vocab_size: 2048\n", "\tvocab_size: 2048\n", "cannot start any token"),
        ("[en, zh]", "[en, no]", r"languages.1: .*YAML reads yes, no, .* in quotes \(given: False\)"),
        ("tokenizer:\n  vocab_size: 2048\n", "tokenizer: 2048\n", r"tokenizer: keys with values are needed here \(given: 2048\)"),
        ("    kind: sft\n", "", "sft.kind: this key is missing; allowed: pretrain, sft, reward, "),
        ("    kind: sft\n", "    kind: stf\n", "sft.kind: no 'stf'; allowed: pretrain, sft, reward, "),
        ("corpus: SAMPLES/crawl\n", "corpus:\n", "corpus: this key is missing"),
        ("corpus: SAMPLES/crawl\n", "corpus: ~/no-such-crawl\n", f"no such file, folder or glob: {Path.home()}/no-such-crawl"),
        ("SAMPLES/seed_tasks.jsonl", "SAMPLES/*.jsonl", r"seed_tasks: a file of this machine is needed, and this is none: .*\*.jsonl"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = (RECIPES / "tiny.yaml").read_text().replace("../../data/samples", "SAMPLES")
    assert old in text
    text = text.replace(old, new, 1).replace("SAMPLES", str(RECIPES.parents[1] / "data" / "samples"))
    (tmp_path / "mine.yaml").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    with pytest.raises(RecipeError, match=message):
        load(str(tmp_path / "mine.yaml"))


def test_files_and_sections_as_people_write_them(tmp_path: Path) -> None:
    """A mark and line ends of Windows, spaces, brackets and Chinese in paths, a section without keys, a file whose name is none for a run."""
    folder = tmp_path / "我的 crawl [1]"
    folder.mkdir()
    text = (RECIPES / "tiny.yaml").read_text().replace("../../data", str(RECIPES.parents[1] / "data")).replace("  vocab_size: 2048\n", "")
    text = text.replace(f"corpus: {RECIPES.parents[1]}/data/samples/crawl", "corpus: .").replace("\n", "\r\n")
    (folder / "配方.yaml").write_bytes(b"\xef\xbb\xbf" + text.encode())
    with pytest.raises(RecipeError, match=r"name: '配方' is none for a run.*write one in the file"):
        load(str(folder / "配方.yaml"))
    (folder / "配方.yaml").write_bytes(b"\xef\xbb\xbfname: mine\r\n" + text.encode())
    recipe = load(str(folder / "配方.yaml"))
    assert (recipe.name, recipe.corpus) == ("mine", [str(folder)])
    assert hash_files(recipe.corpus[0])


@pytest.mark.parametrize("text", ["training: [", "- a\n- b\n", "", "training: []\n"])
def test_broken_files_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "broken.yaml").write_text(text)
    with pytest.raises(RecipeError, match=r"broken\.yaml"):
        load(str(tmp_path / "broken.yaml"))


def test_unknown_recipe_lists_the_bundled_ones() -> None:
    with pytest.raises(RecipeError, match=r"no recipe 'huge'; bundled: .*tiny"):
        load("huge")


def test_a_recipe_is_the_same_after_its_way_through_a_deployment() -> None:
    """JSON knows what is a fraction: with 20 where a form's recipe has 20.0 both had artifacts of their own, and a sweep's trials too."""
    defaults = dict(pair for model in _models(Recipe, set()) for pair in _fractions(model))
    assert len(defaults) > 50 and not [f"{name} = {value}" for name, value in defaults.items() if type(value) is int]
    recipe = load("tiny")
    sent = Recipe.model_validate_json(recipe.model_dump_json())
    assert json.dumps(significant(sent), default=str) == json.dumps(significant(recipe), default=str)


def _models(model: type[BaseModel], seen: set[type[BaseModel]]) -> set[type[BaseModel]]:
    """A model and all that its fields are made of."""
    if model not in seen:
        seen.add(model)
        for field in model.model_fields.values():
            for part in _parts(field.annotation):
                if isinstance(part, type) and issubclass(part, BaseModel):
                    _models(part, seen)
    return seen


def _parts(annotation: Any) -> Iterator[Any]:
    yield annotation
    for part in get_args(annotation):
        yield from _parts(part)


def _fractions(model: type[BaseModel]) -> Iterator[tuple[str, Any]]:
    """Name and default of each field that is a float."""
    for name, field in model.model_fields.items():
        if float in list(_parts(field.annotation)):
            yield f"{model.__name__}.{name}", field.default
