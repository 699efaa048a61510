"""Win rates by hand; the stage from answers to verdicts; a person's sheet against the judges."""

from __future__ import annotations

import csv
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from flows import evaluation as command
from tasks.judging import overall, summarise, tally
from tasks.store.artifacts import Store
from tests.data.instructions.server import Server, answer
from tests.tasks.evaluated import answers, evaluation, judgement, read
from tests.tasks.test_teachers import byte_tokenizer, small_llama


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def verdict(value: float | None, one: str | None = "tie", two: str | None = "tie", **given: Any) -> dict[str, Any]:
    plain = {"judge": "teacher", "criterion": "tone", "set": "prompts", "id": "1", "lang": "en", "model": "ppo", "failure": None if value is not None else "failed"}
    return {**plain, "value": value, "orders": [one, two]} | given


def test_tally_by_hand() -> None:
    lines = [
        verdict(1.0, "model", "model"), verdict(0.5, "model", "baseline"), verdict(0.5), verdict(0.0, "baseline", "baseline", lang="zh"),
        verdict(0.75, "model", "tie"), verdict(None, "model", None), verdict(None, None, None, failure="unreadable"),
    ]  # fmt: skip
    found = tally(lines)
    assert (found["wins"], found["ties"], found["losses"]) == (2, 2, 1)
    assert found["win_rate"]["value"] == pytest.approx(2.75 / 5) and found["win_rate"]["count"] == 5
    assert found["disagreement"] == pytest.approx(2 / 5)  # the second and the fifth
    # The model stands first in the first order, the baseline in the second: what stood first won 1 + 2 + 0 + 1 + 1 of 7 decided orders.
    assert found["first_preferred"] == pytest.approx(5 / 7)
    assert found["failures"] == {"failed": 1, "unreadable": 1}
    assert found["p_value"] == 1.0 and found["languages"]["zh"]["value"] == 0.0


def test_nothing_judged_is_no_zero() -> None:
    found = tally([verdict(None), verdict(None)])
    assert found["win_rate"] is None and found["failures"] == {"failed": 2} and found["languages"] == {}


def test_overall_is_the_mean_of_the_criteria_that_were_judged() -> None:
    lines = [verdict(1.0), verdict(0.5, criterion="correctness"), verdict(None, criterion="instruction"), verdict(None, id="2")]
    assert [line["value"] for line in overall(lines)] == [0.75, None]
    assert summarise(lines)["teacher"]["ppo"]["overall"]["win_rate"]["value"] == 0.75
    assert overall([verdict(1.0, criterion="overall")]) == []


def test_stage_by_rule_and_reward(store: Store) -> None:
    evaluated = evaluation(store, 1, answers({"pretrain": 0, "sft": 20, "ppo": 30}))
    artifact = judgement(store, evaluated, sets=["questions", "prompts"])
    judges = read(store, artifact, "judgement.json")["judges"]
    # 30 right against 20: ten questions won, the others alike; prompts are alike by rule.
    rule = judges["rule"]["ppo"]["overall"]
    assert (rule["wins"], rule["ties"], rule["losses"]) == (10, 60, 0) and rule["p_value"] == pytest.approx(2 / 2**10)
    assert rule["win_rate"]["value"] == pytest.approx((10 + 30) / 70, abs=1e-6)
    reward = judges["reward"]["ppo"]["overall"]
    assert reward["wins"] == 30 and reward["failures"] == {"no_reward": 40}
    assert judges["reward"]["pretrain"]["overall"]["losses"] == 30
    again = judgement(store, evaluated, sets=["questions", "prompts"])
    assert again == artifact


def test_a_server_that_times_out_or_babbles_costs_its_comparisons_and_is_counted(store: Store) -> None:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        good = answer("A", "stop")
        server.script = [good, answer("B", "stop"), "slow", good, answer("I like\u2028them all.", "stop"), good, answer("A", "length"), good, good, answer("B", "stop")]
        evaluated = evaluation(store, 1, answers({"sft": 20, "ppo": 30}, prompts=5))
        live = {"teacher_url": server.url, "teacher_model": "m", "teacher_timeout_seconds": 0.4, "teacher_retries": 0, "teacher_concurrency": 1}
        artifact = judgement(store, evaluated, judges=["teacher"], criteria=["tone"], **live)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    found = read(store, artifact, "judgement.json")
    tone = found["judges"]["teacher"]["ppo"]["tone"]
    assert tone["failures"] == {"failed": 1, "unreadable": 1, "cut_off": 1}
    assert (tone["wins"], tone["ties"], tone["losses"], tone["win_rate"]["count"]) == (2, 0, 0, 2)  # A, then B with the orders turned
    assert (found["teacher_calls"], found["teacher_tokens_in"]) == (10, 63)  # the time-out was charged nothing
    assert len(server.seen) == 10


def test_sheet_filled_and_read_back(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluated = evaluation(store, 1, answers({"sft": 20, "ppo": 30}))
    artifact = judgement(store, evaluated, judges=["reward"], sheet=20)
    sheet = tmp_path / "sheet.csv"
    ask = ["--store", store.url, "--sheet", f"judgement/{artifact.fingerprint[:8]}", "--out", str(sheet)]
    assert command.main(ask) == 0 and "20 pairs" in capsys.readouterr().out
    assert command.main(ask) == 2 and "is there already" in capsys.readouterr().err
    assert command.main(["--store", store.url, "--sheet", evaluated.artifact.url]) == 2 and "belongs to a judgement" in capsys.readouterr().err
    with sheet.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    for number, row in enumerate(rows):  # the person agrees with the reward model on 15 of 20
        own = "A" if row["answer A"].startswith("ppo") else "B"
        row["better"] = own if number >= 5 else "tie"
    with sheet.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    assert command.main(["--store", store.url, "--agreement", str(sheet)]) == 0
    line = capsys.readouterr().out.splitlines()[1].split()
    assert line[:4] == ["reward", "overall", "20", "75.0%"] and "87.5%" in line
    assert command.main(["--store", str(tmp_path / "other"), "--agreement", str(sheet)]) == 2
    assert "has written sheet" in capsys.readouterr().err


def test_missing_answers_are_an_error(store: Store) -> None:
    evaluated = evaluation(store, 1, answers({"sft": 1}))
    path = Path(store.local(evaluated.artifact)) / "answers.jsonl"
    path.write_text(json.dumps({"id": 1}) + "\n")
    with pytest.raises(ValueError, match="line 1: an answer has id, set"):
        judgement(store, evaluated)


def saying_a(folder: Path) -> str:
    """A real model that says "A" to whatever it is asked: every token but "A" makes it write "A", and "A" makes it end."""
    import torch

    tokenizer = byte_tokenizer()
    network, letter = small_llama(tokenizer), tokenizer.convert_tokens_to_ids("A")
    with torch.no_grad():
        network.model.layers[0].self_attn.o_proj.weight.zero_()
        network.model.layers[0].mlp.down_proj.weight.zero_()
        network.model.embed_tokens.weight.zero_()[:, 0] = 1.0
        network.model.embed_tokens.weight[letter] = torch.eye(32)[1]
        network.lm_head.weight.zero_()
        network.lm_head.weight[letter, 0] = network.lm_head.weight[tokenizer.eos_token_id, 1] = 20.0
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_real_server_judges(store: Store, tmp_path: Path) -> None:
    """`transformers serve` on loopback as the judge: it goes by position, and that is what the figures say."""
    pytest.importorskip("openai", reason="the extra `serve` is not installed")
    evaluated = evaluation(store, 1, answers({"sft": 20, "ppo": 30}, prompts=4))
    artifact = judgement(store, evaluated, judges=["teacher"], criteria=["tone", "correctness"], teacher_local=saying_a(tmp_path / "judge"), teacher_timeout_seconds=100)
    found = read(store, artifact, "judgement.json")
    for criterion in ("tone", "correctness", "overall"):
        tally = found["judges"]["teacher"]["ppo"][criterion]
        assert (tally["wins"], tally["ties"], tally["losses"], tally["failures"]) == (0, 4, 0, {})
    assert (tally["disagreement"], tally["first_preferred"]) == (None, None)  # the mean of the criteria has no orders
    tone = found["judges"]["teacher"]["ppo"]["tone"]
    assert (tone["disagreement"], tone["first_preferred"], tone["win_rate"]["value"]) == (1.0, 1.0, 0.5)
    assert found["teacher_calls"] == 16 and found["teacher_tokens_out"] in (16, 32)
