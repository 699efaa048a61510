"""One model before and after its vocabulary was extended: what may be compared, and what may not."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from rlhf_core.dataset.vocabulary import train_tokenizer
from rlhf_core.evaluate import evaluate
from rlhf_core.evaluation.candidate import load_candidate
from rlhf_core.job.inputs import Inputs
from rlhf_core.settings import Job, TokenizerSettings
from tasks.reporting.comparing import compare
from tasks.reporting.measured import Measured, items
from tests.rlhf_core.evaluation.test_job import lines
from tests.rlhf_core.toy import Chain

DOMAIN = "The cardiologist of {0} reads the electrocardiogram {1}. 心电图正常，心脏病专家说。"
LENGTHS = (9, 3, 5)  # words of what is said again, so that texts differ in size


@pytest.fixture(scope="module")
def domain(chain: Chain) -> Path:
    """A corpus of another field, half of it held out, and the toy tokenizer extended by it."""
    rows = [{"id": f"{n:032x}", "lang": "en", "text": DOMAIN.format(f"ward {n % 7}", "again " * LENGTHS[n % 3])} for n in range(60)]
    folder = chain.world / "domain" / "documents"
    folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "part-00000.parquet")
    settings = TokenizerSettings(vocab_size=470, extend=str(chain.world / "pretrain"))
    train_tokenizer([folder / "part-00000.parquet"], settings, chain.world / "longer")
    return folder.parent


def test_bits_compare_what_perplexity_cannot(chain: Chain, domain: Path) -> None:
    world = chain.world
    inputs = {"init": str(world / "pretrain"), "tokenizer": str(world / "longer"), "data": str(domain)}
    chain.run("after", "pretrain", inputs, init="pretrain", extended_vocabulary=True, steps=25, eval_share=0.5)
    folder = world / "extension"
    job = {
        "stage": {"held_out_share": 0.5, "window": 128, "launch": {"threads": 1}}, "output": str(folder), "work": str(world),
        "inputs": {"corpus": str(domain), "other:before": str(world / "pretrain"), "pretrain:after": str(world / "after")},
    }  # fmt: skip
    evaluate(Job.model_validate(job))
    report = json.loads((folder / "evaluation.json").read_text())
    before, after = (report["models"][name]["language_model"]["en"] for name in ("before", "after"))
    assert before["documents"] == after["documents"] > 20 and after["tokens"] < before["tokens"]

    written = {(line["model"], line["id"]): line for line in lines(folder / "language_model.jsonl")}
    texts = {row["id"]: row["text"] for row in pq.read_table(domain / "documents").to_pylist()}
    for name, role in (("before", "pretrain"), ("after", "after")):  # by hand: one text at a time, whole, by each one's own tokenizer
        model = load_candidate(Inputs({"pretrain:x": str(world / role)}), "pretrain:x", torch.device("cpu"))
        shortest = min((key[1] for key in written if key[0] == name), key=lambda identity: len(texts[identity]))
        ids = torch.tensor([[model.chat.end_id, *model.chat.tokenizer(texts[shortest], add_special_tokens=False)["input_ids"]]])
        with torch.no_grad():
            logprobs = model.policy.model(ids).logits[0, :-1].log_softmax(-1)
        line = written[name, shortest]
        assert line["tokens"] == ids.shape[1] - 1 and line["bytes"] == len(texts[shortest].encode()) > line["characters"]
        assert ids.shape[1] <= 128  # one window; of several: tests/rlhf_core/evaluation/test_language_model.py
        assert line["nats"] == pytest.approx(-float(logprobs.gather(1, ids[0, 1:, None]).sum()), rel=1e-4)
    for figures, name in ((before, "before"), (after, "after")):
        own = [line for (model, _), line in written.items() if model == name]
        bits = sum(line["nats"] for line in own) / math.log(2)
        assert figures["bits_per_byte"] == pytest.approx(bits / sum(line["bytes"] for line in own), rel=1e-5)
        assert figures["bits_per_character"] == pytest.approx(bits / sum(line["characters"] for line in own), rel=1e-5)
        assert figures["perplexity"] == pytest.approx(2 ** (bits / figures["tokens"]), rel=1e-5)
    assert after["bits_per_byte"] < before["bits_per_byte"]  # it has read the field since
    # Per token the same bits weigh more the fewer tokens there are: perplexity says less than half of the gain, or the contrary.
    assert math.log2(after["perplexity"]) / math.log2(before["perplexity"]) > after["bits_per_byte"] / before["bits_per_byte"]

    # --compare takes the documents as items, though the tokens differ.
    found = items(folder, None, {})
    sides = []
    for name, figures in (("after", after), ("before", before)):
        path = "language_model.en.bits_per_byte"
        sides.append(Measured(name, {path: figures["bits_per_byte"]}, {path: found[f"{name}.{path}"]}))
    [row] = compare(*sides)
    assert row.difference is not None and row.difference.value == pytest.approx(after["bits_per_byte"] - before["bits_per_byte"], rel=1e-4)
    assert row.difference.count == after["documents"] and row.verdict == "better"
