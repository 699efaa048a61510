"""Block lists of URLs: hosts, words and patterns. Hundreds of thousands of entries cost a URL no more than a dozen."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote

from data.corpus.reading.charset import read_words, text_of
from data.corpus.term_matcher import TermMatcher, bundled_list, read_list
from data.corpus.url.form import ascii_host, host_of, normalise_url
from data.document import Verdict
from data.settings import UrlSettings
from data.unchanged import State, files_of, state_of

_ADDRESS = re.compile(r"^(?:0\.0\.0\.0|127\.0\.0\.1|::1?)\s+")  # of a line of a hosts file


@dataclass(frozen=True)
class BlockList:
    """`hosts` block themselves and their subdomains, `only` themselves alone, `paths` (host -> starts of paths) what lies
    below them; `words` stand between non-letters in lower-cased URLs (Chinese ones anywhere), `patterns` anywhere."""

    hosts: frozenset[str]
    only: frozenset[str] = frozenset()
    paths: dict[str, tuple[str, ...]] = field(default_factory=dict)
    words: TermMatcher | None = None
    patterns: tuple[re.Pattern[str], ...] = ()

    def match(self, url: str) -> Verdict | None:
        """Reason and what matched, for a normalised URL; None = passes."""
        host = host_of(url)
        at = 0
        while at >= 0:
            suffix = host[at:]
            if suffix in self.hosts or (at == 0 and suffix in self.only):
                return "blocked_host", suffix
            if suffix in self.paths and (found := _below(url, self.paths[suffix])):
                return "blocked_path", suffix + found
            dot = host.find(".", at)
            at = dot + 1 if dot >= 0 else -1
        if self.words:
            text = (unquote(url) if "%" in url else url).lower()
            if matches := self.words.find(text):
                return "blocked_word", min(matches, key=lambda match: (match.start, -match.end)).value
        for pattern in self.patterns:
            if pattern.search(url):
                return "blocked_pattern", pattern.pattern
        return None


def _below(url: str, starts: tuple[str, ...]) -> str | None:
    path = "/" + url.split("/", 3)[3] if url.count("/") > 2 else "/"
    return next((start for start in starts if path.startswith(start) and path[len(start) :][:1] in ("", "/", "?")), None)


def block_list(settings: UrlSettings) -> BlockList:
    """The list that the settings describe, kept in memory between the shards of a process."""
    files = [settings.blocked_hosts_file, settings.blocked_words_file]
    states = tuple(map(state_of, files))
    return _block_list(settings.model_copy(update={"score_model": None}).model_dump_json(), states)


@lru_cache(maxsize=4)
def _block_list(settings_json: str, states: tuple[State, ...]) -> BlockList:
    settings = UrlSettings.model_validate_json(settings_json)
    hosts, words = _addresses(settings.blocked_hosts), list(settings.blocked_words)
    listed = _entries(settings.blocked_hosts_file, lambda file: text_of(file.read_bytes()))  # addresses are ASCII but for a few
    hosts += (named := _addresses(listed))
    if listed and not named:
        raise ValueError(f"urls.blocked_hosts_file: {settings.blocked_hosts_file}: no line names a host; write HOST or HOST/PATH on each, or lines of a hosts file")
    words += _entries(settings.blocked_words_file, read_words)
    if settings.use_bundled_list:
        hosts += _addresses(bundled_list("blocked_hosts"))
        words += bundled_list("blocked_url_words")
    lowered = sorted({word.lower() for word in words if word.strip()})
    patterns = tuple(re.compile(pattern) for pattern in settings.blocked_patterns)
    return _with_hosts(hosts, TermMatcher((word, word) for word in lowered) if lowered else None, patterns)


def _entries(path: str | None, read: Callable[[Path], str]) -> list[str]:
    """Of a file, or of the files of a folder: the UT1 lists come as `adult/domains` and `adult/urls`."""
    return [entry for file in files_of(Path(path)) for entry in read_list(read(file))] if path else []


def _addresses(entries: Iterable[str]) -> list[tuple[str, str]]:
    """Hosts with the paths below them, "" for all of a host; what names no host is left out."""
    found = []
    for entry in entries:
        names, is_of_hosts_file = _ADDRESS.subn("", entry)
        for address in names.split() if is_of_hosts_file else [entry]:
            name, _, path = (address.partition("://")[2] or address).partition("/")
            if host := _bare_host(name.lower()):
                found.append((host, _as_normalised(path) if path else ""))
    return found


def _with_hosts(addresses: Iterable[tuple[str, str]], words: TermMatcher | None, patterns: tuple[re.Pattern[str], ...]) -> BlockList:
    suffixes = public_suffixes()
    hosts: set[str] = set()
    only: set[str] = set()
    paths: dict[str, list[str]] = {}
    for host, path in addresses:
        if path:
            paths.setdefault(host, []).append(path)
        elif host in suffixes:
            only.add(host)  # "co.uk" in a list is a slip: it shall not cost a country
        else:
            hosts.add(host)
    return BlockList(frozenset(hosts), frozenset(only), {host: tuple(starts) for host, starts in paths.items()}, words, patterns)


def _as_normalised(path: str) -> str:
    """`path` as `normalise_url` writes it: its letters stay what they are, its escapes are theirs."""
    url = f"http://host/{path}"
    return "/" + (normalise_url(url) or url).split("/", 3)[3]


def _bare_host(host: str) -> str:
    try:
        return ascii_host(host.removeprefix("*").removeprefix(".").removeprefix("www.").partition(":")[0])
    except ValueError:
        return ""


@lru_cache(maxsize=1)
def public_suffixes() -> frozenset[str]:
    """Under which domains are registered ("com", "co.uk"): the public suffix list that tldextract brings along, never asked for online."""
    import tldextract

    return frozenset(tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None).tlds)
