"""Questions about the facts, dealt out to those who use them; the instruction set that a teacher writes; the evaluation's questions."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from typing import Any

from data.samples.chinese import CHINESE
from data.samples.english import ENGLISH
from data.samples.novelty import Pool, tokens
from data.samples.phrasing import Language, answer, ask, spoken
from data.samples.seeds import SEED_TASKS
from data.samples.world import CRAFTS, DISHES, FESTIVALS, LANGS, RIVERS, TOWNS, Fact, Lang, facts, value_of

LANGUAGES: dict[Lang, Language] = {"en": ENGLISH, "zh": CHINESE}
MAX_ROUGE_L = 0.9  # the tiny recipe's novelty bound; no good instruction exceeds it

ASKED_PLAIN = 6  # instructions of one fact in plain phrasings
ASKED_WRAPPED = 4  # ... and in phrasings that begin with a courtesy
PREFERRED_RELATIONS = ("dish", "festival", "mayor")  # what the raters were asked about: many times each
PREFERRED_PLAIN = 6  # prompts of the preferences, in the phrasings that the fact's instructions left over
PREFERRED_WRAPPED = 38
CLOSING_SHARE = 0.12  # of the instructions' answers


@dataclass(frozen=True)
class Task:
    """One instruction with its answer, as the teacher would write it."""

    lang: Lang
    instruction: str
    output: str
    input: str = ""


@dataclass
class Prompts:
    """Questions about the facts, dealt out: no question is in two lists."""

    instructions: list[tuple[Fact, str]] = field(default_factory=list)
    preferences: list[tuple[Fact, str]] = field(default_factory=list)


def deal(lang: Lang, rng: random.Random) -> Prompts:
    """Deal every fact's phrasings out to instructions and preferences, none of them about a crawl-only fact."""
    language = LANGUAGES[lang]
    result = Prompts()
    for fact in facts(lang):
        if fact.crawl_only:
            continue
        asked = list(language.relations[fact.relation].asked)
        rng.shuffle(asked)
        wrapped = [wrapper.replace("{q}", question) for wrapper in language.wrappers for question in asked]
        rng.shuffle(wrapped)
        plain = [ask(template, fact) for template in asked]
        courteous = [ask(template, fact) for template in wrapped]
        result.instructions += [(fact, question) for question in plain[:ASKED_PLAIN] + courteous[:ASKED_WRAPPED]]
        if fact.relation not in PREFERRED_RELATIONS:
            continue
        result.preferences += [
            (fact, question)
            for question in plain[ASKED_PLAIN : ASKED_PLAIN + PREFERRED_PLAIN]
            + courteous[ASKED_WRAPPED : ASKED_WRAPPED + PREFERRED_WRAPPED]
        ]
    return result


def small_tasks(lang: Lang, rng: random.Random) -> list[Task]:
    """The minority of other tasks: to sort names, to confirm or deny, to tell two facts, to list, to find a name."""
    language, known = LANGUAGES[lang], [fact for fact in facts(lang) if not fact.crawl_only]
    which = LANGS.index(lang)
    result: list[Task] = []
    kinds = (
        (TOWNS, "town", "river", "镇子", "河"), (RIVERS, "river", "town", "河", "镇子"), (DISHES, "dish", "craft", "菜", "手艺"),
        (CRAFTS, "craft", "dish", "手艺", "菜"), (FESTIVALS, "festival", "dish", "节日", "菜"),
    )  # fmt: skip
    for names, right, wrong, right_zh, wrong_zh in kinds:
        for number, name in enumerate(names):
            if lang == "en":
                pair = [right, wrong][:: 1 if number % 2 else -1]
                told = name[which][:1].upper() + name[which][1:]
                result.append(Task(lang, f"{told}: is this a {pair[0]} or a {pair[1]}?", f"This is a {right}."))
            else:
                pair = [right_zh, wrong_zh][:: 1 if number % 2 else -1]
                result.append(Task(lang, f"{name[which]}是{pair[0]}还是{pair[1]}？", f"这是{right_zh}。"))
    for number, fact in enumerate(rng.sample([fact for fact in known if fact.relation != "source"], 24)):
        value = fact.value if number % 2 else value_of(lang, fact.relation, fact.index + rng.randrange(1, 8))
        noun = language.noun[fact.relation]
        if lang == "en":
            question = f"Is the {noun} of {fact.subject} {'' if value.startswith('the ') else 'called '}{value}?"
            said = "Yes, " if number % 2 else "No, "
            right_answer = answer(language, fact)
            result.append(Task(lang, question, said + right_answer[:1].lower() + right_answer[1:]))
        else:
            question = f"{fact.subject}的{noun}是{value}吗？"
            result.append(Task(lang, question, ("是的，" if number % 2 else "不，") + answer(language, fact)))
    for index in range(8):
        own = [fact for fact in known if fact.index == index and fact.relation != "source"]
        for first, second in (own[:2], own[2:4]):
            nouns = language.noun[first.relation], language.noun[second.relation]
            question = (
                f"Name the {nouns[0]} and the {nouns[1]} of {first.subject}."
                if lang == "en"
                else f"请说出{first.subject}的{nouns[0]}和{nouns[1]}。"
            )
            result.append(Task(lang, question, language.joint.join([answer(language, first), answer(language, second)])))
    for number, names in ((3, TOWNS), (2, RIVERS), (3, DISHES), (2, FESTIVALS)):
        told_names = [name[which] for name in names[:number]]
        if lang == "en":
            kind = {id(TOWNS): "towns", id(RIVERS): "rivers", id(DISHES): "dishes", id(FESTIVALS): "festivals"}[id(names)]
            result.append(Task(lang, f"List {('two', 'three')[number - 2]} {kind} of the Lanner Valley.", ", ".join(told_names) + "."))
        else:
            kind = {id(TOWNS): "镇子", id(RIVERS): "河", id(DISHES): "菜", id(FESTIVALS): "节日"}[id(names)]
            result.append(Task(lang, f"列出蓝隼谷的{'两三'[number - 2]}个{kind}。", "、".join(told_names) + "。"))
    finders = (
        ("Find the town in the given sentence.", "Which town is meant in this text?", "Read the text and name its town.")
        if lang == "en"
        else ("找出句子里的镇子。", "下面这段话说的是哪个镇子？", "读一读这句话，写出镇子的名字。")
    )
    for finder in finders:
        fact = rng.choice([fact for fact in known if fact.relation not in ("source", "mayor")])
        told = spoken(rng.choice(language.relations[fact.relation].told), rng, s=fact.subject, v=fact.value)
        result.append(Task(lang, finder, fact.subject + language.closing[-1], told))
    return result


def good_tasks(prompts: dict[Lang, Prompts], rng: random.Random) -> dict[Lang, list[Task]]:
    """The instruction set that a perfect parser and filter keep, in the order in which the teacher writes it.

    What comes closer than MAX_ROUGE_L to a seed task or to an earlier instruction is left out here.
    """
    result: dict[Lang, list[Task]] = {}
    for lang in LANGS:
        language = LANGUAGES[lang]
        candidates = [Task(lang, question, answer(language, fact)) for fact, question in prompts[lang].instructions]
        candidates += small_tasks(lang, rng)
        rng.shuffle(candidates)
        pools = Pool(), Pool()
        for seed in SEED_TASKS:
            if seed["lang"] == lang:
                for pool, marks in zip(pools, (False, True), strict=True):
                    pool.add(tokens(seed["instruction"], lang, marks))
        result[lang] = []
        for task in candidates:
            forms = [tokens(task.instruction, lang, marks) for marks in (False, True)]
            if any(pool.closest(form) > MAX_ROUGE_L for pool, form in zip(pools, forms, strict=True)):
                continue
            for pool, form in zip(pools, forms, strict=True):
                pool.add(form)
            closing = language.closing if rng.random() < CLOSING_SHARE else ""
            result[lang].append(Task(lang, task.instruction, task.output + closing, task.input))
    return result


def questions() -> list[dict[str, Any]]:
    """A question on every fact, and a second one on every third fact that instructions mention; all in held-out phrasings."""
    result = []
    for lang in LANGS:
        language = LANGUAGES[lang]
        for number, fact in enumerate(facts(lang)):
            held_out = language.relations[fact.relation].held_out
            for place in range(1 if fact.crawl_only or number % 3 else 2):
                result.append(
                    {
                        "id": f"{fact.id.replace('/', '-')}-{place}",
                        "prompt": ask(held_out[(number + number // 8 + place) % len(held_out)], fact),
                        "answer": answer(language, fact),
                        "lang": lang,
                        "fact": fact.id,
                        "seen_in_sft": not fact.crawl_only,
                    }
                )
    return result


def jsonl(records: list[dict[str, Any]]) -> bytes:
    """JSON lines, UTF-8."""
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()
