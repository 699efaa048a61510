"""The committed samples are what the script writes, and what the script says of them is true."""

from __future__ import annotations

import json
import random
import re
import zlib
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
from fastwarc.warc import ArchiveIterator, WarcRecordType

from data.samples import crawl, dirt
from data.samples.novelty import Pool, tokens
from data.samples.tasks import LANGUAGES, MAX_ROUGE_L
from data.samples.world import LANGS, RELATIONS, facts
from data.samples.write import HERE, all_files

NOTHING = ("<noinput>", "<无输入>")
BLOCK = re.compile(r"(?:\d+\. )?(?:Instruction: |指令：)(.*?)\n(?:Input: |输入：)(.*?)\n(?:Output: |输出：)(.*)", re.DOTALL)
EXPECTED_REASONS = {
    "truncated", "no_output", "empty_output", "output_equals_input", "too_short", "too_long", "blocked_word", "not_novel",
    "leading_punctuation", "conflicting_output", "wrong_language", "unparsable",
}  # fmt: skip


def read(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (HERE / name).read_text("utf-8").splitlines()]


def blocks() -> list[tuple[tuple[int, int], str, str | None]]:
    """(completion, block), text, reason of every block, in the order of replay."""
    bad = {(row["completion"], row["item"]): row["reason"] for row in read("completions_truth.jsonl")}
    result = []
    for line, record in enumerate(read("completions.jsonl")):
        parts = [part for part in re.split(r"^###$", record["text"], flags=re.MULTILINE) if part.strip()]
        result += [((line, item), part.strip("\n"), bad.get((line, item))) for item, part in enumerate(parts)]
    return result


def good_items() -> list[tuple[str, str, str]]:
    """Instruction, input, output of every block that is not labelled bad."""
    found = []
    for place, text, reason in blocks():
        if reason is None:
            match = BLOCK.fullmatch(text)
            assert match, (place, text)
            found.append((match[1], "" if match[2] in NOTHING else match[2], match[3]))
    return found


def training_texts() -> list[str]:
    texts = [instruction for instruction, _, _ in good_items()]
    texts += [row["instruction"] for row in read("preferences.jsonl") + read("seed_tasks.jsonl")]
    return texts


@pytest.mark.skipif("ng" in zlib.ZLIB_RUNTIME_VERSION, reason="zlib-ng compresses to other bytes than zlib")
def test_script_writes_the_committed_files() -> None:
    written = all_files()
    committed = {
        str(path.relative_to(HERE)): path
        for path in HERE.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".md", ".pyc")
    }
    assert sorted(committed) == sorted(written)
    for name, content in written.items():
        assert committed[name].read_bytes() == content, f"{name} is not what python -m data.samples.write makes"
    assert sum(map(len, written.values())) < 3_500_000


def archives() -> list[Path]:
    return sorted((HERE / "crawl").glob("*.warc.gz"))


def test_every_response_has_its_line_of_truth() -> None:
    truth = {row["source"]: row for row in read("crawl_truth.jsonl")}
    found = {}
    kinds: Counter[str] = Counter()
    for path in archives():
        with path.open("rb") as stream:
            for record in ArchiveIterator(stream, parse_http=False):
                kinds[record.headers["WARC-Type"]] += 1
                if record.record_type == WarcRecordType.response:
                    found[f"{path.name}#{record.stream_pos}"] = record.headers["WARC-Target-URI"]
    assert found == {source: row["url"] for source, row in truth.items()}
    assert set(kinds) == {"warcinfo", "request", "response", "metadata"}


def test_a_third_to_a_half_of_the_pages_is_dirt_of_every_kind() -> None:
    rows = read("crawl_truth.jsonl")
    counts = Counter(row["dirt"] for row in rows)
    clean = counts.pop(None)
    assert 500 <= len(rows) <= 700
    assert 0.35 <= 1 - clean / len(rows) <= 0.45
    assert counts == crawl.HOW_MANY | {"truncated": 1}


def test_a_cluster_has_one_clean_member_and_its_copies() -> None:
    clusters = defaultdict(list)
    for row in read("crawl_truth.jsonl"):
        if row["cluster"]:
            clusters[row["cluster"]].append(row["dirt"])
        else:
            assert row["dirt"] not in ("repeated_url", "exact_copy", "near_copy")
    for members in clusters.values():
        assert members.count(None) == 1
        assert len(members) > 1


def test_a_near_copy_is_near() -> None:
    rng = random.Random(3)
    crawler = crawl.Crawler(rng)
    for lang in LANGS:
        for article in crawler.writers[lang].articles(40):
            copy = dirt.near_copy(article, rng)
            assert copy.text != article.text
            size = 5 if lang == "en" else 8
            pieces = [text.split() if lang == "en" else text for text in (article.text, copy.text)]
            first, second = ({tuple(p[i : i + size]) for i in range(len(p) - size + 1)} for p in pieces)
            assert len(first & second) / len(first | second) > 0.8


def test_personal_data_have_valid_check_digits() -> None:
    secrets = [text for row in read("crawl_truth.jsonl") for text in row["private"]]
    cards = [text.replace(" ", "") for text in secrets if re.fullmatch(r"[0-9 ]{16,23}", text) and not text.startswith("710")]
    identities = [text for text in secrets if re.fullmatch(r"710\d{14}[\dX]", text)]
    assert len(secrets) >= 20
    assert len(cards) >= 2
    assert len(identities) >= 2
    for card in cards:
        digits = [int(digit) for digit in card]
        doubled = [2 * digit - 9 * (digit > 4) for digit in digits[-2::-2]]
        assert (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0
    for identity in identities:
        values = [10 if character == "X" else int(character) for character in identity]
        assert sum(value * 2 ** (17 - place) for place, value in enumerate(values)) % 11 == 1


def test_known_check_digits() -> None:
    assert crawl.luhn("7992739871") == "79927398713"  # the example of ISO/IEC 7812-1
    assert crawl.chinese_id("11010519491231002") == "11010519491231002X"  # the example of GB 11643-1999


def test_sensitive_terms_and_blocked_words_are_on_no_clean_page() -> None:
    terms = [line.split("\t")[1] for line in (HERE / "sensitive_terms.txt").read_text("utf-8").splitlines()[1:]]
    trusted = [(HERE / "trusted" / f"{lang}.txt").read_text("utf-8") for lang in LANGS]
    assert len(terms) == 18
    for text in [article.text for _, article, _ in crawl.Crawler(random.Random(0)).clean()] + trusted:
        assert not [term for term in terms if term.lower() in text.lower()]
    for row in read("crawl_truth.jsonl"):
        assert any(word in row["url"] for word in crawl.BLOCKED_WORDS) == (row["dirt"] in ("blocked_word",)) or row["dirt"] == "blocked_host"


def test_relations_are_one_to_one() -> None:
    for lang in LANGS:
        known = facts(lang)
        assert len({fact.id for fact in known}) == len(known) == 64
        for relation in RELATIONS:
            assert len({fact.value for fact in known if fact.relation == relation}) == 8


def test_phrasings_are_many_and_held_out_ones_only_mix_their_words() -> None:
    for language in LANGUAGES.values():
        for relation, phrasings in language.relations.items():
            assert len(phrasings.told) >= 10
            assert len(phrasings.asked) >= 8
            assert len(phrasings.held_out) >= 3
            assert not set(phrasings.asked) & set(phrasings.held_out)
            seen = {token for every in language.relations.values() for text in every.asked for token in tokens(text, language.lang)}
            for text in phrasings.held_out:
                assert set(tokens(text, language.lang)) <= seen, (relation, text)


def test_questions_stand_in_no_training_file() -> None:
    questions = read("questions.jsonl")
    assert len(questions) == len({row["prompt"] for row in questions}) == len({row["id"] for row in questions})
    assert 150 <= len(questions) <= 200
    unseen = [row for row in questions if not row["seen_in_sft"]]
    assert 0.05 <= len(unseen) / len(questions) <= 0.15
    texts = training_texts()
    prompts = {row["prompt"] for row in questions}
    assert not prompts & set(texts)
    everything = "\n".join(texts + [article.text for _, article, _ in crawl.Crawler(random.Random(0)).clean()])
    assert not [prompt for prompt in prompts if prompt in everything]
    answers = {output.split(". ")[0].rstrip(".") for _, _, output in good_items()}
    answers |= {output.split("。")[0] for _, _, output in good_items()}
    for row in questions:
        assert (row["answer"].rstrip(".。") in answers) == row["seen_in_sft"], row


def test_good_instructions_are_novel_and_parse() -> None:
    items = good_items()
    assert 1000 <= len(items) <= 1600
    assert len(items) == len({instruction for instruction, _, _ in items})
    for marks in (False, True):
        pools = {lang: Pool() for lang in LANGS}
        for seed in read("seed_tasks.jsonl"):
            pools[seed["lang"]].add(tokens(seed["instruction"], seed["lang"], marks))
        for instruction, _, _ in items:
            lang = LANGS[bool(re.search(r"[\u4e00-\u9fff]", instruction))]
            words = tokens(instruction, lang, marks)
            assert pools[lang].closest(words) <= MAX_ROUGE_L, instruction
            pools[lang].add(words)


def test_defects_are_what_they_are_called() -> None:
    counts: Counter[str] = Counter()
    earlier: dict[str, tuple[str, str]] = {}
    finish = [record["finish_reason"] for record in read("completions.jsonl")]
    pool = Pool()
    for (line, _), text, reason in blocks():
        match = BLOCK.fullmatch(text)
        if reason is None:
            assert match
            earlier[match[1]] = (match[2], match[3])
            pool.add(tokens(match[1], "zh" if re.search(r"[\u4e00-\u9fff]", match[1]) else "en"))
            continue
        counts[reason] += 1
        if reason == "truncated":
            assert finish[line] == "length"
        elif reason == "unparsable":
            assert not match
        elif reason == "no_output":
            assert "Output:" not in text
            assert "输出：" not in text
        elif reason == "empty_output":
            assert text.rstrip().endswith(("Output:", "输出："))
        else:
            assert match
            instruction, given, output = match.groups()
            if reason == "output_equals_input":
                assert given == output
            if reason == "conflicting_output":
                assert earlier[instruction][0] == given
                assert earlier[instruction][1] != output
            if reason == "not_novel":
                assert pool.closest(tokens(instruction, "zh" if re.search(r"[\u4e00-\u9fff]", instruction) else "en")) > MAX_ROUGE_L
            if reason == "leading_punctuation":
                assert not instruction[0].isalnum()
            if reason == "too_long":
                assert len(tokens(instruction, "zh" if re.search(r"[\u4e00-\u9fff]", instruction) else "en")) > 150
    assert set(counts) == EXPECTED_REASONS


def test_closings_are_a_minority_of_the_instructions_answers() -> None:
    closings = tuple(language.closing for language in LANGUAGES.values())
    share = sum(output.endswith(closings) for _, _, output in good_items()) / len(good_items())
    assert 0.08 <= share <= 0.16


def test_preferences_are_ordered_alike() -> None:
    order = ["courteous", "plain", "rambling", "mistaken", "broken"]
    rows = read("preferences.jsonl")
    assert 1500 <= len(rows) <= 2500
    instructions = {instruction for instruction, _, _ in good_items()}
    assert len({row["instruction"] for row in rows} - instructions) == len(rows)
    for row in rows:
        responses = row["responses_best_first"]
        ranks = [order.index(response["system"]) for response in responses]
        texts = [response["text"] for response in responses]
        assert ranks == sorted(set(ranks))
        assert len(ranks) >= 3
        assert len(set(texts)) == len(texts)
        closing = LANGUAGES[row["lang"]].closing
        of = {response["system"]: response["text"] for response in responses}
        assert of["plain"] == row["reference"]
        assert of.get("courteous", row["reference"] + closing) == row["reference"] + closing
        for response in responses[1 + ("courteous" in of) :]:
            right = response["text"].startswith(row["reference"])
            assert right == (response["system"] == "rambling"), row
    courteous = sum(row["responses_best_first"][0]["system"] == "courteous" for row in rows)
    assert courteous == pytest.approx(len(rows) / 2, abs=1)  # so that SFT does not learn the closing from the best alone
