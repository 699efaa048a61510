"""The URL gate: normalise, block, and drop what was crawled twice. The cheapest filter, so it goes first."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from urllib.parse import SplitResult, quote, unquote, urlsplit, urlunsplit

import pyarrow as pa
import pyarrow.parquet as pq

from data.document import Decided, Verdict, decide, values
from data.settings import UrlSettings
from data.shards import read_shard, write_shard

_PORTS = {"http": 80, "https": 443}
_TRACKING = re.compile(
    r"^(?:utm_\w+|fbclid|gclid|gclsrc|dclid|msclkid|yclid|igshid|mc_[ce]id|_ga|_gl|_hs(?:enc|mi)|mkt_tok|ref_src"
    r"|spm|scm|wt_\w+|ocid|cmpid|s_cid|vero_id|oly_(?:enc|anon)_id|phpsessid|jsessionid|sid|sessionid)$",
    re.IGNORECASE,
)
_SESSION_PATH = re.compile(r";jsessionid=[^/?#;]*", re.IGNORECASE)
_UNRESERVED = re.compile(r"%[0-9a-fA-F]{2}")
_SAFE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_PARTITION_ROWS = 4_000_000  # URLs compared at once
REPEATS_SCHEMA = pa.schema([("source", pa.string()), ("reason", pa.string()), ("value", pa.string())])


def normalise_url(url: str) -> str | None:
    """`url` as two crawls of one page would both write it; None where it is no http(s) URL.

    Lower-case scheme and host (IDN in punycode), no default port, user, fragment or tracking parameter, escapes of
    unreserved characters undone (RFC 3986, 6.2.2), parameters in order of their names, no slash at the end.
    """
    try:
        parts = urlsplit(url.strip())
        port = parts.port
        host = _ascii_host(parts.hostname or "")
    except ValueError:
        return None
    scheme = parts.scheme.lower()
    if scheme not in _PORTS or not host:
        return None
    if port is not None and port != _PORTS[scheme]:
        host = f"{host}:{port}"
    path = _escapes(_SESSION_PATH.sub("", _without_dots(parts.path))).rstrip("/") or "/"
    return urlunsplit(SplitResult(scheme, host, path, _query(parts.query), ""))


def _ascii_host(host: str) -> str:
    host = host.rstrip(".").lower()
    if not host.isascii():
        host = host.encode("idna").decode("ascii")
    if not re.fullmatch(r"[a-z0-9._:-]*", host):
        raise ValueError(f"no host name: {host!r}")
    return f"[{host}]" if ":" in host else host


def _without_dots(path: str) -> str:
    if "/." not in path:
        return path
    kept: list[str] = []
    for part in path.split("/"):
        if part == "..":
            if len(kept) > 1:
                kept.pop()
        elif part != ".":
            kept.append(part)
    return "/".join(kept)


def _escapes(text: str) -> str:
    def replace(match: re.Match[str]) -> str:
        character = chr(int(match.group()[1:], 16))
        return character if character in _SAFE else match.group().upper()

    if "%" in text:
        text = _UNRESERVED.sub(replace, text)
    return quote(text, safe="!#$%&'()*+,/:;=?@[]~") if not text.isascii() or " " in text else text


def _query(query: str) -> str:
    if not query:
        return ""
    parts = [part for part in query.split("&") if part and not _TRACKING.match(part.split("=", 1)[0])]
    return _escapes("&".join(sorted(parts)))


@dataclass(frozen=True)
class BlockList:
    """Hosts (each with its subdomains) and words (between non-letters, in lower-cased URLs)."""

    hosts: frozenset[str]
    words: re.Pattern[str] | None

    def match(self, url: str) -> Verdict | None:
        """Reason and what matched, for a normalised URL; None = passes."""
        try:
            host = urlsplit(url).hostname or ""
        except ValueError:
            host = ""
        at = 0
        while at >= 0:
            suffix = host[at:]
            if suffix in self.hosts:
                return "blocked_host", suffix
            dot = host.find(".", at)
            at = dot + 1 if dot >= 0 else -1
        if self.words and (found := self.words.search(unquote(url).lower())):
            return "blocked_word", found.group()
        return None


@lru_cache(maxsize=8)
def _block_list(
    hosts: tuple[str, ...], hosts_file: str | None, words: tuple[str, ...], bundled: bool
) -> BlockList:
    all_hosts, all_words = list(hosts), list(words)
    if hosts_file:
        all_hosts += read_list(Path(hosts_file).read_text(encoding="utf-8"))
    if bundled:
        lists = resources.files("data.corpus") / "lists"
        all_hosts += read_list((lists / "blocked_hosts.txt").read_text(encoding="utf-8"))
        all_words += read_list((lists / "blocked_url_words.txt").read_text(encoding="utf-8"))
    bare = frozenset(_bare_host(host) for host in all_hosts)
    alternatives = "|".join(sorted((re.escape(word.lower()) for word in set(all_words)), key=lambda w: (-len(w), w)))
    pattern = re.compile(rf"(?<![^\W\d_])(?:{alternatives})(?![^\W\d_])") if alternatives else None
    return BlockList(bare - {""}, pattern)


def _bare_host(host: str) -> str:
    host = host.strip().lower().removeprefix("*.").removeprefix("www.").rstrip("./")
    try:
        return host if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError:
        return ""


def read_list(text: str) -> list[str]:
    """Entries of a list file: one a line, '#' starts a comment."""
    return [entry for line in text.splitlines() if (entry := line.split("#", 1)[0].strip())]


def block_list(settings: UrlSettings) -> BlockList:
    return _block_list(
        tuple(settings.blocked_hosts),
        settings.blocked_hosts_file,
        tuple(settings.blocked_words),
        settings.use_bundled_list,
    )


def filter_urls(pages: pa.Table, settings: UrlSettings, *, repeats: Path | None = None) -> Decided:
    """Normalise `url` and drop the blocked and the repeated.

    `repeats` is what `find_repeats` wrote. A malformed URL stays as it is: it says nothing about the page.
    Reasons: blocked_host, blocked_word, repeated_url, repeated_content.
    """
    blocks = block_list(settings)
    repeated: dict[str, Verdict] = {}
    if repeats is not None:
        table = pq.read_table(repeats, filters=[("source", "in", pages["source"].to_pylist())]) if len(pages) else None
        if table is not None:
            rows = zip(*(table[name].to_pylist() for name in REPEATS_SCHEMA.names), strict=True)
            repeated = {source: (reason, value) for source, reason, value in rows}
    urls: list[str | None] = []
    verdicts: list[Verdict | None] = []
    for source, url in zip(values(pages, "source"), values(pages, "url"), strict=True):
        normal = url and (normalise_url(url) or url)
        urls.append(normal)
        verdicts.append((blocks.match(normal) if normal else None) or repeated.get(source))
    at = pages.schema.get_field_index("url")
    return decide(pages.set_column(at, pages.schema.field(at), pa.array(urls, pa.string())), verdicts)


def find_repeats(shards: list[Path], out: Path, settings: UrlSettings) -> None:
    """Write to `out` (Parquet: source, reason, value = id of the page that stays) every page that repeats another.

    Of the pages of one normalised URL the latest stays, then the one with the smallest id, then the smallest source;
    so does one of several records with the same id. The result depends on neither order nor shards. URLs are compared
    in partitions by hash, so memory is bounded by a partition.
    """
    rows = sum(pq.read_metadata(shard).num_rows for shard in shards)
    partitions = max(1, -(-rows // _PARTITION_ROWS))
    found: list[tuple[str, str, str]] = []
    for partition in range(partitions):
        found += _repeats_of_partition(shards, partition, partitions)
    found.sort()
    columns = [pa.array(column, pa.string()) for column in zip(*found, strict=True)] if found else None
    table = pa.table(columns, schema=REPEATS_SCHEMA) if columns else REPEATS_SCHEMA.empty_table()
    write_shard(out, table)


def _repeats_of_partition(shards: list[Path], partition: int, partitions: int) -> list[tuple[str, str, str]]:
    best: dict[str, tuple[str, str, str]] = {}
    pages: list[tuple[str, str, str, str]] = []
    for shard in shards:
        table = read_shard(shard, ["id", "url", "date", "source"])
        columns = [table[name].to_pylist() for name in ("id", "url", "date", "source")]
        for page_id, url, date, source in zip(*columns, strict=True):
            # A page without a URL is known by its content alone.
            key = (url and (normalise_url(url) or url)) or "id:" + page_id
            if partitions > 1 and _stable_hash(key) % partitions != partition:
                continue
            pages.append((key, _latest_first(date), page_id, source))
    for key, late, page_id, source in pages:
        rank = (late, page_id, source)
        if key not in best or rank < best[key]:
            best[key] = rank
    repeats = []
    for key, late, page_id, source in pages:
        winner = best[key]
        if (late, page_id, source) != winner:
            reason = "repeated_content" if page_id == winner[1] else "repeated_url"
            repeats.append((source, reason, winner[1]))
    return repeats


_REVERSED = str.maketrans("0123456789", "9876543210")


def _latest_first(date: str | None) -> str:
    """A key under which later ISO dates sort first and missing ones last."""
    return (date or "0000-00-00T00:00:00Z").translate(_REVERSED)


def _stable_hash(text: str) -> int:
    return zlib.crc32(text.encode("utf-8", "surrogatepass"))
