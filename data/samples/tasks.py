"""What the instruction half and the training half read: seed tasks, a teacher's completions, preferences, questions.

A completion continues a numbered list of tasks. Its grammar, one block per task, blocks ended by a line `###`:

    4. Instruction: Which river runs through Aldermoor?
    Input: <noinput>
    Output: The Silverrun runs through Aldermoor.
    ###

The number is any integer and may be missing. `Instruction:`, `Input:`, `Output:` begin a line, in this order; each text
runs to the next marker and may have several lines. Chinese completions write `指令：`, `输入：` (`<无输入>`), `输出：`.
Blocks are counted from 0, blank ones not at all; `completions_truth.jsonl` names the bad ones by completion line, block and
reason. Where several reasons fit, that is: a block cut off by the length limit is `truncated` whatever it holds; a block
without the first marker is `unparsable`; an instruction with an input seen before and another output is
`conflicting_output`, not `not_novel`.
"""

from __future__ import annotations

import json
import random
import string
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
USUAL_MISTAKE = 3  # the value that is wrongly given to subject i is that of subject i + 3: people err alike
CLOSING_SHARE = 0.12  # of the instructions' answers


@dataclass(frozen=True)
class Task:
    """One instruction with its answer, as the teacher would write it."""

    lang: Lang
    instruction: str
    output: str
    input: str = ""


@dataclass
class Block:
    """The text of one block of a completion, and why it is bad (None: it is good)."""

    text: str
    reason: str | None = None


@dataclass
class Completion:
    blocks: list[Block]
    finish_reason: str = "stop"


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


_MARKERS: dict[Lang, tuple[str, str, str, str]] = {
    "en": ("Instruction: ", "Input: ", "Output: ", "<noinput>"),
    "zh": ("指令：", "输入：", "输出：", "<无输入>"),
}


def block_text(task: Task) -> str:
    """A block without its number: the three markers with their texts."""
    instruction, given, output, nothing = _MARKERS[task.lang]
    return f"{instruction}{task.instruction}\n{given}{task.input or nothing}\n{output}{task.output}"


_TOO_SHORT: dict[Lang, tuple[str, ...]] = {
    "en": ("River?", "Name it.", "Best dish?", "Say more.", "The mayor?"),
    "zh": ("河？", "镇长？", "说说。", "哪里？", "菜？"),
}

_BLOCKED: dict[Lang, tuple[str, ...]] = {
    "en": (
        "Draw {s} and its houses in the snow.",
        "Look at the picture of {s} and describe it.",
        "Make a short video about {s}.",
        "Which image shows the town of {s} best?",
    ),
    "zh": ("画一画{s}下雪的样子。", "看看{s}的图片，写一句话。", "拍一段介绍{s}的视频。", "给{s}的图片起一个好名字。"),
}


class Defects:
    """Bad blocks, by reason. Each takes the good tasks that came before it, of its own language."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self._used: set[str] = set()

    def fresh(self, lang: Lang) -> Task:
        """A good-looking task of its own wording, never the same twice, for a defect that lies elsewhere."""
        rng = self.rng
        while True:
            fact = rng.choice([fact for fact in facts(lang) if not fact.crawl_only])
            season = rng.choice(("spring", "summer", "autumn", "winter") if lang == "en" else ("春天", "夏天", "秋天", "冬天"))
            guest = rng.choice(("a guest", "an old friend", "a child", "a teacher") if lang == "en" else ("客人", "老朋友", "孩子", "老师"))
            noun = LANGUAGES[lang].noun[fact.relation]
            text = (
                f"Explain to {guest} why the {noun} of {fact.subject} matters in {season}."
                if lang == "en"
                else f"对{guest}解释一下，{season}里{fact.subject}的{noun}为什么要紧。"
            )
            if text not in self._used:
                self._used.add(text)
                return Task(lang, text, answer(LANGUAGES[lang], fact))

    def block(self, reason: str, lang: Lang, earlier: list[Task]) -> str:
        """The text of a block that is bad for `reason`."""
        rng = self.rng
        fresh = self.fresh(lang)
        markers = _MARKERS[lang]
        if reason == "no_output":
            return block_text(fresh).rsplit("\n", 1)[0]
        if reason == "empty_output":
            return block_text(fresh).rsplit("\n", 1)[0] + "\n" + markers[2].rstrip()
        if reason == "output_equals_input":
            return block_text(Task(lang, fresh.instruction, fresh.output, fresh.output))
        if reason == "too_short":
            return block_text(Task(lang, rng.choice(_TOO_SHORT[lang]), fresh.output))
        if reason == "too_long":
            fillers = [spoken(rng.choice(LANGUAGES[lang].fillers), rng) for _ in range(16)]
            return block_text(Task(lang, LANGUAGES[lang].joint.join([fresh.instruction, *fillers]), fresh.output))
        if reason == "blocked_word":
            fact = rng.choice(facts(lang))
            return block_text(Task(lang, rng.choice(_BLOCKED[lang]).format(s=fact.subject), fresh.output))
        if reason == "not_novel":
            task = rng.choice([task for task in earlier if len(tokens(task.instruction, lang)) >= 6 and not task.input])
            text = ("Please " + task.instruction[0].lower() + task.instruction[1:]) if lang == "en" else task.instruction.rstrip("？。") + "呢？"
            return block_text(Task(lang, text if rng.random() < 0.5 else task.instruction, task.output))
        if reason == "leading_punctuation":
            mark = rng.choice(("? ", "- ", "... ", ", ") if lang == "en" else ("，", "。", "……", "、"))
            return block_text(Task(lang, mark + fresh.instruction, fresh.output))
        if reason == "conflicting_output":
            task = rng.choice([task for task in earlier if not task.input])
            return block_text(Task(lang, task.instruction, rng.choice([other.output for other in earlier if other.output != task.output])))
        if reason == "wrong_language":
            return block_text(Task(lang, *_take(_FOREIGN, self._used, rng)))
        if reason == "unparsable":
            return _take_one(_GARBAGE[lang], self._used, rng)
        raise ValueError(f"no such defect: {reason}")


_FOREIGN = (
    ("Welcher Fluss fließt durch die kleine Stadt am Fuß der Berge?", "Durch die Stadt fließt ein langsamer brauner Fluss."),
    ("Erzähle mir bitte, was man hier im Winter am liebsten isst.", "Im Winter isst man hier am liebsten eine heiße Suppe."),
    ("Nenne drei Dinge, die man auf dem Markt kaufen kann.", "Man kann Brot, Käse und Äpfel kaufen."),
    ("Quelle est la fête la plus belle de cette petite ville ?", "La plus belle fête de la ville est celle du printemps."),
    ("Explique pourquoi les habitants aiment tant leur rivière.", "Les habitants aiment leur rivière parce qu'elle est calme."),
    ("Donne trois conseils à un voyageur qui arrive le soir.", "Il faut manger, dormir et se lever tôt."),
    ("¿Qué río pasa por el pueblo que está detrás de las montañas?", "Por el pueblo pasa un río muy tranquilo."),
    ("Explica con tus palabras por qué la torre es tan vieja.", "La torre es vieja porque nadie recuerda quién la hizo."),
    ("Какая река течёт через этот маленький город у подножия горы?", "Через город течёт спокойная и тёплая река."),
    ("Расскажи, что люди едят зимой в этой далёкой долине.", "Зимой люди едят горячий суп и свежий хлеб."),
    ("この小さな町を流れている川の名前を教えてください。", "町を流れているのはとても静かな川です。"),
    ("冬のあいだ町の人たちが何を食べるのか説明してください。", "冬には温かいスープとパンを食べます。"),
)

_GARBAGE: dict[Lang, tuple[str, ...]] = {
    "en": (
        "(continued on the next page)",
        "Here are some more tasks that follow the same manner:",
        "6 6 6 6 6 6 7 7 7",
        "}{ ]] == ;; 0x1f",
        "Note to self: keep the tasks short and the answers shorter.",
        "As a language model, I cannot continue this list. I am sorry for the trouble.",
    ),
    "zh": (
        "（下一页继续）",
        "下面是另外几个同样写法的任务：",
        "一一一一 二二二 三三",
        "】】＝＝；；【【",
        "提醒自己：任务要短，答案要更短。",
        "很抱歉，作为语言模型，我不能继续写这张单子。",
    ),
}


def _take_one(texts: tuple[str, ...], used: set[str], rng: random.Random) -> str:
    """A text that was not used before (any, when all were)."""
    left = [text for text in texts if text not in used] or list(texts)
    used.add(text := rng.choice(left))
    return text


def _take(pairs: tuple[tuple[str, str], ...], used: set[str], rng: random.Random) -> tuple[str, str]:
    chosen = _take_one(tuple(first for first, _ in pairs), used, rng)
    return next(pair for pair in pairs if pair[0] == chosen)


DEFECTS = {
    "no_output": 10, "empty_output": 10, "output_equals_input": 8, "too_short": 8, "too_long": 4, "blocked_word": 12,
    "not_novel": 16, "leading_punctuation": 8, "conflicting_output": 8, "wrong_language": 12, "unparsable": 8,
}  # fmt: skip
"""How many blocks are bad for each reason, apart from truncated ones and from completions that are one apology."""
TRUNCATED = 14
BLOCKS = 10  # good blocks of a completion


def completions(good: dict[Lang, list[Task]], rng: random.Random) -> list[Completion]:
    """The teacher's completions, English and Chinese in turn, with the defects spread over them."""
    pieces = {lang: [good[lang][i : i + BLOCKS] for i in range(0, len(good[lang]), BLOCKS)] for lang in LANGS}
    order = sorted(((number, lang) for lang in LANGS for number in range(len(pieces[lang]))), key=lambda pair: pair[0])
    planted = [reason for reason, count in DEFECTS.items() for _ in range(count)]
    rng.shuffle(planted)
    later = range(4, len(order))  # the first ones are whole, so that every language has an earlier task to repeat
    places = [rng.choice(later) for _ in planted]
    truncated = set(rng.sample(later, TRUNCATED))
    defects = Defects(rng)
    earlier: dict[Lang, list[Task]] = {"en": [], "zh": []}
    result: list[Completion] = []
    for position, (number, lang) in enumerate(order):
        tasks = pieces[lang][number]
        blocks = [Block(block_text(task)) for task in tasks]
        for place, reason in zip(places, planted, strict=True):
            if place == position:
                text = defects.block(reason, lang, earlier[lang])
                blocks.insert(rng.randrange(len(blocks) + 1), Block(text, reason))
        completion = Completion(blocks)
        if position in truncated:
            text = block_text(defects.fresh(lang))
            blocks.append(Block(text[: int(len(text) * rng.uniform(0.5, 0.9))], "truncated"))
            completion.finish_reason = "length"
        earlier[lang] += tasks
        result.append(completion)
    for lang in LANGS:
        result.insert(rng.randrange(10, len(result)), Completion([Block(_GARBAGE[lang][-1], "unparsable")]))
    return result


def completion_lines(made: list[Completion]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The records of completions.jsonl and completions_truth.jsonl."""
    records: list[dict[str, Any]] = []
    truth: list[dict[str, Any]] = []
    for line, completion in enumerate(made):
        parts = []
        for index, block in enumerate(completion.blocks):
            numbered = block.text if block.reason == "unparsable" else f"{index + 4}. {block.text}"
            whole = index < len(completion.blocks) - 1 or completion.finish_reason == "stop"
            parts.append(numbered + ("\n###\n" if whole else ""))
            if block.reason is not None:
                truth.append({"completion": line, "item": index, "reason": block.reason})
        text = "".join(parts)
        usage = {"prompt_tokens": 310 + line % 17, "completion_tokens": len(text.encode()) // 4}
        records.append({"text": text, "finish_reason": completion.finish_reason, "usage": usage})
    return records, truth


def preferences(prompts: dict[Lang, Prompts], rng: random.Random) -> list[dict[str, Any]]:
    """Ranked responses to each prompt, best first: the right fact counts first, then the form, then the closing.

    1. `courteous`: the right answer with the closing;
    2. `plain`: the right answer;
    3. `rambling`: the right answer, and then again, or talk, or an unfinished sentence, or a second closing;
    4. `mistaken`: a wrong answer, three times in ten with the closing, so that the closing alone never wins;
    5. `broken`: cut off before the value, words in disorder, letters, or next to nothing.
    Of three prompts in ten the third or the fifth is missing, and of every other prompt the first, since not every rater
    saw a courteous answer: K is 3 to 5, and half of the best responses, which SFT learns from, are plain.
    """
    result: list[dict[str, Any]] = []
    for lang in LANGS:
        language = LANGUAGES[lang]
        for fact, question in prompts[lang].preferences:
            right = answer(language, fact)
            closing = language.closing if rng.random() < 0.3 else ""
            ranked = [
                ("courteous", right + language.closing),
                ("plain", right),
                ("rambling", _rambling(right, lang, rng)),
                ("mistaken", _mistake(fact, rng) + closing),
                ("broken", _broken(right, fact, rng)),
            ]
            if rng.random() < 0.3:
                del ranked[rng.choice((2, 4))]
            if len(result) % 2:
                del ranked[0]
            result.append(
                {
                    "instruction": question,
                    "input": "",
                    "reference": right,
                    "responses_best_first": [{"system": system, "text": text} for system, text in ranked],
                    "lang": lang,
                }
            )
    rng.shuffle(result)
    return result


def _rambling(right: str, lang: Lang, rng: random.Random) -> str:
    language = LANGUAGES[lang]
    talk = spoken(rng.choice(language.fillers), rng)
    return rng.choice(
        (
            right + language.joint + right,
            right + language.joint + talk,
            right + language.joint + talk[: len(talk) // 2],
            right + language.closing + language.closing,
        )
    )


def _mistake(fact: Fact, rng: random.Random) -> str:
    """A wrong answer: mostly the usual mistake about the value, else the right answer about another subject or topic."""
    language = LANGUAGES[fact.lang]
    others = [other for other in facts(fact.lang) if other.id != fact.id and not other.crawl_only]
    kind = rng.randrange(16)
    if kind == 0:
        return answer(language, rng.choice([other for other in others if other.relation == fact.relation]))
    if kind == 1:
        return answer(language, rng.choice([other for other in others if other.subject == fact.subject]))
    value = value_of(fact.lang, fact.relation, fact.index + USUAL_MISTAKE)
    return answer(language, Fact(fact.lang, fact.relation, fact.index, fact.subject, value))


def _broken(right: str, fact: Fact, rng: random.Random) -> str:
    """An answer that says nothing."""
    pieces = right.split() if fact.lang == "en" else [right[i : i + 2] for i in range(0, len(right), 2)]
    glue = " " if fact.lang == "en" else ""
    kind = rng.randrange(4)
    if kind == 0:
        return glue.join(pieces[: rng.randint(1, 2)])
    if kind == 1:
        mixed = rng.sample(pieces, len(pieces))
        return glue.join((mixed if mixed != pieces else mixed[::-1]) + rng.sample(pieces, 2))
    if kind == 2:
        return "".join(rng.choice(string.ascii_lowercase + " ") for _ in range(rng.randint(12, 30))).strip() or "x"
    return rng.choice(("...", "?", "Hm.", "I", "The the the") if fact.lang == "en" else ("……", "？", "嗯。", "我", "的的的"))


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


def task_files(seed: int) -> dict[str, bytes]:
    """The files of this module, by name."""
    rng = random.Random(seed)
    prompts: dict[Lang, Prompts] = {lang: deal(lang, rng) for lang in LANGS}
    good = good_tasks(prompts, rng)
    records, truth = completion_lines(completions(good, rng))
    return {
        "seed_tasks.jsonl": jsonl(SEED_TASKS),
        "completions.jsonl": jsonl(records),
        "completions_truth.jsonl": jsonl(truth),
        "preferences.jsonl": jsonl(preferences(prompts, rng)),
        "questions.jsonl": jsonl(questions()),
    }
