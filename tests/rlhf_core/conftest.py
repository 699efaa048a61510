"""A toy world, its vocabulary, and models of width 32 that are trained once a session."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("DS_ACCELERATOR", "cpu")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from tests.rlhf_core import toy


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """corpus/, splits/ and tokenizer/ of the toy world."""
    from rlhf_core.dataset.vocabulary import train_tokenizer
    from rlhf_core.settings import TokenizerSettings

    folder = tmp_path_factory.mktemp("world")
    toy.write_world(folder)
    shards = sorted((folder / "corpus" / "documents").glob("*.parquet"))
    train_tokenizer(shards, TokenizerSettings(vocab_size=400), folder / "tokenizer")
    return folder


@pytest.fixture(scope="session")
def chain(world: Path) -> toy.Chain:
    """pretrain -> sft -> reward, run in this process; tests add to it."""
    import torch

    torch.set_num_threads(1)
    chain = toy.Chain(world)
    chain.run("pretrain", kind="pretrain")
    chain.run("sft", kind="sft")
    chain.run("reward", kind="reward")
    return chain
