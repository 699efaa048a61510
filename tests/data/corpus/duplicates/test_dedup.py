from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from datasketch import MinHash, MinHashLSH
from hypothesis import given, settings
from hypothesis import strategies as st

from data.corpus.duplicates import clusters, keys
from data.corpus.duplicates.components import Components
from data.corpus.duplicates.dedup import find_duplicates
from data.corpus.duplicates.minhash import band_keys, minhash, minima_of, signatures
from data.document import Counts
from data.settings import DedupSettings
from data.shards import write_shard
from data.text import normalise, shingles
from tests.data.corpus.helpers import documents, read_all


def jaccard(left: Iterable[int], right: Iterable[int]) -> float:
    return len(set(left) & set(right)) / len(set(left) | set(right))


VOCABULARY = [f"word{n}" for n in range(2000)]


def _texts(count: int, changes: float, seed: int = 1, length: int = 200) -> list[str]:
    """`count` texts and, after each, a copy of it with a share of its words changed."""
    rng = random.Random(seed)
    texts = []
    for _ in range(count):
        text = [rng.choice(VOCABULARY) for _ in range(length)]
        copy = [rng.choice(VOCABULARY) if rng.random() < changes else word for word in text]
        texts += [" ".join(text), " ".join(copy)]
    return texts


def _clusters(tmp_path: Path, table: pa.Table, cuts: list[int], **changes: float) -> dict[str, tuple[str, int]]:
    config = DedupSettings(**changes)  # type: ignore[arg-type]
    documents_shards, signature_shards = [], []
    for number, (start, stop) in enumerate(zip([0, *cuts], [*cuts, table.num_rows], strict=True)):
        part = table.slice(start, stop - start)
        documents_shards.append(tmp_path / f"documents-{number}.parquet")
        signature_shards.append(tmp_path / f"signatures-{number}.parquet")
        write_shard(documents_shards[-1], part)
        write_shard(signature_shards[-1], signatures(part, config))
    find_duplicates(signature_shards, tmp_path / "out", config, documents_shards)
    rows = read_all(tmp_path / "out" / "labels")
    assert [row["id"] for row in rows] == table["id"].to_pylist()
    return {row["id"]: (row["duplicate_cluster"], row["duplicate_size"]) for row in rows}


def test_the_oracle_finds_the_same_candidates() -> None:
    config = DedupSettings()
    sets = [shingles(text) for text in _texts(60, 0.03)]
    minima = minhash(sets, config)
    lsh = MinHashLSH(num_perm=112, params=(config.bands, config.rows))
    oracle = [MinHash(num_perm=112, hashvalues=row.astype(np.uint32), scheme="affine32") for row in minima]
    for number, signature in enumerate(oracle):
        lsh.insert(number, signature)
    keys = band_keys(minima, config)
    for number, signature in enumerate(oracle):
        mine = set(np.flatnonzero((keys == keys[number]).any(axis=1)).tolist())
        assert mine == set(lsh.query(signature))


def test_signatures_estimate_jaccard_like_the_oracle() -> None:
    """Mean error of both estimates is that of 112 coin throws; mine is no worse than 1.3 times datasketch's."""
    errors: dict[str, list[float]] = {"mine": [], "oracle": []}
    for number, changes in enumerate((0.01, 0.03, 0.1)):
        texts = _texts(40, changes, seed=number)
        sets = [np.unique(shingles(text)) for text in texts]
        minima = minhash(sets, DedupSettings())
        for at in range(0, len(sets), 2):
            true = jaccard(sets[at].tolist(), sets[at + 1].tolist())
            errors["mine"].append(abs(float((minima[at] == minima[at + 1]).mean()) - true))
            pair = [MinHash(num_perm=112, hashfunc=lambda value: int(value) >> 32) for _ in range(2)]
            for signature, values in zip(pair, (sets[at], sets[at + 1]), strict=True):
                signature.update_batch(values.tolist())
            errors["oracle"].append(abs(pair[0].jaccard(pair[1]) - true))
    assert np.mean(errors["mine"]) < 0.045
    assert np.mean(errors["mine"]) < 1.3 * np.mean(errors["oracle"]) + 0.005


def test_near_copies_are_found_and_others_are_not(tmp_path: Path) -> None:
    table = documents(*_texts(100, 0.01))
    found = _clusters(tmp_path, table, [77])
    ids = table["id"].to_pylist()
    together = sum(found[ids[at]][0] == found[ids[at + 1]][0] for at in range(0, 200, 2))
    assert together >= 98  # Jaccard about .9: P(candidate) > .99
    assert max(size for _, size in found.values()) == 2


@settings(deadline=None, max_examples=10)
@given(order=st.permutations(range(12)), cuts=st.lists(st.integers(0, 12), max_size=3).map(sorted))
def test_clusters_depend_on_neither_order_nor_shards(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], cuts: list[int]
) -> None:
    texts = [*_texts(4, 0.02), "!!", "??", "short text", "short  TEXT!"]
    table = documents(*texts)
    for verify in (False, True):
        folder = tmp_path_factory.mktemp("dedup")
        changes = {"verify": verify, "threshold": 0.7}
        one = _clusters(folder, table, [], **changes)
        assert _clusters(folder / "x", table.take(order), cuts, **changes) == one
        ids = table["id"].to_pylist()
        assert one[ids[8]][1] == one[ids[9]][1] == 1
        assert one[ids[10]] == one[ids[11]]
        assert one[ids[10]][1] == 2


@pytest.mark.parametrize("verify", [True, False])
def test_partitions_change_nothing(tmp_path: Path, verify: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """One partition of everything against many of few rows; names of three shards in memory against one."""
    texts = [*_texts(30, 0.02), *["the same short text"] * 5]
    whole = _clusters(tmp_path / "whole", documents(*texts), [20, 21, 50], verify=verify)
    monkeypatch.setattr(keys, "_PARTITION_ROWS", 7)
    monkeypatch.setattr(clusters, "_PARTITION_ROWS", 7)
    monkeypatch.setattr(clusters, "_BUCKET_SHARDS", 1)
    assert _clusters(tmp_path / "parts", documents(*texts), [20, 21, 50], verify=verify) == whole
    assert sorted({size for _, size in whole.values()}) == [1, 2, 5]


def test_another_threshold_is_decided_by_the_same_signatures(tmp_path: Path) -> None:
    """Bands that a threshold chooses are made of the minima that are there: 14 x 8 and 37 x 3 of the same 112."""
    table = documents(*_texts(30, 0.06))  # Jaccard about .55
    strict, loose = (DedupSettings.model_validate({"threshold": at, "bands": None, "rows": None}) for at in (0.8, 0.5))
    assert signatures(table, strict).equals(signatures(table, loose)) and strict.signatures == loose.signatures
    assert band_keys(minima_of(signatures(table, strict), loose), loose).shape == (60, 37)
    with pytest.raises(ValueError, match="15 bands of 8 rows take 120 hash functions: raise hashes, which is 112"):
        DedupSettings(bands=15)


def test_verification_lets_go_of_what_is_not_alike(tmp_path: Path) -> None:
    table = documents(*_texts(30, 0.06))  # Jaccard about .55
    loose = _clusters(tmp_path / "a", table, [], bands=56, rows=2, verify=False)
    strict = _clusters(tmp_path / "b", table, [13], bands=56, rows=2, threshold=0.8)
    sets = dict(zip(table["id"].to_pylist(), [np.unique(shingles(text)) for text in table["text"].to_pylist()], strict=True))
    assert sum(size > 1 for _, size in loose.values()) > 50
    for document, (cluster, size) in strict.items():
        if size == 2:
            assert jaccard(sets[document].tolist(), sets[cluster].tolist()) >= 0.8


def test_comparing_loses_no_true_copy(tmp_path: Path) -> None:
    """What is found with comparing is what the bands find without it, less the pairs below the threshold."""
    table = documents(*_texts(60, 0.03))  # Jaccard about .74
    loose = _clusters(tmp_path / "a", table, [], verify=False)
    strict = _clusters(tmp_path / "b", table, [50])
    ids, texts = table["id"].to_pylist(), table["text"].to_pylist()
    alike = {at for at in range(0, 120, 2) if jaccard(shingles(texts[at]).tolist(), shingles(texts[at + 1]).tolist()) >= 0.72}
    found = [{at for at in range(0, 120, 2) if way[ids[at]][0] == way[ids[at + 1]][0]} for way in (loose, strict)]
    assert found[1] == found[0] & alike
    assert 10 < len(found[1]) < len(found[0])


def test_the_work_folder_is_cleared(tmp_path: Path) -> None:
    table = documents(*_texts(5, 0.01))
    shard, signed = tmp_path / "d.parquet", tmp_path / "s.parquet"
    write_shard(shard, table)
    write_shard(signed, signatures(table, DedupSettings()))
    walked: list[int] = []

    def over_shards(work: Any, shards: Any, out: Path) -> None:
        walked.extend(work(path, out, index).documents_in for index, path in enumerate(shards))

    find_duplicates([signed], tmp_path / "out", DedupSettings(), [shard], tmp_path / "work", over_shards)
    assert walked == [10]
    assert not (tmp_path / "work").exists()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["labels"]


def test_chinese_copies(tmp_path: Path) -> None:
    rng = random.Random(3)
    text = "".join(chr(rng.randrange(0x4E00, 0x5500)) for _ in range(300))
    found = _clusters(tmp_path, documents(text, text[:150] + "新" + text[151:], text[::-1]), [])
    assert sorted(size for _, size in found.values()) == [1, 2, 2]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=30))
def test_components_against_a_plain_search(edges: list[tuple[int, int]]) -> None:
    left, right = (np.array([edge[side] for edge in edges], dtype=np.int64) for side in (0, 1))
    components = Components(20)
    for at in range(0, len(edges), 7):  # some at a time
        components.join((left[at : at + 7], right[at : at + 7]))
    expected = list(range(20))
    for _ in range(20):
        for a, b in edges:
            expected[a] = expected[b] = min(expected[a], expected[b])
    assert components.of(np.arange(20)).tolist() == expected
    assert components.together().tolist() == [expected.count(name) > 1 for name in expected]


def test_a_chain_of_links_is_shortened_by_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row linked to the one before: who followed the chain step by step would need a hundred thousand rounds."""
    components = Components(100_000)
    rounds = []
    same = np.array_equal
    monkeypatch.setattr(np, "array_equal", lambda left, right: (rounds.append(1), same(left, right))[1])
    components.join((np.arange(99_999), np.arange(1, 100_000)))
    assert not components.of(np.arange(100_000)).any()
    assert len(rounds) < 30


def test_no_documents(tmp_path: Path) -> None:
    find_duplicates([], tmp_path, DedupSettings())
    _clusters(tmp_path / "y", documents("one"), [])
    with pytest.raises(ValueError, match=r"duplicates\.verify needs the documents: 1 shards of signatures, 0 of documents"):
        find_duplicates([tmp_path / "y/signatures-0.parquet"], tmp_path, DedupSettings())
    assert _clusters(tmp_path / "x", documents("one"), [0]) != {}


@settings(deadline=None, max_examples=40)
@given(st.lists(st.text(alphabet="aAbé中文 .\n…\u00a0Σ", max_size=60), min_size=1, max_size=6))
def test_signatures_of_many_texts_are_those_of_each(texts: list[str]) -> None:
    config = DedupSettings()
    together = signatures(documents(*texts), config)
    assert np.array_equal(minima_of(together, config), minhash([shingles(text) for text in texts], config))
    folded = [" ".join(normalise(text).split()) for text in texts]
    found = together["text_hash"].to_pylist()
    assert all((found[i] == found[j]) == (folded[i] == folded[j]) for i in range(len(texts)) for j in range(i))


def test_a_kill_while_it_tidies_up_is_made_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is noted as done must not outlive what was done: the next attempt would look for shingles that are gone."""
    config, work, remove = DedupSettings(), tmp_path / "work", shutil.rmtree
    table = documents(*_texts(3, 0.01))
    write_shard(tmp_path / "documents.parquet", table)
    write_shard(tmp_path / "signatures.parquet", signatures(table, config))

    def once(function: Callable[[Path, Path, int], Counts], shards: Sequence[Path], out: Path) -> None:
        for index, shard in enumerate(shards):
            if not (note := work / "done" / str(index)).exists():
                function(shard, out, index)
                note.parent.mkdir(exist_ok=True)
                note.touch()

    def find() -> list[dict[str, Any]]:
        find_duplicates([tmp_path / "signatures.parquet"], tmp_path / "out", config, [tmp_path / "documents.parquet"], work, once)
        return read_all(tmp_path / "out" / "labels")

    def killed(folder: Path, ignore_errors: bool = False) -> None:
        if (folder / "sets").exists():
            remove(folder / "sets")
            raise KeyboardInterrupt
        remove(folder, ignore_errors)

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            find()
    assert [row["duplicate_size"] for row in find()] == [2] * 6
    assert not work.exists()
