"""Hugging Face datasets as a corpus."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data.corpus.reading import hub
from data.corpus.reading.inputs import list_inputs
from data.corpus.reading.readers import ingest_file
from data.document import Counts
from data.settings import IngestSettings
from tests.data.corpus.helpers import read_all


def test_how_a_dataset_is_written() -> None:
    assert hub.parse("crawl/a.warc.gz") is None
    assert hub.parse("dataset:owner/name") == hub.DatasetSource("owner/name")
    full = hub.parse("dataset:owner/wiki?name=20231101.zh&split=test&revision=abc")
    assert full == hub.DatasetSource("owner/wiki", "20231101.zh", "test", "abc")
    assert full.label == "wiki/20231101.zh/test"
    with pytest.raises(ValueError, match="unknown: trust_remote_code"):
        hub.parse("dataset:owner/name?trust_remote_code=1")


def test_a_local_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr("data.corpus.reading.inputs._DATASET_ROWS", 4)
    rows = [{"content": f"text {n}", "link": f"http://a.example/{n}", "other": [n]} for n in range(10)]
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    datasets.DatasetDict({"test": datasets.Dataset.from_list(rows)}).save_to_disk(tmp_path / "saved")
    settings = IngestSettings(text_field="content", url_field="link")
    with pytest.raises(ValueError, match=r"a dataset that save_to_disk wrote; name it dataset:.*/saved"):
        list_inputs(tmp_path / "saved")
    for entry, label in [(f"dataset:{tmp_path}/files", "files/train"), (f"dataset:{tmp_path}/saved?split=test", "saved/test")]:
        parts = list_inputs(entry, split_bytes=1)
        assert [(part.start, part.end) for part in parts] == [(0, 4), (4, 8), (8, None)]
        (whole,) = list_inputs(entry)
        folders = [tmp_path / "out" / f"{label}-{n}" for n in range(4)]
        counts = [ingest_file(part, folder, settings) for part, folder in zip([whole, *parts], folders, strict=True)]
        assert counts[0] == Counts(10, 10) == sum(counts[1:], Counts())
        kept = read_all(folders[0] / "documents")
        assert kept == [row for folder in folders[1:] for row in read_all(folder / "documents")]
        assert [row["source"] for row in kept] == [f"{label}#{n}" for n in range(10)]
        assert (kept[3]["text"], kept[3]["url"]) == ("text 3", "http://a.example/3")
    with pytest.raises(ValueError, match="no split 'train'; there are: test"):
        list_inputs(f"dataset:{tmp_path}/saved")


def test_a_dataset_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match="dataset 'no-such-owner/no-such-data', split 'train': "):
        list_inputs("dataset:no-such-owner/no-such-data")


@pytest.mark.network
def test_a_dataset_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets
    import huggingface_hub.constants

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    source = hub.DatasetSource("rotten_tomatoes", split="validation")
    assert len(hub.revision_of(source)) == 40
    assert hub.count_rows(source) == 1066
