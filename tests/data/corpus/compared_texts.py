"""Texts of the sample crawl by trafilatura as it comes and by our steps of it with its expressions quickened; prints what differs as JSON."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import trafilatura.core

from data.corpus import main_text
from data.corpus.quickened_trafilatura import quicken_trafilatura
from data.corpus.reading import inputs, readers
from data.corpus.reading.charset import decode
from data.settings import IngestSettings
from data.shards import list_shards, read_shard

SAMPLES = Path(__file__).resolve().parents[3] / "data" / "samples" / "crawl"
_EVERY = 8
_POST = "<div class='comment-list'><p>" + "The ferry crossed the river at noon, and nobody saw who was on it. " * 8 + "</p></div>"
_FORUM = """<script type="application/ld+json">{"@type": "DiscussionForumPosting"}</script>"""
_BY_HAND = [
    f"<html><head>{head}</head><body><nav>Menu</nav>{_POST * 2}<div class='x\x0by share'>Share</div></body></html>" for head in ("", _FORUM)
]


def sample_pages() -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        for number, source in enumerate(inputs.list_inputs(str(SAMPLES))):
            readers.ingest_file(source, Path(folder) / str(number), IngestSettings())
        tables = [read_shard(shard, ["html", "charset"]) for made in sorted(Path(folder).iterdir()) for shard in list_shards(made / "documents")]
    rows = [row for table in tables for row in table.to_pylist() if row["html"]]
    return [decode(row["html"], row["charset"]) for row in rows[::_EVERY]]


def main() -> None:
    pages = [*sample_pages(), *_BY_HAND]
    trafilatura.core.ESCALATION_MAX_LENGTH = 0
    plain = [main_text.ENGINES["trafilatura_fast"](page).strip() for page in pages]
    quicken_trafilatura()
    quick = [main_text._by_rules(page) for page in pages]
    facts = {
        "pages": len(pages), "characters": sum(map(len, quick)), "unspaced": sum(map(main_text._is_unspaced, pages)),
        "forums": sum("DiscussionForumPosting" in page and "ferry" in text for page, text in zip(pages, quick, strict=True)),
        "different": [number for number, (one, other) in enumerate(zip(plain, quick, strict=True)) if one != other],
    }  # fmt: skip
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
