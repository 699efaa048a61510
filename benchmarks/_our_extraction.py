"""One engine over every n-th labelled page, on one core; seconds of the processor and what it found, as JSON."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import trafilatura

from benchmarks.extraction import PLAIN, segment_shares, truth
from benchmarks.measuring import REAL
from data.corpus.extraction_worker import engine
from data.corpus.reading import inputs, readers
from data.corpus.reading.charset import decode
from data.settings import IngestSettings
from data.shards import list_shards, read_shard


def main(every: int, name: str) -> None:
    pages = dict(list(_pages().items())[::every])
    extract = trafilatura.extract if name == PLAIN else engine(name)
    extract(next(iter(pages.values())))  # what is set up once
    start = time.process_time()
    texts = {url: extract(page) or "" for url, page in pages.items()}
    seconds = time.process_time() - start
    print(json.dumps({"seconds": seconds, "pages": len(pages), "shares": segment_shares(texts)}))


def _pages() -> dict[str, str]:
    """The labelled pages by URL, decoded."""
    (source,) = inputs.list_inputs(str(REAL / "pages.warc.gz"))
    with tempfile.TemporaryDirectory() as folder:
        readers.ingest_file(source, Path(folder), IngestSettings())
        rows = [row for shard in list_shards(Path(folder) / "documents") for row in read_shard(shard, ["url", "html", "charset"]).to_pylist()]
    labelled = truth()
    return {row["url"]: decode(row["html"] or b"", row["charset"]) for row in rows if row["url"] in labelled}


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
