"""The URL gate: normalise, block, score, and drop what was crawled twice. The cheapest filter, so it goes first."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from data.corpus.url.blocks import block_list
from data.corpus.url.form import normalise_url
from data.corpus.url.repeats import REPEATS_SCHEMA, text_hash
from data.corpus.url.score import url_scores
from data.document import Decided, Verdict, decide, values
from data.settings import UrlSettings
from data.shards import read_shard


def filter_urls(pages: pa.Table, settings: UrlSettings, *, repeats: Path | None = None) -> Decided:
    """Normalise `url` and drop the blocked, the badly scored and the repeated.

    `repeats` is this shard's part of what `find_repeats` wrote. A malformed URL stays as it is: it says nothing about
    the page. Reasons: blocked_host, blocked_path, blocked_word, blocked_pattern, low_url_score, repeated_url,
    repeated_content.
    """
    urls = [url and (normalise_url(url) or url) for url in values(pages, "url")]
    blocks = block_list(settings)
    scores = _scores(urls, settings)
    repeated = _repeated(pages, repeats)
    verdicts: list[Verdict | None] = []
    for row, url in enumerate(urls):
        blocked = blocks.match(url) if url else None
        verdicts.append(blocked or scores.get(row) or repeated.get(row))
    at = pages.schema.get_field_index("url")
    return decide(pages.set_column(at, pages.schema.field(at), pa.array(urls, pa.string())), verdicts)


def _scores(urls: list[str | None], settings: UrlSettings) -> dict[int, Verdict]:
    """Verdicts by row; a page without a URL has no score."""
    if not settings.score_model:
        return {}
    rows = [row for row, url in enumerate(urls) if url]
    scores = url_scores([url for url in urls if url], Path(settings.score_model))
    return {row: ("low_url_score", f"{score:.3f}") for row, score in zip(rows, scores, strict=True) if score < settings.min_score}


def _repeated(pages: pa.Table, repeats: Path | None) -> dict[int, Verdict]:
    if repeats is None:
        return {}
    table = read_shard(repeats)
    rows = zip(*(values(table, name) for name in REPEATS_SCHEMA.names), strict=True)
    found: dict[int, Verdict] = {source: (reason, value) for source, reason, value in rows}
    hashes = map(text_hash, values(pages, "source")) if found else ()
    return {row: found[source] for row, source in enumerate(hashes) if source in found}
