"""A later crawl against the index of an earlier corpus."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pytest

from data.corpus.duplicates import keys
from data.corpus.duplicates.dedup import find_duplicates
from data.corpus.duplicates.earlier import Index, label_earlier
from data.corpus.duplicates.index import comparison, index_shards, local_copies
from data.corpus.duplicates.minhash import signatures
from data.corpus.selection import select
from data.document import DOCUMENT_SCHEMA, Counts
from data.settings import DedupSettings, SelectionSettings
from data.shards import list_shards, shard_name, write_shard
from tests.data.corpus.helpers import read_all

SETTINGS = DedupSettings()
STORY = [f"word{n % 97} tells the story of day {n}" for n in range(40)]
NEAR = " ".join(STORY)
ROWS = {"a": NEAR, "b": "Something else altogether, short and plain, that nobody has told before.", "c": "完全不同的一段中文文字，讲的是另外一件事情，和别的都不一样。"}


def _clean(out: Path, texts: dict[str, str], cuts: int = 1, most: int | None = None, **settings: Any) -> Counts:
    """A crawl of `texts` (id letter -> text) through duplicates and selection, in shards of `cuts` documents, texts cut at `most` characters."""
    config = SETTINGS.model_copy(update=settings)
    documents, signed = [], []
    items = list(texts.items())
    for index, at in enumerate(range(0, len(items), cuts)):
        table = [{"id": letter * 32, "source": f"{letter}#0", "text": text} for letter, text in items[at : at + cuts]]
        shard = pa.Table.from_pylist(table, DOCUMENT_SCHEMA)
        documents.append(out / "documents" / shard_name(index))
        signed.append(out / "signatures" / shard_name(index))
        write_shard(documents[-1], shard)
        write_shard(signed[-1], signatures(shard, config))
    find_duplicates(signed, out, config, documents)
    if config.earlier:
        found = [shard for path in config.earlier for shard in index_shards(path, config)]
        label_earlier(signed, out / "labels", Index.fetched(found, out / "earlier"), documents, out / "earlier", config)
    chosen = SelectionSettings(rules=[], prefer=None, max_characters=most)
    return select(documents, {"duplicates": list_shards(out / "labels")}, out / "corpus", chosen, signed, comparison(config)).counts


def test_copies_of_an_earlier_corpus_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _clean(tmp_path / "one", ROWS)
    later = {"m": NEAR.replace("day 7", "night 7"), "n": NEAR + " And so it ends.", "o": ROWS["b"].upper(), "p": "A new text that is like none of the others, and stays."}
    counts = _clean(tmp_path / "two", later, cuts=2, earlier=[str(tmp_path / "one/corpus")])
    assert counts == Counts(4, 1, {"earlier_duplicate": 3})
    assert {row["id"][0]: row["value"][0] for row in read_all(tmp_path / "two/corpus/dropped")} == {"m": "a", "n": "a", "o": "b"}
    monkeypatch.setattr(keys, "_PARTITION_ROWS", 1)
    assert _clean(tmp_path / "parts", later, cuts=2, earlier=[str(tmp_path / "one/corpus")]) == counts
    assert read_all(tmp_path / "parts/labels") == read_all(tmp_path / "two/labels")
    monkeypatch.undo()
    # the third run knows both; the same bytes whatever the shards and the order of indexes
    both = [str(tmp_path / "two/corpus/index"), str(tmp_path / "one/corpus/index")]
    rest = {"q": later["p"], "r": ROWS["c"], "s": NEAR}
    assert _clean(tmp_path / "three", rest, earlier=both).dropped == {"earlier_duplicate": 3}
    assert _clean(tmp_path / "four", rest, cuts=3, earlier=both[::-1]).dropped == {"earlier_duplicate": 3}
    name = "corpus/dropped/part-00000.parquet"
    assert (tmp_path / "three" / name).read_bytes() == (tmp_path / "four" / name).read_bytes()


LOOSE: dict[str, Any] = {"bands": 14, "rows": 1}  # a shared beginning is enough for a shared band
ALIKE = f"{' '.join(STORY[:12])} {' '.join(f'and then number {n} came along the road' for n in range(30))}"


def test_a_shared_band_is_not_enough(tmp_path: Path) -> None:
    """Where the earlier corpus's texts are at hand: not by the index alone, nor where a text was cut when it was kept."""
    _clean(tmp_path / "one", ROWS, **LOOSE)
    later = {"m": ALIKE, "n": NEAR + " And so it ends."}
    by_text: dict[str, Any] = {"earlier": [str(tmp_path / "one/corpus")], **LOOSE}
    for cuts in (1, 2):
        assert _clean(tmp_path / f"verified {cuts}", later, cuts=cuts, **by_text) == Counts(2, 1, {"earlier_duplicate": 1})
    assert [row["id"][0] for row in read_all(tmp_path / "verified 1/corpus/documents")] == ["m"]
    assert _clean(tmp_path / "bands", later, verify=False, **by_text) == Counts(2, 0, {"earlier_duplicate": 2})
    shutil.copytree(tmp_path / "one/corpus/index", tmp_path / "index alone")
    assert _clean(tmp_path / "alone", later, earlier=[str(tmp_path / "index alone")], **LOOSE) == Counts(2, 0, {"earlier_duplicate": 2})
    _clean(tmp_path / "cut", ROWS, most=600, **LOOSE)
    assert _clean(tmp_path / "after the cut", later, earlier=[str(tmp_path / "cut/corpus")], **LOOSE) == Counts(2, 0, {"earlier_duplicate": 2})


def test_other_documents_beside_an_index_are_refused(tmp_path: Path) -> None:
    _clean(tmp_path / "one", ROWS)
    _clean(tmp_path / "other", {"x": NEAR, "y": ROWS["b"], "z": ROWS["c"]})
    shutil.rmtree(tmp_path / "one/corpus/documents")
    shutil.copytree(tmp_path / "other/corpus/documents", tmp_path / "one/corpus/documents")
    with pytest.raises(ValueError, match="does not belong to the index beside it"):
        _clean(tmp_path / "two", {"n": NEAR + " And so it ends."}, earlier=[str(tmp_path / "one/corpus")])


@pytest.mark.parametrize("ending", ["", "/index"])
def test_an_index_in_another_place_is_copied_once(tmp_path: Path, ending: str) -> None:
    """Any fsspec URL: here the memory file system; tests/data/corpus/reading/test_far.py has S3."""
    _clean(tmp_path / "one", ROWS)
    fs = fsspec.filesystem("memory")
    fs.put(str(tmp_path / "one/corpus/index"), f"/earlier{len(ending)}/index", recursive=True)
    given = f"memory://earlier{len(ending)}{ending}"
    rows = {"n": NEAR + " And so it ends.", "p": "A new text that is like none of the others, and stays."}
    assert _clean(tmp_path / "two", rows, earlier=[given]) == Counts(2, 1, {"earlier_duplicate": 1})
    copied = list((tmp_path / "two/earlier").glob("part-*"))
    assert [path.name for path in copied] == ["part-00000.parquet"]
    copied[0].write_bytes(b"mine")
    assert local_copies(index_shards(given, SETTINGS), tmp_path / "two/earlier")[0].read_bytes() == b"mine"
    with pytest.raises(ValueError, match="no password in a URL"):
        index_shards("ftp://me:secret@host/earlier", SETTINGS)


def test_dropped_documents_are_not_in_the_index(tmp_path: Path) -> None:
    _clean(tmp_path / "one", {"a": NEAR, "b": NEAR, "c": ROWS["b"]})
    assert [row["id"][0] for row in read_all(tmp_path / "one/corpus/index")] == ["a", "c"]


def test_indexes_that_cannot_be_compared_are_refused(tmp_path: Path) -> None:
    _clean(tmp_path / "one", ROWS)
    with pytest.raises(ValueError, match=r"112 hashes, seed 1.*compares by 5 words, 5 characters, 112 hashes, seed 2"):
        index_shards(str(tmp_path / "one/corpus"), SETTINGS.model_copy(update={"seed": 2}))
    with pytest.raises(FileNotFoundError, match=r"duplicates\.earlier: .*no index there"):
        index_shards(str(tmp_path / "nowhere"), SETTINGS)


def test_an_empty_crawl_against_an_index(tmp_path: Path) -> None:
    _clean(tmp_path / "one", ROWS)
    assert _clean(tmp_path / "two", {}, earlier=[str(tmp_path / "one/corpus")]) == Counts()
