"""Web sites of the sample crawl: hosts, page templates and the chrome around an article."""

from __future__ import annotations

import html
import random
from dataclasses import dataclass
from typing import Literal

from data.samples.prose import Article
from data.samples.world import Lang

Template = Literal["news", "wiki", "blog", "old"]


@dataclass(frozen=True)
class Site:
    """One host and how its pages look."""

    host: str
    lang: Lang
    template: Template
    name: str
    charset: str = "utf-8"


SITES: tuple[Site, ...] = (
    Site("www.lannergazette.example", "en", "news", "Lanner Gazette"),
    Site("wiki.lannervalley.example", "en", "wiki", "Valley Wiki"),
    Site("farfoot.example", "en", "blog", "Far Foot"),
    Site("archive.inkpot.example", "en", "old", "The Inkpot", "iso-8859-1"),
    Site("www.langubao.example", "zh", "news", "蓝谷报"),
    Site("baike.lansungu.example", "zh", "wiki", "山谷百科"),
    Site("manbu.example", "zh", "blog", "慢步"),
    Site("jiuwen.mochi.example", "zh", "old", "旧闻墨池", "gbk"),
)

_NAV: dict[Lang, tuple[str, ...]] = {
    "en": ("Home", "News", "Weather", "Classified ads", "About us", "Contact", "Log in"),
    "zh": ("首页", "新闻", "天气", "分类广告", "关于我们", "联系方式", "登录"),
}
_COOKIE: dict[Lang, str] = {
    "en": "We use cookies to give you the best experience on this website. Accept all cookies or choose your settings.",
    "zh": "本网站使用Cookie来改善您的浏览体验，请选择接受全部或更改设置。",
}
_NEWSLETTER: dict[Lang, str] = {
    "en": "Subscribe to our newsletter and never miss a story.",
    "zh": "订阅我们的电子报，不错过任何文章。",
}
_RELATED: dict[Lang, tuple[str, ...]] = {
    "en": ("Five ways to mend a boot", "Ferry timetable for the winter", "Lost and found: one umbrella", "Vote for the cat of the month", "Ten lamps for a dark street"),
    "zh": ("修靴子的五个办法", "冬季渡船时刻表", "失物招领：雨伞一把", "本月最佳猫咪投票", "暗街上的十盏灯"),
}  # fmt: skip
_RIGHTS: dict[Lang, str] = {
    "en": "Copyright 2026 {name}. All rights reserved. Terms of use and privacy policy.",
    "zh": "版权所有 2026 {name} 保留所有权利 使用条款 隐私政策",
}
_INSIDE: dict[Lang, tuple[str, ...]] = {
    "en": ("Read more...", "Sign in to comment", "14 likes", "Share this article", "3 comments"),
    "zh": ("阅读全文", "登录后发表评论", "12人点赞", "分享到：", "责任编辑：小舟"),
}
"""Lines that stand among the article's paragraphs, where an extractor takes them for text; the line filter's work."""
_SHARE: dict[Lang, tuple[str, str]] = {"en": ("Share this page", "Print"), "zh": ("分享本页", "打印")}


def _links(texts: tuple[str, ...]) -> str:
    return "".join(f'<li><a href="/{index}.html">{html.escape(text)}</a></li>' for index, text in enumerate(texts))


def render(site: Site, article: Article, rng: random.Random, content: str | None = None) -> tuple[str, list[str]]:
    """The page's HTML, and lines of chrome on it that are no part of the article.

    `content` replaces the article's paragraphs (link lists, empty shells: the empty string).
    """
    lang = site.lang
    related = tuple(rng.sample(_RELATED[lang], 3))
    rights = _RIGHTS[lang].format(name=site.name)
    cookie = f'<div id="cookie-banner" class="cookie-consent" role="dialog"><p>{_COOKIE[lang]}</p><button>OK</button></div>'
    nav = f'<nav class="menu"><ul>{_links(_NAV[lang])}</ul></nav>'
    inside: list[str] = []
    if content is None:
        lines = list(article.paragraphs)
        if rng.random() < 0.3:
            inside = rng.sample(_INSIDE[lang], 2)
            lines = [*lines[:1], inside[0], *lines[1:], inside[1]]
        content = (
            "\n".join(f"<p>{html.escape(line)}" for line in lines)  # as it was written then: no end tags
            if site.template == "old"
            else "\n".join(f"<p>{html.escape(line)}</p>" for line in lines)
        )
    title = html.escape(article.title)
    charset = "gb2312" if site.charset == "gbk" and rng.random() < 0.5 else site.charset
    head = (
        f'<!DOCTYPE html>\n<html lang="{"zh-CN" if lang == "zh" else "en"}">\n<head>\n<meta charset="{charset}">\n'
        f'<title>{title} - {site.name}</title>\n<meta name="viewport" content="width=device-width">\n'
        '<style>body{margin:0;font-family:serif}.menu li{display:inline}</style>\n'
        '<script>window.dataLayer=window.dataLayer||[];function track(e){dataLayer.push(e)}</script>\n</head>\n'
    )
    if site.template == "news":
        body = (
            f'<body>{cookie}<header class="site-header"><div class="logo">{site.name}</div>{nav}</header>\n'
            f'<main><article class="story"><h1>{title}</h1><div class="article-body">\n{content}\n</div></article></main>\n'
            f'<aside class="sidebar related"><h3>{"Related" if lang == "en" else "相关文章"}</h3><ul>{_links(related)}</ul>'
            f'<div class="newsletter"><p>{_NEWSLETTER[lang]}</p><form><input type="email"></form></div></aside>\n'
            f'<footer class="site-footer"><p>{rights}</p></footer></body></html>\n'
        )
        chrome = [_COOKIE[lang], _NEWSLETTER[lang], rights, related[0]]
    elif site.template == "wiki":
        body = (
            f'<body class="wiki"><div id="mw-head"><div class="logo">{site.name}</div>{nav}</div>\n<div id="content">'
            f'<h1 id="firstHeading">{title}</h1>\n<div id="bodyContent"><div class="mw-parser-output">\n{content}\n</div></div></div>\n'
            f'<div id="mw-panel" class="navigation"><h3>{"Tools" if lang == "en" else "工具"}</h3><ul>{_links(related)}</ul></div>\n'
            f'<footer id="footer"><p>{rights}</p></footer></body></html>\n'
        )
        chrome = [rights, related[0]]
    elif site.template == "blog":
        share = "".join(f'<a class="share" href="#">{text}</a> ' for text in _SHARE[lang])
        body = (
            f'<body>{cookie}<div class="header">{nav}</div><div class="container"><div class="post"><h2 class="entry-title">{title}</h2>\n'
            f'<div class="entry-content">\n{content}\n</div><div class="share-buttons">{share}</div></div>\n'
            f'<div class="sidebar widget"><h3>{site.name}</h3><ul>{_links(related)}</ul></div></div>\n'
            f'<div class="footer">{rights}</div></body></html>\n'
        )
        chrome = [_COOKIE[lang], _SHARE[lang][0], rights]
    else:
        links = " | ".join(f'<a href="/{index}.htm">{text}</a>' for index, text in enumerate(_NAV[lang]))
        bar = f'<div class="navbar" align="center"><small>{links}</small></div>'
        body = (
            f'<body bgcolor="#ffffff"><center><font size="5">{site.name}</font></center>\n{bar}<hr>\n'
            f'<h1>{title}</h1>\n<div id="article" class="article-text">{content}</div>\n'
            f'<hr><div class="footer"><small>{rights}</small></div></body></html>\n'
        )
        chrome = [rights, " | ".join(_NAV[lang])]
    return head + body, chrome + inside


def link_list(site: Site, rng: random.Random) -> str:
    """Content that is nothing but links."""
    texts = [rng.choice(_RELATED[site.lang] + _NAV[site.lang]) + f" ({number})" for number in range(rng.randint(25, 45))]
    return '<ul class="links">' + _links(tuple(texts)) + "</ul>"
