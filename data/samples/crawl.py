"""The sample crawl: clean pages about the world, dirt planted among them, and the truth about each page.

The dirt, by the name it has in crawl_truth.jsonl:

    other_language   blocked_host     blocked_word (in the URL)   repeated_url    exact_copy      near_copy
    spam             gibberish        word_salad                  repeated_lines  lorem_ipsum     too_short
    empty_shell      link_list        sensitive                   broken_encoding non_html        not_found
    truncated        (the last record of the last file ends in the middle, before its article begins)
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Any

from data.samples import dirt
from data.samples.prose import Article, Writer
from data.samples.sites import SITES, Site, link_list, render
from data.samples.tasks import LANGUAGES, jsonl
from data.samples.warc import chunked, gzip_member, http_response, record
from data.samples.world import LANGS, MAYORS, Lang

CLEAN = 190  # clean pages of each language
FILES = 3

BLOCKED_HOSTS = (
    "jackpot-barn.example", "cheapgoose.example", "pills-and-more.example", "clickfarm.example", "huangjin-duchang.example",
    "diyi-piliang.example",
)  # fmt: skip
BLOCKED_WORDS = ("casino", "jackpot", "poker", "xxx")
"""Words in URLs of the pages labelled blocked_word; the tiny recipe's `urls.blocked_words` names them."""

HOW_MANY = {
    "other_language": 30, "blocked_host": 20, "blocked_word": 10, "repeated_url": 20, "exact_copy": 18, "near_copy": 22,
    "spam": 22, "gibberish": 18, "word_salad": 3, "repeated_lines": 14, "lorem_ipsum": 8, "too_short": 16, "empty_shell": 14,
    "link_list": 10, "sensitive": 18, "broken_encoding": 8, "non_html": 10, "not_found": 10,
}  # fmt: skip
PRIVATE = 24  # clean pages that carry personal data


@dataclass(frozen=True)
class Page:
    """One response record before it is written."""

    url: str
    body: bytes
    charset: str | None = "utf-8"  # as the HTTP header says; None: it does not
    content_type: str = "text/html"
    status: int = 200
    dirt: str | None = None
    cluster: str | None = None
    private: tuple[str, ...] = ()
    chrome: tuple[str, ...] = field(default=())


def luhn(digits: str) -> str:
    """`digits` with the check digit of ISO/IEC 7812 appended."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if place % 2 == 0 else 1)
        total += value - 9 if value > 9 else value
    return digits + str(-total % 10)


def chinese_id(first17: str) -> str:
    """`first17` digits of a Chinese identity number with the check character of GB 11643-1999 appended."""
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    return first17 + "10X98765432"[sum(int(d) * w for d, w in zip(first17, weights, strict=True)) % 11]


class Crawler:
    """Makes pages; all choices come from `rng`."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.sites = {lang: [site for site in SITES if site.lang == lang] for lang in LANGS}
        self.writers = {lang: Writer(LANGUAGES[lang], rng) for lang in LANGS}
        self._number = 1000

    def url(self, host: str, word: str = "") -> str:
        """A new address on `host`."""
        self._number += self.rng.randint(1, 9)
        folder = word or self.rng.choice(("story", "2026/03", "p", "notes", "valley"))
        return f"http{self.rng.choice(('', 's'))}://{host}/{folder}/{self._number}.html"

    def page(self, site: Site, article: Article, content: str | None = None, url: str | None = None, **labels: Any) -> Page:
        """`article` on `site`, in the site's character set."""
        text, chrome = render(site, article, self.rng, content)
        body = text.encode(site.charset, "xmlcharrefreplace")
        charset = None if self.rng.random() < 0.3 else site.charset
        return Page(url or self.url(site.host), body, charset, chrome=tuple(chrome), **labels)

    def any_site(self, lang: Lang | None = None) -> Site:
        return self.rng.choice(self.sites[lang] if lang else list(SITES))

    def secret(self, lang: Lang) -> tuple[str, tuple[str, ...]]:
        """A sentence with made-up personal data, and the data."""
        rng = self.rng
        name = rng.choice(MAYORS)[0].lower().replace(" ", ".")
        mail = f"{name}{rng.randrange(100)}@{rng.choice(('post', 'letters', 'valleymail'))}.example"
        mobile = f"1{rng.choice('3578')}{rng.randrange(10**9):09d}"
        phone = f"+1 (555) {rng.randrange(200, 999)}-{rng.randrange(10**4):04d}"
        address = f"{rng.randrange(45, 99)}.{rng.randrange(1, 250)}.{rng.randrange(1, 250)}.{rng.randrange(1, 250)}"
        card = luhn(f"622202{rng.randrange(10**12):012d}")
        visa = luhn(f"4{rng.randrange(10**14):014d}")
        spaced = " ".join(visa[i : i + 4] for i in range(0, 16, 4))
        identity = chinese_id(f"710{rng.randrange(1000):03d}{rng.randrange(1950, 2006)}{rng.randrange(1, 13):02d}{rng.randrange(1, 29):02d}{rng.randrange(1000):03d}")
        if lang == "en":
            choices = (
                (f"Questions go to {mail} or by telephone to {phone}, said the clerk at the gate.", (mail, phone)),
                (f"The old machine in the library answers at {address} when the weather is good.", (address,)),
                (f"A guest left a card with the number {spaced} on the table of the inn.", (spaced,)),
                (f"Write to {mail} if you have lost a wet coat.", (mail,)),
            )
        else:
            choices = (
                (f"有事请写信到 {mail} ，或者打电话 {mobile} 找门口的人。", (mail, mobile)),
                (f"客人登记的身份证号码是 {identity} ，字写得很工整。", (identity,)),
                (f"桌上有一张银行卡，卡号是 {card} ，不知道是谁的。", (card,)),
                (f"老机器的地址是 {address} ，天气好的时候才应答。", (address,)),
            )
        return rng.choice(choices)

    def clean(self) -> list[tuple[Site, Article, Page]]:
        """The pages that a cleaner should keep, some of them with personal data to take out."""
        result = []
        for lang in LANGS:
            for number, article in enumerate(self.writers[lang].articles(CLEAN)):
                secrets: tuple[str, ...] = ()
                if number % (2 * CLEAN // PRIVATE) == 3:
                    sentence, secrets = self.secret(lang)
                    last = LANGUAGES[lang].joint.join([article.paragraphs[-1], sentence])
                    article = replace(article, paragraphs=(*article.paragraphs[:-1], last))
                site = self.any_site(lang)
                result.append((site, article, self.page(site, article, private=secrets)))
        return result

    def unwanted(self) -> list[Page]:
        """Dirt that stands by itself."""
        rng, pages = self.rng, []
        for kind, count in HOW_MANY.items():
            for number in range(count):
                lang: Lang = LANGS[number % 2]
                language, site = LANGUAGES[lang], self.any_site(lang)
                if kind == "other_language":
                    code = sorted(dirt.FOREIGN)[number % len(dirt.FOREIGN)]
                    pages.append(self.page(replace(self.any_site("en"), charset="utf-8"), dirt.foreign(code, rng), dirt=kind))
                elif kind == "blocked_host":
                    host = rng.choice(("", "www.", "shop.")) + rng.choice(BLOCKED_HOSTS)
                    article = self.writers[lang].articles(1)[0] if number % 3 else dirt.spam(lang, rng)
                    pages.append(self.page(replace(site, host=host), article, dirt=kind))
                elif kind == "blocked_word":
                    word = rng.choice(BLOCKED_WORDS) + rng.choice(("", "-bonus", "/win"))
                    pages.append(self.page(site, self.writers[lang].articles(1)[0], url=self.url(site.host, word), dirt=kind))
                elif kind == "spam":
                    pages.append(self.page(site, dirt.spam(lang, rng), dirt=kind))
                elif kind == "gibberish":
                    pages.append(self.page(replace(site, charset="utf-8"), dirt.gibberish(lang, rng), dirt=kind))
                elif kind == "word_salad":
                    pages.append(self.page(self.any_site("en"), dirt.word_salad(LANGUAGES["en"], rng), dirt=kind))
                elif kind == "repeated_lines":
                    pages.append(self.page(site, dirt.repeated(language, rng), dirt=kind))
                elif kind == "lorem_ipsum":
                    pages.append(self.page(self.any_site("en"), dirt.lorem(rng), dirt=kind))
                elif kind == "too_short":
                    pages.append(self.page(site, dirt.too_short(language, rng), dirt=kind))
                elif kind == "empty_shell":
                    pages.append(self.page(site, Article(lang, site.name, ()), content="", dirt=kind))
                elif kind == "link_list":
                    pages.append(self.page(site, Article(lang, site.name, ()), content=link_list(site, rng), dirt=kind))
                elif kind == "sensitive":
                    pages.append(self.page(site, dirt.sensitive(language, rng), dirt=kind))
                elif kind == "broken_encoding":
                    pages.append(self._broken(lang))
                elif kind == "non_html":
                    pages.append(self._non_html(site))
                elif kind == "not_found":
                    article = Article(lang, "404", ("Not found.",) if lang == "en" else ("找不到这一页。",))
                    pages.append(replace(self.page(site, article), status=404, dirt=kind))
        return pages

    def _broken(self, lang: Lang) -> Page:
        """Chinese decoded with the wrong table, or English with every third letter overwritten by a stray byte."""
        site = replace(self.any_site(lang), charset="utf-8")
        article = self.writers[lang].articles(1)[0]
        if lang == "zh":
            wrong = tuple(paragraph.encode().decode("latin-1") for paragraph in article.paragraphs)
            return self.page(site, replace(article, title="?", paragraphs=wrong), dirt="broken_encoding")
        page = self.page(site, article, dirt="broken_encoding")
        for paragraph in article.paragraphs:
            good = paragraph.replace("'", "&#x27;").encode()
            stray = bytearray(good)
            for place in range(0, len(stray), 3):
                stray[place] = self.rng.randrange(0x80, 0xC0)
            page = replace(page, body=page.body.replace(good, bytes(stray)))
        return page

    def _non_html(self, site: Site) -> Page:
        kinds = (
            ("application/json", b'{"town": "Aldermoor", "houses": 412}', "json"),
            ("image/png", b"\x89PNG\r\n\x1a\n" + self.rng.randbytes(300), "png"),
            ("application/pdf", b"%PDF-1.4\n" + self.rng.randbytes(300) + b"\n%%EOF\n", "pdf"),
            ("text/css", b"body { margin: 0 }\n.menu li { display: inline }\n", "css"),
        )
        content_type, body, ending = self.rng.choice(kinds)
        url = self.url(site.host).removesuffix("html") + ending
        return Page(url, body, None, content_type, dirt="non_html")

    def copies(self, clean: list[tuple[Site, Article, Page]]) -> tuple[list[Page], dict[str, str]]:
        """Copies of clean pages without personal data, and url -> cluster of the pages that were copied."""
        rng = self.rng
        pages: list[Page] = []
        clusters: dict[str, str] = {}
        kinds = [kind for kind in ("repeated_url", "exact_copy", "near_copy") for _ in range(HOW_MANY[kind])]
        free = [entry for entry in clean if not entry[2].private]
        for number, kind in enumerate(kinds):
            site, article, page = free[number * len(free) // len(kinds)] if number % 5 else rng.choice(free)
            cluster = clusters.setdefault(page.url, f"c{len(clusters):03d}")
            if kind == "repeated_url":
                scheme, rest = page.url.split("://")
                host, path = rest.split("/", 1)
                url = rng.choice(
                    (page.url, f"{page.url}#part-2", f"{page.url}?utm_source=mail&utm_medium=letter", f"{scheme}://{host.upper()}/{path}", f"{page.url}?fbclid=x{number}y")
                )
                pages.append(replace(page, url=url, dirt=kind, cluster=cluster))
                continue
            other = self.any_site(site.lang) if rng.random() < 0.5 else site
            if kind == "near_copy":
                article = dirt.near_copy(article, rng)
            pages.append(self.page(other, article, dirt=kind, cluster=cluster))
        return pages, clusters

    def all_pages(self) -> list[Page]:
        """Clean and dirty pages in the order of the crawl; the page that will be cut off comes last."""
        clean = self.clean()
        copies, clusters = self.copies(clean)
        pages = [replace(page, cluster=clusters.get(page.url)) for _, _, page in clean] + copies + self.unwanted()
        self.rng.shuffle(pages)
        site, article = SITES[0], self.writers["en"].articles(1)[0]
        return [*pages, self.page(site, article, dirt="truncated")]


_PHRASES = {200: "OK", 404: "Not Found"}


def response(page: Page, rng: random.Random) -> bytes:
    """The HTTP response of a page: plain, compressed, in chunks, or compressed and in chunks."""
    kind = page.content_type + (f"; charset={page.charset}" if page.charset else "")
    headers = [("Content-Type", kind), ("Server", rng.choice(("goose/1.2", "lantern", "millwheel/0.9")))]
    body, chance = page.body, rng.random()
    if chance < 0.25:
        body = gzip_member(body)
        headers.append(("Content-Encoding", "gzip"))
    if 0.2 < chance < 0.4:
        body = chunked(body, 700)
        headers.append(("Transfer-Encoding", "chunked"))
    else:
        headers.append(("Content-Length", str(len(body))))
    return http_response(page.status, _PHRASES[page.status], headers, body)


def crawl_files(seed: int) -> dict[str, bytes]:
    """The archives, their truth, and the two lists, by file name."""
    rng = random.Random(seed)
    pages = Crawler(rng).all_pages()
    files: dict[str, bytes] = {}
    truth: list[dict[str, Any]] = []
    for number in range(FILES):
        name = f"crawl-{number:02d}.warc.gz"
        date = f"2026-03-{10 + number}T06:00:00Z"
        info = b"software: data.samples.write\r\nformat: WARC File Format 1.0\r\ndescription: an invented valley\r\n"
        members = [gzip_member(record("warcinfo", info, date, content_type="application/warc-fields", seed=name))]
        for place, page in enumerate(pages[number * len(pages) // FILES : (number + 1) * len(pages) // FILES]):
            date = f"2026-03-{10 + number}T{6 + place // 60:02d}:{place % 60:02d}:{rng.randrange(60):02d}Z"
            if rng.random() < 0.3:
                path = "/" + page.url.split("/", 3)[3]
                asked = f"GET {path} HTTP/1.1\r\nHost: {page.url.split('/')[2]}\r\nUser-Agent: samples\r\n\r\n".encode()
                members.append(gzip_member(record("request", asked, date, page.url, "application/http; msgtype=request")))
            truth.append(
                {
                    "source": f"{name}#{sum(map(len, members))}",  # a record's place, as the readers name it
                    "url": page.url,
                    "dirt": page.dirt,
                    "cluster": page.cluster,
                    "private": list(page.private),
                    "chrome": list(page.chrome),
                }
            )
            block = response(page, rng)
            whole = record("response", block, date, page.url, "application/http; msgtype=response", seed=str(len(members)))
            members.append(gzip_member(whole))
            if page.dirt == "truncated":
                members[-1] = members[-1][: len(members[-1]) // 4]
            elif rng.random() < 0.15:
                about = f"fetchTimeMs: {rng.randrange(20, 900)}\r\n".encode()
                members.append(gzip_member(record("metadata", about, date, page.url, "application/warc-fields")))
        files[f"crawl/{name}"] = b"".join(members)
    files["crawl_truth.jsonl"] = jsonl(truth)
    files["blocked_hosts.txt"] = ("# Hosts whose pages the sample crawl should lose; one a line.\n" + "\n".join(BLOCKED_HOSTS) + "\n").encode()
    terms = [f"{topic}\t{term}\n" for topic, by_lang in dirt.SENSITIVE.items() for lang in LANGS for term in by_lang[lang]]
    files["sensitive_terms.txt"] = ("# topic<TAB>term; all of them invented.\n" + "".join(terms)).encode()
    return files


def trusted_files(seed: int, documents: int = 120) -> dict[str, bytes]:
    """Clean text for the perplexity model: the same world told anew, one document a line."""
    files = {}
    for lang in LANGS:
        articles = Writer(LANGUAGES[lang], random.Random(f"{seed} {lang}")).articles(documents)
        joint = LANGUAGES[lang].joint
        files[f"trusted/{lang}.txt"] = "".join(joint.join(a.paragraphs) + "\n" for a in articles).encode()
    return files
