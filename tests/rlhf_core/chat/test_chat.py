"""The program that talks: what it writes is what generation writes, history, commands, columns, and how it ends."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from rlhf_core.chat import __main__ as program
from rlhf_core.chat.columns import cells, shown, side_by_side, wrapped
from rlhf_core.chat.speaker import Speaker
from rlhf_core.dataset.records import Record, Turn
from rlhf_core.evaluation.candidate import Candidate, load_candidate
from rlhf_core.job.inputs import Inputs
from tests.rlhf_core.toy import Chain

QUESTION = "What is the capital of Ald?"


@pytest.fixture(scope="module")
def sft(chain: Chain) -> Candidate:
    return load_candidate(Inputs({"other:sft": str(chain.world / "sft")}), "other:sft", torch.device("cpu"))


def speaker(sft: Candidate, **options: Any) -> Speaker:
    return Speaker(sft, **{"system": None, "new_tokens": 12, "temperature": 0.0, "seed": 1, **options})


def test_pieces_make_the_answer_that_generation_writes(sft: Candidate) -> None:
    own = speaker(sft)
    pieces = list(own.answer(QUESTION))
    _, [wanted] = sft.answer([Record("x", None, (Turn("user", QUESTION),))], 12)
    assert wanted is not None and wanted.text
    assert len(pieces) > 1 and "".join(pieces).strip() == wanted.text
    assert own.finished == wanted.finished
    assert [turn.role for turn in own.turns] == ["user", "assistant"] and own.turns[1].text == wanted.text


def test_what_was_said_before_counts_and_can_be_forgotten(sft: Candidate) -> None:
    own = speaker(sft)
    for question in (QUESTION, "Name the capital of Bex."):
        list(own.answer(question))
    record = Record("x", None, tuple(own.turns[:3]))
    _, [wanted] = sft.answer([record], 12)
    assert wanted is not None and own.turns[3].text == wanted.text
    own.forget()
    list(own.answer(QUESTION))
    assert len(own.turns) == 2


def test_the_oldest_turns_go_where_the_context_ends(sft: Candidate) -> None:
    own = speaker(sft, new_tokens=8)
    forgotten = []
    for _ in range(12):
        list(own.answer(QUESTION))
        forgotten.append(own.forgotten)
        assert own.turns[0].role == "user"
    assert forgotten[0] == 0 and forgotten[-1] == 2 and len(own.turns) < 24
    turns = list(own.turns)
    with pytest.raises(ValueError, match="tokens are too many for sft: 120 fit beside an answer of 8"):
        own.answer("word " * 200)
    assert own.turns == turns, "a refused question is none of the conversation"


def test_an_answer_may_fill_the_context_and_a_question_half_of_it(sft: Candidate, monkeypatch: pytest.MonkeyPatch) -> None:
    """By default an answer may have more tokens than a small model has positions."""
    own = speaker(sft, new_tokens=256)
    list(own.answer(QUESTION))
    assert own.finished and own.turns[1].text
    own.forget()
    monkeypatch.setattr("rlhf_core.chat.speaker.stop_tokens", lambda chat, device: torch.zeros(chat.vocab_size, dtype=torch.bool))
    [ids] = sft.encode([Record("x", None, (Turn("user", QUESTION),))])
    list(own.answer(QUESTION))
    assert not own.finished and len(list(own._tokens(ids))) == sft.context - len(ids)
    with pytest.raises(ValueError, match="64 fit beside an answer of 64"):
        own.answer("word " * 60)


def test_an_answer_that_is_broken_off_stays_as_far_as_it_was_said(sft: Candidate) -> None:
    own = speaker(sft)
    first = next(own.answer(QUESTION))
    assert [turn.text for turn in own.turns] == [QUESTION, first.strip()] and not own.finished
    own.answer("Name the capital of Bex.")  # broken off before its first word
    assert [turn.text for turn in own.turns[2:]] == ["Name the capital of Bex.", ""]


def test_the_last_question_can_be_taken_back(sft: Candidate) -> None:
    own = speaker(sft)
    list(own.answer(QUESTION))
    turns = list(own.turns)
    list(own.answer("Name the capital of Bex."))
    assert own.undo() == "Name the capital of Bex." and own.turns == turns
    assert own.undo() == QUESTION and own.turns == [] and own.undo() is None


def test_drawn_answers_follow_the_seed(sft: Candidate) -> None:
    said = ["".join(speaker(sft, temperature=3.0, seed=seed).answer(QUESTION)) for seed in (1, 1, 2)]
    assert said[0] == said[1] != said[2]


class _Tokenizer:
    """Bytes as tokens."""

    def decode(self, ids: list[int], **_: Any) -> str:
        return bytes(ids).decode("utf-8", "replace")


def test_a_chinese_character_comes_whole(sft: Candidate, monkeypatch: pytest.MonkeyPatch) -> None:
    class Chat:
        tokenizer = _Tokenizer()

    own = speaker(sft)
    monkeypatch.setattr(own, "model", type("Model", (), {"chat": Chat()})())
    monkeypatch.setattr(own, "_tokens", lambda ids: iter("河水a。".encode()))
    assert list(own._texts([])) == ["河", "河水", "河水a", "河水a。"]
    monkeypatch.setattr(own, "_tokens", lambda ids: iter("河".encode()[:2]))
    assert list(own._texts([])) == ["\N{REPLACEMENT CHARACTER}"]  # it ended in the middle of one


def session(chain: Chain, *arguments: str) -> tuple[program.Session, list[str]]:
    said: list[str] = []
    folders = [str(chain.world / argument) if (chain.world / argument).is_dir() else argument for argument in arguments]
    options = program._options().parse_args([*folders, "--max-new-tokens", "12"])
    return program.open_session(options, said.append), said


def test_two_models_a_reward_and_commands(chain: Chain) -> None:
    talk, said = session(chain, "sft", "--second", "pretrain", "--reward-model", "reward", "--system", "Be brief.")
    assert talk.run(["", QUESTION, "/help", "/sing", "/system", "/quit", "never asked"]) == 0
    text = "".join(said)
    assert "[sft]" in text and "[pretrain]" in text and " │ " in text
    assert "(sft: reward " in text and "(pretrain: reward " in text
    assert "/system TEXT" in text and "there is no command /sing" in text and "never asked" not in text
    assert [s.turns for s in talk.speakers] == [[], []] and talk.speakers[0].system is None


def other_marks(chain: Chain, folder: Path) -> Path:
    """The SFT model, told of turns by marks of its own."""
    shutil.copytree(chain.world / "sft" / "model", folder / "other")
    template = "{% for m in messages %}{{ '[' + m.role + '] ' + m.content + eos_token }}{% endfor %}{% if add_generation_prompt %}{{ '[assistant] ' }}{% endif %}"
    (folder / "other" / "chat_template.jinja").write_text(template)
    return folder / "other"


def test_each_of_two_models_is_asked_by_its_own_template(chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = other_marks(chain, tmp_path)
    alone = [session(chain, name)[0].speakers[0] for name in ("sft", str(other))]
    asked = [one.model.chat.prompt_text(None, (Turn("user", QUESTION),)) for one in alone]
    assert asked[1] == f"[user] {QUESTION}{alone[1].model.chat.tokenizer.eos_token}[assistant] " and asked[0] != asked[1]
    monkeypatch.setenv("COLUMNS", "200")
    talk, said = session(chain, "sft", "--second", str(other))
    talk.ask(QUESTION)
    for one, own in zip(talk.speakers, alone, strict=True):
        assert one.turns[1].text == "".join(own.answer(QUESTION)).strip()
    columns = ["".join(line.split(" │ ")[place].rstrip() for line in "".join(said).splitlines() if " │ " in line) for place in (0, 1)]
    assert columns[0].startswith("[sft]") and columns[1].startswith("[other]")


def test_a_base_models_artifact_goes_on_with_the_bare_question(chain: Chain, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its folder has a chat template for those that come after it, but it has never seen one filled."""
    for kind in ("pretrain", "sft"):
        home = tmp_path / kind / "0123"
        shutil.copytree(chain.world / kind / "model", home / "model")
        (home / "manifest.json").write_text(json.dumps({"stage": f"my_{kind}", "settings": {"kind": kind}}))
    talk, _ = session(chain, str(tmp_path / "pretrain" / "0123"), "--second", str(tmp_path / "sft" / "0123" / "model"))
    assert [(one.model.name, one.model.kind, one.model.plain) for one in talk.speakers] == [("my_pretrain", "pretrain", True), ("my_sft", "sft", False)]
    assert capsys.readouterr().err.startswith("my_pretrain has not learned to chat")


def test_a_question_that_one_model_refuses_is_asked_of_none(chain: Chain) -> None:
    talk, said = session(chain, "sft", "--second", "pretrain")
    talk.ask(QUESTION)
    talk.speakers[1].room = talk.speakers[1].model.context
    talk.ask("And of Bex?")
    assert said[-1].startswith("error: ") and "tokens are too many for pretrain" in said[-1] and [len(one.turns) for one in talk.speakers] == [2, 2]
    assert talk.command("/undo") and said[-1] == f"taken back: {QUESTION}\n" and [one.turns for one in talk.speakers] == [[], []]
    assert talk.command("/undo") and said[-1] == "there is nothing to take back\n"


def test_two_answers_that_are_broken_off_are_rewarded_as_answers(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while the first speaks: the second has said nothing, and nothing is what is scored."""
    talk, said = session(chain, "sft", "--second", "pretrain", "--reward-model", "reward")
    scored: list[str] = []
    assert talk.reward_model is not None
    score = talk.reward_model.score_texts
    monkeypatch.setattr(talk.reward_model, "score_texts", lambda prompts, texts, finished: scored.extend(texts) or score(prompts, texts, finished))

    def interrupted(ids: list[int]) -> Iterator[int]:
        raise KeyboardInterrupt
        yield 0

    monkeypatch.setattr(talk.speakers[0], "_tokens", interrupted)
    talk.ask(QUESTION)
    assert scored == ["", ""] and [[turn.text for turn in one.turns] for one in talk.speakers] == [[QUESTION, ""]] * 2
    assert "(broken off)" in "".join(said) and "(pretrain: reward " in said[-1]
    monkeypatch.setattr(talk.reward_model, "fits", lambda prompts, texts: [False])
    assert "(sft: too long for the reward model; not finished)" in talk.remarks()


def test_bytes_that_are_no_text_end_no_conversation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("河\n".encode() + b"\xff?\n"), encoding="utf-8"))
    assert list(program._questions()) == ["河", "\N{REPLACEMENT CHARACTER}?"]


def test_a_pipe_is_answered_and_ends_with_its_end(chain: Chain, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{QUESTION}\n/new\n{QUESTION}\n"))
    assert program.main([str(chain.world / "sft"), "--max-new-tokens", "12", "--threads", "1"]) == 0
    first, second = capsys.readouterr().out.split("new conversation\n")
    assert first.strip() and first.strip() == second.strip()


def test_control_c_breaks_an_answer_off_and_leaves_the_program_at_the_prompt(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    talk, said = session(chain, "sft")
    tokens = talk.speakers[0]._tokens

    def interrupted(ids: list[int]) -> Iterator[int]:
        yield next(tokens(ids))
        raise KeyboardInterrupt

    monkeypatch.setattr(talk.speakers[0], "_tokens", interrupted)
    talk.ask(QUESTION)
    assert "".join(said).endswith(" (broken off)\n(not finished)\n")
    assert len(talk.speakers[0].turns) == 2
    for ending in (KeyboardInterrupt, EOFError):
        def typed(prompt: str, ending: type[BaseException] = ending) -> str:
            raise ending

        monkeypatch.setattr(sys, "stdin", type("Terminal", (), {"isatty": lambda self: True})())
        monkeypatch.setattr("builtins.input", typed)
        assert list(program._questions()) == []


def test_what_is_no_model_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main([str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and str(tmp_path) in error and "Traceback" not in error


def test_a_language_model_gives_no_rewards(chain: Chain, capsys: pytest.CaptureFixture[str]) -> None:
    """It would be given a score head that has learned nothing."""
    assert program.main([str(chain.world / "sft"), "--reward-model", str(chain.world / "pretrain"), "--threads", "1"]) == 2
    assert "is no reward model" in capsys.readouterr().err


def test_lines_are_broken_by_cells() -> None:
    assert list(wrapped(["one two", " three"], 8)) == ["one two", "three"]
    assert list(wrapped(["河水很清，鱼很多"], 7)) == ["河水很", "清，鱼", "很多"]
    assert list(wrapped(["abcdefghij"], 4)) == ["abcd", "efgh", "ij"]
    assert list(wrapped(["a\n\nb"], 4)) == ["a", "", "b"]
    assert cells("河a") == 3
    assert list(wrapped(["河"], 1)) == ["河"]


def test_columns_stand_side_by_side() -> None:
    rows = list(side_by_side(["银梭河\n"], ["The Silverrun", " flows"], 23))
    assert rows == ["银梭河     │ The", "           │ Silverrun", "           │ flows"]


def test_a_model_cannot_steer_the_terminal() -> None:
    assert shown("a\x1b[2Jb\x07\nc\u202e") == "a[2Jb\nc"
