from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from rlhf_core.dataset.chat_template import Chat, load_chat
from rlhf_core.dataset.records import Record, Turn
from rlhf_core.job.errors import BadInput
from rlhf_core.stages.sft import Sft


@pytest.fixture(scope="module")
def chat(world: Path) -> Chat:
    return load_chat(str(world / "tokenizer"))


def conversation(*texts: str, system: str | None = None) -> Record:
    roles = ("user", "assistant")
    turns = tuple(Turn(roles[i % 2], text) for i, text in enumerate(texts))  # type: ignore[arg-type]
    return Record("x", system, turns)


def byte_tokenizer(**special: str) -> PreTrainedTokenizerFast:
    """What a base model comes with: bytes, perhaps an end of text, no template."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({symbol: i for i, symbol in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


def marked_tokenizer() -> PreTrainedTokenizerFast:
    """A chat model's: a template with role marks of its own (ChatML)."""
    tokenizer = byte_tokenizer(eos_token="<|endoftext|>", pad_token="<pad>")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    return tokenizer


def counted(chat: Chat, record: Record) -> str:
    tokens = chat.conversations([record])[0]
    return chat.tokenizer.decode([i for i, counts in zip(tokens.ids, tokens.mask, strict=True) if counts])


def test_only_answers_and_their_end_tokens_count(chat: Chat) -> None:
    record = conversation("What?", "Orsk.", "And?", "Tarn.", system="Be short.")
    assert counted(chat, record) == " Orsk.<|end|> Tarn.<|end|>"
    assert chat.tokenizer.decode(chat.conversations([record])[0].ids) == (
        "<|system|> Be short.<|end|><|user|> What?<|end|><|assistant|> Orsk.<|end|>"
        "<|user|> And?<|end|><|assistant|> Tarn.<|end|>"
    )


def test_prompt_and_answer_are_the_conversation(chat: Chat) -> None:
    """The boundary tokens are the same in SFT (conversations) and PPO (prompts, then answers)."""
    whole = chat.conversations([conversation("What is the capital of Ald?", "Orsk.")])[0]
    prompt = chat.prompts([conversation("What is the capital of Ald?")])[0]
    assert whole.ids == prompt + chat.answers(["Orsk."])[0]
    assert whole.mask == [False] * len(prompt) + [True] * (len(whole.ids) - len(prompt))


def test_the_template_alone_gives_the_same_tokens(chat: Chat) -> None:
    """Who uses the model with transformers alone writes what it was trained on."""
    messages = [{"role": "user", "content": "What is the capital of Ald?"}]
    plain = chat.tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
    assert plain == chat.prompts([conversation("What is the capital of Ald?")])[0]


def test_a_first_word_is_the_token_that_it_is_inside_a_text(chat: Chat) -> None:
    inside = chat.plain(["The capital of Ald is Orsk"])[0]
    answer = chat.answers(["Orsk"])[0]
    assert answer[:-1] == inside[-len(answer[:-1]) :]


def test_a_cut_answer_gets_no_end_token(chat: Chat) -> None:
    tokens = chat.conversations([conversation("What?", "Orsk is a city and Tarn is a city.")])[0]
    cut = tokens.cut(len(tokens) - 2)
    assert chat.end_id not in cut.ids[-3:]
    assert len(cut.ids) == len(cut.mask) == len(tokens) - 2


def test_what_does_not_fit_is_refused(chat: Chat) -> None:
    with pytest.raises(BadInput, match="assistant"):
        chat.conversations([conversation("What?")])
    with pytest.raises(BadInput, match="user"):
        chat.prompts([conversation("What?", "Orsk.")])


def test_decoding_ends_at_the_end_token(chat: Chat) -> None:
    ids = chat.answers(["Orsk."])[0]
    assert chat.decode([*ids, *ids]) == "Orsk."


def test_a_tokenizer_whose_pad_is_its_end_gets_a_pad_and_still_learns_to_stop() -> None:
    tokenizer = byte_tokenizer(eos_token="</s>", pad_token="</s>")
    chat = Chat(tokenizer)
    assert chat.added == ["chat template", "pad token"]
    assert chat.end_id == tokenizer.eos_token_id != chat.pad_id
    assert counted(chat, conversation("What?", "Orsk.")) == " Orsk.</s>"


def test_a_tokenizer_with_nothing_gets_all(tmp_path: Path) -> None:
    chat = Chat(byte_tokenizer())
    assert chat.vocab_size == 256 + 5
    assert counted(chat, conversation("What?", "Orsk.")) == " Orsk.<|end|>"
    chat.tokenizer.save_pretrained(tmp_path)
    again = Chat(AutoTokenizer.from_pretrained(tmp_path))
    assert again.added == []
    assert again.conversations([conversation("a", "b")]) == chat.conversations([conversation("a", "b")])


def test_another_template_keeps_its_own_end_token_and_what_follows_it_never_counts() -> None:
    tokenizer = marked_tokenizer()
    chat = Chat(tokenizer)
    assert chat.added == []
    assert chat.end_id == tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert counted(chat, conversation("a", "b", "c", "d")) == "b<|im_end|>d<|im_end|>"


@pytest.mark.parametrize("make", [marked_tokenizer, lambda: byte_tokenizer(eos_token="<|endoftext|>")], ids=["its own", "ours"])
def test_blanks_around_an_earlier_answer_are_none_of_it(make: Callable[[], PreTrainedTokenizerFast]) -> None:
    """They were an error, "the chat template rewrites earlier turns"."""
    chat = Chat(make())
    blank, plain = (conversation("Hello", answer, "And you?", "Well.") for answer in (" Good day. \n", "Good day."))
    assert chat.conversations([blank]) == chat.conversations([plain])
    asked = [Record("x", None, record.turns[:3]) for record in (blank, plain)]
    assert chat.prompts(asked[:1]) == chat.prompts(asked[1:])


def thinking_tokenizer() -> PreTrainedTokenizerFast:
    """Qwen3's manner: the thoughts, here none, stand before the last answer alone."""
    tokenizer = marked_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
        "{% if m.role == 'assistant' and loop.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
        "{{ m.content + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    return tokenizer


def test_where_a_template_rewrites_earlier_turns_each_answer_is_learned_as_the_last() -> None:
    """Such conversations were refused. Each row is the template's own, as inference asks, and nothing is learned twice."""
    chat = Chat(thinking_tokenizer())
    record, short = conversation("a", "b", "c", "d", "e", "f", system="s"), conversation("g", "h")
    rows, [alone] = chat.rows([record, short])
    assert [len(rows), alone] == [3, chat.conversations([short])[0]]
    for turns, row in zip((2, 4, 6), rows, strict=True):
        messages = [{"role": turn.role, "content": turn.text} for turn in record.turns[:turns]]
        whole = chat.tokenizer.apply_chat_template([{"role": "system", "content": "s"}, *messages], tokenize=False)
        assert chat.tokenizer.decode(row.ids) == whole
        prompt = chat.prompts([Record("x", "s", record.turns[: turns - 1])])[0]
        assert row.ids[: len(prompt)] == prompt and not any(row.mask[: len(prompt)])
        answer = [token for token, counts in zip(row.ids, row.mask, strict=True) if counts]
        assert chat.tokenizer.decode(answer) == f"<think>\n\n</think>\n\n{record.turns[turns - 1].text}<|im_end|>"
    assert chat.conversations([record, short]) == [rows[-1], alone]
    plain = Chat(marked_tokenizer())
    assert plain.rows([record, short]) == [[tokens] for tokens in plain.conversations([record, short])]


def test_an_answer_read_back_is_what_was_said() -> None:
    """Thoughts that the template writes itself stood in every text that a judge or a classifier was asked about."""
    chat = Chat(thinking_tokenizer())
    row = chat.conversations([conversation("a", "b c")])[0]
    answer = [token for token, counts in zip(row.ids, row.mask, strict=True) if counts]
    assert chat.decode(answer) == chat.decode(answer[:-1]) == "b c"
    thought = chat.tokenizer("<think>\nno\n</think>\n\nb", add_special_tokens=False)["input_ids"]
    assert chat.decode(thought) == "<think>\nno\n</think>\n\nb"


@pytest.mark.parametrize(
    ("written", "mark", "said"), [("\nUser: b", "\nUser:", ""), ("a\nUser: ", "\nUser: ", "a"), (" a User: b\nUser:", "\nUser:", "a User: b")]
)
def test_blanks_of_a_mark_are_a_part_of_it(written: str, mark: str, said: str) -> None:
    """They were taken off the answer first: the mark was not found, and rewards read it."""
    chat = Chat(marked_tokenizer())
    ids = chat.tokenizer(written, add_special_tokens=False)["input_ids"]
    assert chat.tokenizer.decode(ids) == written
    assert chat.decode(ids, ["unsaid", mark]) == said
    assert chat.decode(ids) == written.strip()


def test_sft_counts_the_conversations_that_a_template_divides(tmp_path: Path) -> None:
    turns = [{"role": role, "text": text} for role, text in (("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"))]
    lines = [{"id": "long", "turns": turns}, {"id": "short", "turns": turns[:2]}]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    examples, dropped, cut, divided = Sft._read(tmp_path / "train.jsonl", Chat(thinking_tokenizer()), 500)
    assert (len(examples), dropped, cut, divided) == (3, 0, 0, 1)
    examples, dropped, cut, divided = Sft._read(tmp_path / "train.jsonl", Chat(marked_tokenizer()), 500)
    assert (len(examples), dropped, cut, divided) == (2, 0, 0, 0)


def test_what_a_template_refuses_is_said() -> None:
    """Gemma's raises for a system prompt: that was a traceback."""
    tokenizer = marked_tokenizer()
    refusal = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    tokenizer.chat_template = refusal + tokenizer.chat_template
    chat = Chat(tokenizer, source="gemma")
    with pytest.raises(BadInput, match="record x: the chat template of gemma refuses a conversation with a system prompt: System role not supported; write what it says before"):
        chat.conversations([conversation("a", "b", system="Be brief.")])


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ 1 + 'a' }}", "the chat template of base refuses a conversation: TypeError: unsupported operand"),
        ("{{ 1 / 0 }}", "refuses a conversation: ZeroDivisionError"),
        ("{% if %}", "refuses a conversation: Expected an expression"),
        ("{% for m in messages %}{{ m.content | upper }}{% endfor %}", "the answer must stand there as it was given; mend its chat_template.jinja"),
    ],
)
def test_a_template_that_fails_in_any_way_is_said(template: str, message: str) -> None:
    """It is code of others: what it raises was a traceback."""
    tokenizer = marked_tokenizer()
    tokenizer.chat_template = template
    with pytest.raises(BadInput, match=message):
        Chat(tokenizer, source="base")
