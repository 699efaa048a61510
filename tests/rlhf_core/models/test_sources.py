"""Where models come from: a folder, a hub name; what is no such model is refused by its name, not trained from noise."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest

from rlhf_core.dataset.chat_template import load_chat
from rlhf_core.job.errors import BadInput
from tests.rlhf_core.toy import Chain, read_metrics


def in_cache(cache: Path, name: str, model: Path) -> str:
    """Put a model where the hub's client keeps what it has downloaded; its hub name."""
    commit, folder = "0" * 40, cache / f"models--{name.replace('/', '--')}"
    shutil.copytree(model, folder / "snapshots" / commit)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(commit)
    return name


def test_a_model_by_its_hub_name_is_the_one_in_its_folder(chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    base = in_cache(tmp_path, "org/base", chain.world / "sft" / "model")
    judge = in_cache(tmp_path, "org/judge", chain.world / "reward" / "model")
    for kind, there, here in (
        ("sft", {"init": base}, {"init": str(chain.world / "sft")}),
        ("ppo", {"init": base, "reward_model": judge}, {}),
    ):
        hub = chain.run(f"hub_{kind}", kind, there, steps=2, eval_steps=2)
        assert read_metrics(hub) == read_metrics(chain.run(f"folder_{kind}", kind, here, steps=2, eval_steps=2))
    with pytest.raises(BadInput, match="org/absent"):
        chain.run("hub_absent", "sft", {"init": "org/absent"})


@pytest.mark.parametrize("kind", ["sft", "ppo", "dpo"])
def test_a_reward_model_is_no_policy(chain: Chain, kind: str) -> None:
    """transformers would give it an untrained head, or tie one."""
    with pytest.raises(BadInput, match="is a classifier: it writes no answers"):
        chain.run(f"judge_{kind}", kind, {"init": str(chain.world / "reward")})


def test_a_language_model_is_no_reward(chain: Chain) -> None:
    """transformers would give it a head of noise, and the policy would learn to please that."""
    with pytest.raises(BadInput, match=r"sft/model is no reward model: its config\.json names no sequence classifier"):
        chain.run("no_judge", "rloo", {"reward_model": str(chain.world / "sft")})


@pytest.mark.parametrize(("kind", "role", "more"), [("reward", "init", {}), ("ppo", "value_init", {"value_init": "x"})])
def test_a_classifier_of_several_labels_begins_no_reward_model(chain: Chain, tmp_path: Path, kind: str, role: str, more: Any) -> None:
    """It was a traceback about mismatched sizes."""
    from transformers import LlamaForSequenceClassification

    model: Any = LlamaForSequenceClassification
    model.from_pretrained(chain.world / "sft" / "model", num_labels=3).save_pretrained(tmp_path)
    load_chat(str(chain.world / "sft" / "model")).tokenizer.save_pretrained(tmp_path)
    with pytest.raises(BadInput, match="is a classifier of 3 labels"):
        chain.run(f"labels_{kind}", kind, {role: str(tmp_path)}, steps=1, **more)


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_damaged_model_is_named(chain: Chain, tmp_path: Path, file: str) -> None:
    folder = shutil.copytree(chain.world / "pretrain" / "model", tmp_path / "damaged")
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content[: len(content) // 2])
    with pytest.raises(BadInput, match="damaged"):
        chain.run(f"damaged_{file[:5]}", "sft", {"init": str(folder)})


def test_a_model_of_fewer_rows_than_its_tokenizer_has_tokens_is_named(chain: Chain, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    folder = shutil.copytree(chain.world / "sft" / "model", tmp_path / "narrow")
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.resize_token_embeddings(300)
    model.save_pretrained(folder)
    with pytest.raises(BadInput, match=r"narrow: the model has embeddings of 300 tokens, its own tokenizer has \d+"):
        chain.run("narrow", "sft", {"init": str(folder)}, steps=1)


def test_a_value_model_of_another_vocabulary_is_named(chain: Chain, tmp_path: Path) -> None:
    """As many tokens, two of them exchanged: it would read every answer wrongly, and say nothing."""
    folder = shutil.copytree(chain.world / "reward" / "model", tmp_path / "other")
    content = json.loads((folder / "tokenizer.json").read_text())
    words = content["model"]["vocab"]
    words["a"], words["b"] = words["b"], words["a"]
    (folder / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(BadInput, match="other: its tokenizer numbers tokens otherwise than that of"):
        chain.run("other_value", "ppo", {"value_init": str(folder)}, steps=1, value_init="other")
