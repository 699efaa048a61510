"""A teacher's recorded completions, with the defects that real ones have.

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

import random
from dataclasses import dataclass
from typing import Any

from data.samples.novelty import tokens
from data.samples.phrasing import answer, spoken
from data.samples.tasks import LANGUAGES, Task
from data.samples.world import LANGS, Lang, facts

DEFECTS = {
    "no_output": 10, "empty_output": 10, "output_equals_input": 8, "too_short": 8, "too_long": 4, "blocked_word": 12,
    "not_novel": 16, "leading_punctuation": 8, "conflicting_output": 8, "wrong_language": 12, "unparsable": 8,
}  # fmt: skip
"""How many blocks are bad for each reason, apart from truncated ones and from completions that are one apology."""
TRUNCATED = 14
BLOCKS = 10  # good blocks of a completion


@dataclass
class Block:
    """The text of one block of a completion, and why it is bad (None: it is good)."""

    text: str
    reason: str | None = None


@dataclass
class Completion:
    blocks: list[Block]
    finish_reason: str = "stop"


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
