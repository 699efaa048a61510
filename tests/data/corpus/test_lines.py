from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.corpus.host_lines import find_host_lines, host_line_keys, line_key, read_host_lines, stands_in
from data.corpus.lines import clean_lines, filter_lines, is_boilerplate
from data.settings import LineSettings
from data.shards import list_shards, shard_name, write_shard
from tests.data.corpus.helpers import documents


@pytest.mark.parametrize(
    "line",
    [
        "Skip to main content", "Home > News > Local", "Home | News | Weather | Contact", "Share on Facebook", "Read more...",
        "Subscribe to our newsletter and never miss a story.", "We use cookies to give you the best experience.",
        "Please enable JavaScript to view this page.", "Copyright 2024 Example Inc. All rights reserved.", "12 comments",
        "Log in or sign up", "« Previous Next »", "Related articles", "Advertisement", "1,234", "* * *", "Follow us on Twitter",
        "Posted in News by admin", "Privacy Policy | Terms of Use", "BREAKING NEWS ABOUT THE WORLD TODAY", "3 items in cart",
        "首页 > 新闻 > 国内", "上一篇：春天来了", "版权所有 2024 某某公司", "责任编辑：小王", "点击查看更多", "京ICP备12345678号", "分享到：微信 微博",
        "未经授权，禁止转载", "登录后发表评论", "相关阅读", "本网站使用Cookie来改善您的浏览体验", "阅读 1234", "扫描二维码关注我们", "返回顶部",
        "閱讀全文", "回覆", "登入 註冊", "版權所有 不得轉載", "點擊查看更多", "點選檢視全文", "您的位置：首頁 > 新聞", "上一篇：春天來了", "責任編輯：小王",
        "您的电子邮箱地址不会被公开。 必填项已用 * 标注", "您的電子郵箱地址不會被公開", "必填项已用*标注", "發佈留言必須填寫的電子郵件地址不會公開。", "必填欄位標示為 *",
        "Posted by admin on May 1, 2020", "© Example Media Group.", "Copyright Example 2014. Example answers for no links.", "Join our mailing list today.",
        "Please log in to comment.", "You must be registered to post.", "Photo: J. Smith.", "Last updated on 5 May 2020.", "Updated 5 May 2020", "Source: Reuters",
        "Related: What is the best soil?", "Keep reading", "Continue reading this article.", "Remember Me Lost your password?", "5 minutes ago by Ann",
        "This site requires JavaScript to work.", "JavaScript is disabled in your browser.", "By continuing to use this site you agree to our use of cookies.",
        "长按识别二维码，关注我们。", "点击这里查看更多。", "来源：新华社。", "【编辑:李明】", "地址：北京市朝阳区1号。", "营业执照", "暂无评论，快来抢沙发吧！",
        "欢迎关注我们的微信公众号，获取更多精彩内容。", "未经本站许可不得转载。", "建议您升级浏览器", "了解更多", "订阅我们的电子报，不错过任何文章。",
    ],
)  # fmt: skip
def test_chrome(line: str) -> None:
    assert is_boilerplate(line)


@pytest.mark.parametrize(
    "line",
    [
        "He skipped to the end of the book and began to read.", "The home team won by three goals to one.",
        "Cookies should be left to cool before they are eaten.", "She said that more than 200 people had shared the story.",
        "Readers may comment on this.", "Introduction", "The copyright of the song was sold in 1962 for a small sum.",
        "JavaScript is a programming language.", "In 1999, the company moved.", "| Name | Age | Town | Team |", "});",
        "The Previous Owner", "Search and rescue teams found them at dawn.", "IBM", "Tags are sewn into the collar.",
        "他在首页上看到了这条新闻。", "作者在书中写道，山谷里的人起得很早。", "他们分享了自己的故事。", "这家公司的版权问题一直没有解决。", "评论家认为这是一部好电影。",
        "请看下一章的内容，我们会继续讨论这个问题。", "来源可靠的消息说，路就要修了。", "春天",
        "版權法保護作者的權益。", "分享是一種美德。", "搜索队天一亮就出发了。", "搜索隊天一亮就出發了。", "Share the bread among the children.",
        "Copyright law protects authors for seventy years.", "Posted by a stranger, the letter lay on the mat for a week.",
        "Published in 1921, the novel sold ten thousand copies.", "Filed under protest, the appeal was heard in May.", "Join the two ends of the rope.",
        "Register to vote before the end of May.", "Please sign the form and send it back to us.", "Please register the birth within forty days.",
        "Create a password that nobody can guess.", "Remember me when I am gone away.", "Write a review of the book you have read.",
        "Source: the river rises at 900 metres above the town.", "Updated in 1950, the map shows every farm.", "Labels: they stick to us for life.",
        "Popular in the north, the dish is made with oats.", "More on that in a moment.", "A year ago they moved here.", "Keep reading, she told the boy.",
        "JavaScript is a language with good support for closures.", "Node.js allows JavaScript to run on servers.", "The engine runs scripts with full support for Unicode.",
        "Lorem ipsum is a Latin text used by printers since the 1500s.", "He would not accept cookies from her.", "Your browser is not the only program that reads pages.",
        "You are here because your mother sent you.", "x = a | b | c | d", "type Shape = Circle | Square | Line | Point", "cat file | sort | uniq | wc",
        "阅读全文需要半个小时。", "查看全部资料之后，他改变了看法。", "了解更多情况之后，她放心了。", "您的位置：您坐在船的左边。", "上一章讲了山，下一章讲水。", "返回首页的路很长",
        "扫描文件以后，他打开了电脑。", "点击鼠标就可以打开文件。", "转发至北京的信三天后才到。", "添加微信之后，他们聊了一夜。", "欢迎来到我们的村子。", "修改密码要小心。",
        "输入密码时，他的手在发抖。", "没有评论能改变他的看法。", "来我家吃饭，内容很丰富。", "现在报名还来得及。", "我们使用缓存来提高速度。", "未经父母同意，孩子不能结婚。",
        "办理营业执照要一个星期。", "来源：这条河来自雪山。", "常见问题：为什么河水是黄的？", "电话：一八七六年，贝尔发明了它。", "（来源不明的钱，他不要。）", "接下来我为大家唱一首歌。",
        "以上是我对这个问题的看法，希望大家批评。", "请打开浏览器，输入网址。", "閱讀全文需要半個小時。", "他说，转载自己的文章不算偷。",
    ],
)  # fmt: skip
def test_content(line: str) -> None:
    assert not is_boilerplate(line)


def test_lines_are_cut_and_counted() -> None:
    text = "A first sentence of some length.\n\n\nRead more...\nA second one follows it here.\nA first sentence of some length.\n"
    kept, removed, share = clean_lines(text)
    assert kept == "A first sentence of some length.\n\nA second one follows it here."
    assert removed == 2
    assert share == pytest.approx(44 / 105)
    assert clean_lines("") == ("", 0, 0.0)


def test_documents_of_chrome_are_dropped() -> None:
    prose = "The miller told the children a long story about the river."
    table = documents(prose, f"{prose}\nShare this page", "Read more...\nLog in\nHome | News | Weather | Contact\n" + prose[:20])
    decided = filter_lines(table, LineSettings())
    assert decided.kept["text"].to_pylist() == [prose, prose]
    (dropped,) = decided.dropped.to_pylist()
    assert (dropped["reason"], dropped["value"]) == ("mostly_boilerplate", "0.721")
    assert decided.labels is not None
    assert decided.labels["id"].to_pylist() == decided.kept["id"].to_pylist()
    assert decided.labels["removed_lines"].to_pylist() == [0, 1]


@pytest.mark.parametrize("partition_lines", [1, 3, 1000])
def test_lines_of_a_host(tmp_path: Path, partition_lines: int) -> None:
    chrome = "Our valley, our paper, every morning"
    texts = [f"Article number {n} tells of a different thing and at some length, as articles of this paper do.\n{chrome}" for n in range(4)]
    urls: list[str | None] = ["http://a.example/1", "http://www.a.example/2", "http://a.example/3", "http://b.example/1"]
    table = documents(*texts, f"{texts[0]}\n{chrome}", chrome, "", urls=[*urls, "http://b.example/2", None, "http://["])
    settings = LineSettings(host_repeats=3)
    for number, part in enumerate((table.slice(0, 2), table.slice(2), table.slice(0, 0))):
        write_shard(tmp_path / "keys" / shard_name(number), host_line_keys(part, settings))
    find_host_lines(list_shards(tmp_path / "keys"), tmp_path / "lines.parquet", settings, partition_lines)
    assert read_host_lines(tmp_path / "lines.parquet").tolist() == [line_key("a.example", chrome)], "twice in one document of b counts once"
    decided = filter_lines(table.slice(0, 4), settings, host_lines=tmp_path / "lines.parquet")
    assert [chrome in text for text in decided.kept["text"].to_pylist()] == [False, False, False, True]
    find_host_lines([], tmp_path / "none.parquet", settings)
    assert len(read_host_lines(tmp_path / "none.parquet")) == 0


@settings(deadline=None)
@given(st.sets(st.integers(0, (1 << 63) - 1), max_size=20), st.integers(0, (1 << 63) - 1))
def test_a_key_is_looked_up_in_an_array_as_in_a_set(keys: set[int], key: int) -> None:
    rising = np.array(sorted(keys), np.int64)
    assert [stands_in(one, rising) for one in (key, *keys)] == [key in keys, *[True] * len(keys)]
