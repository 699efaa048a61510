"""A corpus on disk and the rows that are cut from it: the same as if all of it lay in memory, without its lying there."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from rlhf_core.dataset import token_store
from rlhf_core.dataset.blocks import Blocks, Segments, pack, windows
from rlhf_core.dataset.corpus import held_out
from rlhf_core.dataset.token_store import Documents, joined, tokenized
from rlhf_core.engine import Ranks
from rlhf_core.job.errors import BadInput

END = 1
ALONE = Ranks(0, 1, torch.device("cpu"))


def chat(name: str = "a") -> Any:
    """A tokenizer by code points."""
    backend = SimpleNamespace(to_str=lambda: name)
    tokenizer = SimpleNamespace(backend_tokenizer=backend, chat_template="")
    return SimpleNamespace(tokenizer=tokenizer, end_id=END, plain=lambda texts: [[ord(c) for c in text] for text in texts])


def write(folder: Path, *parts: list[str]) -> Path:
    """A corpus of shards; every third document is Chinese."""
    (folder / "documents").mkdir(parents=True)
    for number, texts in enumerate(parts):
        rows = [{"id": f"{number}-{i}", "lang": "zh" if i % 3 == 2 else "en", "text": text} for i, text in enumerate(texts)]
        table = pa.Table.from_pylist(rows, pa.schema([("id", pa.string()), ("lang", pa.string()), ("text", pa.string())]))
        pq.write_table(table, folder / "documents" / f"part-{number:05d}.parquet")
    return folder


TEXTS = ["hello", "", "a longer text", "x", "\u4f60\u597d\u4e16\u754c", "another one", "end"]


def test_documents_are_those_of_the_files_in_their_order(tmp_path: Path) -> None:
    found = tokenized(write(tmp_path / "c", TEXTS, [], TEXTS[:2]), chat(), tmp_path / "store", ALONE)
    texts = ["".join(map(chr, found.ids(row))) for row in range(len(found))]
    kept = [text for text in TEXTS if text]  # what has no token is no document
    assert texts == [*kept, "hello"]
    assert found.size.tolist() == [len(text.encode()) for text in texts]
    assert [found.langs[lang] for lang in found.lang] == ["en", "zh", "en", "en", "zh", "en", "en"]
    ids = [*(f"0-{i}" for i, text in enumerate(TEXTS) if text), "2-0"]
    for share in (0.1, 0.5, 0.9):
        assert found.are_held_out(share).tolist() == [held_out(identity, share) for identity in ids]


def test_ranks_write_a_share_each_and_read_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus, written = write(tmp_path / "c", ["a"], ["b"], ["c"]), []
    plain = token_store._write
    monkeypatch.setattr(token_store, "_write", lambda documents, target: (written.append(target.name[:10]), plain(documents, target)))
    monkeypatch.setattr(Ranks, "barrier", lambda self: None)
    other = Ranks(1, 2, torch.device("cpu"))
    with pytest.raises(OSError, match="part-00000"):  # no rank 0 here to write it
        tokenized(corpus, chat(), tmp_path / "store", other)
    assert written == ["part-00001"]
    found = tokenized(corpus, chat(), tmp_path / "store", Ranks(0, 2, torch.device("cpu")))
    assert written == ["part-00001", "part-00000", "part-00002"]
    assert [chr(found.ids(row)[0]) for row in range(3)] == ["a", "b", "c"]
    tokenized(corpus, chat(), tmp_path / "store", ALONE)
    assert len(written) == 3  # a resumed job writes nothing again


def test_nothing_half_written_or_stale_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus, store = write(tmp_path / "c", ["abc", "de"]), tmp_path / "store"

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", full)
        with pytest.raises(OSError, match="No space"):
            tokenized(corpus, chat(), store, ALONE)
    assert not list(store.glob("part-*"))
    assert tokenized(corpus, chat(), store, ALONE).length.tolist() == [3, 2]
    other = SimpleNamespace(**vars(chat("b")) | {"plain": lambda texts: [[7] for _ in texts]})
    assert tokenized(corpus, other, store, ALONE).length.tolist() == [1, 1]
    file = corpus / "documents" / "part-00000.parquet"
    os.utime(file, ns=(5, 5))
    assert tokenized(corpus, chat(), store, ALONE).length.tolist() == [3, 2]
    assert len(list(store.glob("part-*.npz"))) == 3


def test_shards_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    """Each was an error of pyarrow's that named no file."""
    ranks, shard = Ranks(0, 1, torch.device("cpu")), tmp_path / "part-00000.parquet"
    table = pa.table({"id": [7], "lang": ["en"], "text": ["a"]})

    def refused() -> str:
        with pytest.raises(BadInput, match=f"{shard}.* (cannot be read|is no shard)") as error:
            tokenized(tmp_path, chat(), tmp_path / "store", ranks)
        return str(error.value)

    shard.write_bytes(b"no Parquet")
    assert "cannot be read: Parquet magic bytes" in refused()
    pq.write_table(table.drop(["lang"]), shard)
    assert "it has no lang that holds text" in refused()
    pq.write_table(table.set_column(2, "text", pa.array([5])), shard)
    assert "it has no text that holds text" in refused()
    pq.write_table(table, shard)
    assert len(tokenized(tmp_path, chat(), tmp_path / "store", ranks)) == 1


def random_documents(count: int, longest: int, seed: int) -> tuple[Documents, list[list[int]]]:
    rng = np.random.default_rng(seed)
    lists = [rng.integers(2, 99, rng.integers(1, longest + 1)).tolist() for _ in range(count)]
    flat = np.concatenate([np.asarray(ids, np.int32) for ids in lists])
    length = np.array([len(ids) for ids in lists])
    zeros = np.zeros(count, np.int32)
    return Documents([flat], ["en"], zeros, length.cumsum() - length, length, length, zeros, zeros.astype(np.uint64)), lists


@pytest.mark.parametrize(("width", "longest"), [(2, 5), (7, 3), (7, 40), (64, 10)])
def test_packed_rows_are_the_joined_stream_cut_up(width: int, longest: int) -> None:
    documents, lists = random_documents(50, longest, width)
    order = np.random.default_rng([4, 0xD0C]).permutation(50)
    stream = [END, *(token for place in order for token in (*lists[place], END))]
    blocks = pack(documents, END, width, 4)
    assert len(blocks) == (len(stream) - 1) // (width - 1)
    rows = blocks[list(range(len(blocks)))]
    assert rows.dtype == torch.int64
    assert rows.tolist() == [stream[i * (width - 1) : i * (width - 1) + width] for i in range(len(blocks))]
    assert blocks[[3, 1]].tolist() == [rows[3].tolist(), rows[1].tolist()]


def test_parts_of_documents_follow_one_another_with_an_end_only_where_one_is_due() -> None:
    documents, lists = random_documents(2, 9, 8)
    first, second = lists
    parts = Segments.of(np.array([0, 1, 0]), np.array([0, 0, 1]), np.array([1, len(second), len(first) - 1]), np.array([False, True, True]))
    stream = [END, first[0], *second, END, *first[1:], END]
    blocks = Blocks(documents, parts, END, len(stream))
    assert blocks[[0]].tolist() == [stream]
    with pytest.raises(BadInput, match=f"{len(stream)} tokens, fewer than one block"):
        Blocks(documents, parts, END, len(stream) + 1)


def test_windows_predict_every_token_and_the_end_once() -> None:
    documents, lists = random_documents(20, 30, 2)
    found = windows(documents, END, 8)
    assert sorted(found.length.tolist()) == found.length.tolist()
    predicted: dict[int, dict[int, int]] = {}
    for number in range(len(found)):
        tokens, row = found.tokens(number), int(found.row[number])
        assert len(tokens) == found.length[number] and tokens.mask == [False] + [True] * (len(tokens) - 1)
        for place, token in enumerate(tokens.ids[1:], int(found.first[number]) + 1):
            assert place not in predicted.setdefault(row, {})
            predicted[row][place] = token
    assert {row: [known[i] for i in sorted(known)] for row, known in predicted.items()} == {
        row: [*ids, END] for row, ids in enumerate(lists)
    }


def test_a_corpus_takes_memory_for_its_documents_not_for_its_tokens(tmp_path: Path) -> None:
    """Eight million tokens, 32 MB; held at once they would be twice that, as rows four times."""
    shard, text = ["x"] * 1000, [5] * 2000
    corpus = write(tmp_path / "c", *[shard] * 4)
    long = SimpleNamespace(**vars(chat()) | {"plain": lambda texts: [text for _ in texts]})
    tracemalloc.start()
    try:
        documents = tokenized(corpus, long, tmp_path / "store", ALONE)
        blocks = pack(joined([documents, documents]), END, 512, 1)
        assert sum(int((blocks[[number]] == 5).sum()) for number in range(0, len(blocks), 50)) > 100_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert int(documents.length.sum()) == 8_000_000
    assert peak < 3_000_000
