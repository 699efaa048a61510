"""Each known layout of one preference, turned into drafts of records: pairs, rankings, responses with scores. See shapes.py.

The dictionary at the end is the table of names; its order is the order of detection.
"""

from __future__ import annotations

import re

from data.instructions.drafts import (
    INPUTS,
    PROMPTS,
    SYSTEMS,
    Draft,
    Labels,
    Object,
    Unfit,
    asked,
    chat,
    described,
    first_of,
    has_markup,
    is_number,
    joined,
    scalars,
    text_of,
    transcript,
)
from data.instructions.shapes import Table, has_any, messages, own_conversation, sharegpt


def own_preference(value: Object) -> list[Draft]:
    [draft] = own_conversation(value)
    draft.responses = response_texts(value["responses"])
    if "ratings" in draft.labels:
        draft.ratings = _ratings(draft.labels.pop("ratings"), draft.responses)
    return [draft]


def response_texts(responses: object) -> list[str]:
    if not isinstance(responses, list):
        raise Unfit("not_text")
    return [text_of(item.get("text") if isinstance(item, dict) else item) for item in responses]


def ranked(value: Object) -> list[Draft]:
    """`responses_best_first`: texts, or objects that hold a `text`."""
    draft = asked(value)
    draft.responses = response_texts(value["responses_best_first"])
    draft.labels = scalars(value, *PROMPTS, *INPUTS, *SYSTEMS, "reference")
    if reference := text_of(value.get("reference")):
        draft.labels["reference"] = reference
    if "ratings" in value:
        draft.ratings = _ratings(value["ratings"], draft.responses)
    return [draft]


_LISTS = ("responses", "completions", "answers", "output")
_TEXTS = ("text", "response", "answer", "content")
_SCORES = ("score", "overall_score")


def is_scored(value: Object) -> bool:
    """Whether a list of responses has scores or ranks, beside it or in it."""
    responses = first_of(value, _LISTS)
    if not isinstance(responses, list) or not responses:
        return False
    inside = isinstance(responses[0], dict) and any(name in responses[0] for name in (*_SCORES, "rank"))
    return inside or "scores" in value or "ranks" in value


def scored(value: Object) -> list[Draft]:
    """Responses with a score each (more is better) or a rank (1 is the best), in objects or in a list `scores` or `ranks` beside
    them: UltraFeedback, Nectar, LMFlow's `text_to_scored_textlist`. Both become ratings, so responses of one score are not told apart in training."""
    draft = asked(value)
    responses = first_of(value, _LISTS)
    objects = [item for item in responses if isinstance(item, dict)]
    texts = [text_of(first_of(item, _TEXTS) if isinstance(item, dict) else item) for item in responses]
    worth = _numbers(value.get("scores") or [first_of(item, _SCORES) for item in objects], len(texts))
    worth = worth or [-rank for rank in _numbers(value.get("ranks") or [item.get("rank") for item in objects], len(texts))]
    if not worth:
        raise Unfit("no_scores")
    order = sorted(range(len(texts)), key=lambda place: -worth[place])
    draft.responses, draft.ratings = [texts[place] for place in order], [worth[place] for place in order]
    draft.labels = described(value)
    return [draft]


_NUMBERED = (("answer_0", "answer_1"), ("response_0", "response_1"), ("response_1", "response_2"))


def numbered(value: Object) -> list[Draft]:
    """Two responses in columns of their own, and which is better: scores (WebGPT), the better one's number (PKU-SafeRLHF), or how
    much the second is preferred (HelpSteer2)."""
    names = next(names for names in _NUMBERED if all(name in value for name in names))
    question = value.get("question")
    draft = asked({**value, "question": question.get("full_text")} if isinstance(question, dict) else value)
    texts = [text_of(value[name]) for name in names]
    better, strength = value.get("better_response_id"), value.get("preference_strength")
    worth = _numbers([value.get("score_0"), value.get("score_1")], 2)
    worth = worth or ([1.0 - better, float(better)] if better in (0, 1) else []) or [-number for number in _numbers([strength, 0], 2)]
    return _of_two(draft, texts, worth)


def upvoted(value: Object) -> list[Draft]:
    """Two answers to a post; `labels` is 1 where the first got more votes: Stanford Human Preferences."""
    draft = Draft([("user", joined(value["history"], None))], labels=described(value, "history", "labels", "human_ref_A", "human_ref_B"))
    first = value.get("labels")
    return _of_two(draft, [text_of(value["human_ref_A"]), text_of(value["human_ref_B"])], [float(first), 1.0 - first] if first in (0, 1) else [])


_WINNERS = {"model_a": [1.0, 0.0], "model_b": [0.0, 1.0], "tie": [0.0, 0.0], "tie (bothbad)": [0.0, 0.0]}


def arena(value: Object) -> list[Draft]:
    """Two whole conversations and the `winner`: Chatbot Arena, MT-Bench's judgements."""
    (first, one), (second, other) = (_side(value[name], None, False) for name in ("conversation_a", "conversation_b"))
    if (first.system, first.turns) != (second.system, second.turns):
        raise Unfit("different_prompts")
    first.labels = described(value, "winner")
    return _of_two(first, [one, other], _WINNERS.get(str(value.get("winner")), []))


def _of_two(draft: Draft, texts: list[str], worth: list[float]) -> list[Draft]:
    """The draft with both responses, the better one first; Unfit(`no_scores`) where nothing says which that is."""
    if not worth:
        raise Unfit("no_scores")
    order = sorted((0, 1), key=lambda place: -worth[place])
    draft.responses, draft.ratings = [texts[place] for place in order], [worth[place] for place in order]
    return [draft]


def _ratings(values: object, responses: list[str]) -> list[float]:
    """`values` as a number for each response; Unfit(`bad_labels`) where they are not."""
    ratings = _numbers(values, len(responses))
    if not ratings:
        raise Unfit("bad_labels")
    return ratings


def _numbers(values: object, count: int) -> list[float]:
    """`values` where they are `count` numbers; else nothing."""
    if not isinstance(values, list) or len(values) != count:
        return []
    numbers = [float(item) for item in values if is_number(item)]
    return numbers if len(numbers) == count else []


_OF_A_PAIR = ("chosen", "rejected", "positive", "negative", "margin", "score_chosen", "score_rejected")


def pair(value: Object) -> list[Draft]:
    """`chosen` and `rejected` (or LMFlow's `positive`, `negative`): whole transcripts, or answers to what is `asked`.

    Either side is a string, plain or with HH's or LMFlow's markup, a list of messages (the whole or its end), an object
    that holds such a list (LMFlow's `paired_conversation`), or one message. ShareGPT's `conversations` may be the prompt.
    """
    sides = []
    for names in (("chosen", "positive"), ("rejected", "negative")):
        if value.get(names[0]) is None and value.get(names[1]) is None:
            raise Unfit("unpaired")
        sides.append(next(value[name] for name in names if value.get(name) is not None))
    prompt = sharegpt(value)[0] if "conversations" in value else _prompt(value)
    marked = has_markup(first_of(value, PROMPTS))
    (first, best), (second, worst) = (_side(side, prompt, marked) for side in sides)
    if (first.system, first.turns) != (second.system, second.turns):
        raise Unfit("different_prompts")
    scores = _numbers([value.get("score_chosen"), value.get("score_rejected")], 2)
    margin = value["margin"] if _numbers([value.get("margin")], 1) else scores[0] - scores[1] if scores else None
    labels: Labels = described(value, *_OF_A_PAIR) | ({} if margin is None else {"margin": margin})
    first.system = first.system or text_of(first_of(value, SYSTEMS)) or None
    # By a margin of nothing or less the scores contradict the order, which is believed.
    return [Draft(first.turns, first.system, [best, worst], labels, scores or [margin, 0.0] if margin and margin > 0 else None)]


def _prompt(value: Object) -> Draft | None:
    given = first_of(value, (*PROMPTS, *INPUTS))
    if given is None:
        return None
    if isinstance(given, list):  # `context` is one in translations of HH
        return chat(given)
    return transcript(given) if has_markup(given) else asked(value)


_OPENING = re.compile(r"\AAssistant[:：]\s*")  # of an answer to a transcript: rlhf-reward-datasets


def _side(value: object, prompt: Draft | None, marked: bool) -> tuple[Draft, str]:
    """The prompt that this side answers, and its answer. `marked`: the prompt was a transcript."""
    if isinstance(value, dict) and "messages" in value:
        whole = messages(value)[0]
    elif isinstance(value, dict):
        whole = chat([value])
    elif isinstance(value, list):
        whole = chat(value)
    elif has_markup(value):
        whole = transcript(str(value))
    elif prompt is None:
        raise Unfit("no_turns")
    else:
        return Draft(list(prompt.turns), prompt.system), _OPENING.sub("", text_of(value)) if marked else text_of(value)
    if not whole.turns or whole.turns[-1][0] != "assistant":
        raise Unfit("empty_output")
    answer = whole.turns.pop()[1]
    if not whole.turns and prompt is not None:
        whole = Draft(list(prompt.turns), prompt.system)
    return whole, answer


PREFERENCES: Table = {
    "preference": (lambda value: "turns" in value and "responses" in value, own_preference),
    "ranked": (lambda value: "responses_best_first" in value, ranked),
    "pair": (has_any(("chosen", "rejected", "positive", "negative")), pair),
    "scored": (is_scored, scored),
    "upvoted": (lambda value: "human_ref_A" in value and "human_ref_B" in value and "history" in value, upvoted),
    "arena": (lambda value: "conversation_a" in value and "conversation_b" in value, arena),
    "numbered": (lambda value: any(all(name in value for name in names) for names in _NUMBERED), numbered),
}
