"""Tasks of the corpus half that do more than map one function."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from data.document import DOCUMENT_SCHEMA
from data.settings import LineSettings, QualitySettings
from data.shards import shard_name, write_shard
from tasks import corpus as task
from tasks.stage import Made, Run, make
from tasks.store.artifacts import Draft, Result
from tests.data.corpus.helpers import read_all

CHROME = "Our valley, our paper, every morning"
ARTICLE = "Article number {} tells of a different thing, and at some length, as all the articles of this paper do."


def _documents(run: Run) -> Made:
    """Three shards of two documents of one host, and one of another host."""

    def build(draft: Draft) -> Result:
        for index in range(3):
            rows: list[dict[str, Any]] = [
                {"id": f"{index}{n}".zfill(32), "source": f"a#{index}{n}", "url": f"http://a.example/{index}{n}", "text": f"{ARTICLE.format(f'{index}{n}')}\n{CHROME}"}
                for n in range(2)
            ]
            if index == 2:
                rows.append({**rows[0], "id": "f" * 32, "source": "b#0", "url": "http://b.example/"})
            write_shard(draft.out / "documents" / shard_name(index), pa.Table.from_pylist(rows, DOCUMENT_SCHEMA))
        return Result({"documents_in": 7, "kept": 7, "dropped": {}}, {})

    found: Made = make(run, "documents", 1, QualitySettings(), {}, build).data  # type: ignore[assignment]
    return found


@pytest.mark.parametrize(("host_repeats", "with_chrome"), [(0, 7), (6, 1), (7, 7)])
def test_lines_of_a_host_over_all_its_shards(tmp_path: Path, host_repeats: int, with_chrome: int) -> None:
    run = Run(store=str(tmp_path / "store"))
    made: Made = task.clean_lines.fn(run, _documents(run), LineSettings(host_repeats=host_repeats)).data  # type: ignore[assignment]
    texts = [row["text"] for row in read_all(run.local(made.artifact) / "documents")]
    assert (len(texts), sum(CHROME in text for text in texts)) == (7, with_chrome)
