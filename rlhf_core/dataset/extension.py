"""A BPE vocabulary that goes on learning from another corpus: old tokens keep their ids and merges, new ones follow.

Training is continued where it stopped (Sennrich et al. 2016, algorithm 1): the corpus is written in the old tokens, and
the pair that stands together most often becomes a new token, again and again. Old merges come first, so old text keeps
its tokens wherever no new one applies, and a new token is always made of old pieces, whose mean embedding it starts with
(rlhf_core.models.networks.add_rows). Neither torch nor transformers is imported here.

SentencePiece's vocabularies (Llama 2, Mistral, Gemma) write a character that they lack as bytes, <0xE6> and so on, and decode
such a byte alone: a token made of two of them would be read back as its name. There the corpus's characters become tokens first.
"""

from __future__ import annotations

import heapq
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

from tokenizers import Tokenizer

from rlhf_core.job.errors import BadInput

Pair = tuple[str, str]

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_SPELLED = re.compile("▁*\\w+|▁*[^\\w▁]+|▁+")  # SentencePiece's words, its blanks before them: it cuts whole texts by nothing


def extend(tokenizer: Tokenizer, texts: Iterable[str], vocab_size: int, min_frequency: int) -> Tokenizer:
    """The tokenizer with new tokens up to `vocab_size` in all, fewer where no pair is left that often.

    Raises BadInput where its model is not BPE, or cuts no words (then every pair of a text would be one).
    """
    state = json.loads(tokenizer.to_str())
    model = state["model"]
    in_bytes = bool(model.get("byte_fallback"))
    if model.get("type") != "BPE" or (tokenizer.pre_tokenizer is None and not in_bytes):
        kind = "BPE without a pre-tokenizer" if model.get("type") == "BPE" else model.get("type")
        raise BadInput(
            f"tokenizer.extend: this vocabulary is {kind}; only BPE that cuts words first can be extended"
        )
    next_id = tokenizer.get_vocab_size(with_added_tokens=True)
    taken = set(tokenizer.get_vocab(with_added_tokens=True))
    tuples = bool(model["merges"]) and not isinstance(model["merges"][0], str)
    counts = words(tokenizer, texts)
    if in_bytes:
        for character in _characters(counts, taken, min_frequency)[: max(0, vocab_size - next_id)]:
            model["vocab"][character] = next_id
            taken.add(character)
            next_id += 1
        tokenizer = Tokenizer.from_str(json.dumps(state, ensure_ascii=False))
    apart = {token for token in taken if in_bytes and _BYTE.fullmatch(token)} | {model.get("unk_token")}
    for left, right in _learn(in_pieces(tokenizer, counts), taken, apart, vocab_size - next_id, min_frequency):
        model["vocab"][left + right] = next_id
        model["merges"].append([left, right] if tuples else f"{left} {right}")
        next_id += 1
    return Tokenizer.from_str(json.dumps(state, ensure_ascii=False))


def words(tokenizer: Tokenizer, texts: Iterable[str]) -> Counter[str]:
    """How often each word stands in the texts."""
    counts: Counter[str] = Counter()
    in_bytes = getattr(tokenizer.model, "byte_fallback", False)
    for text in texts:
        normal = tokenizer.normalizer.normalize_str(text) if tokenizer.normalizer else text
        cut = tokenizer.pre_tokenizer.pre_tokenize_str(normal) if tokenizer.pre_tokenizer else [(normal, None)]
        counts.update(part for word, _ in cut for part in (_SPELLED.findall(word) if in_bytes else [word]))
    return counts


def _characters(counts: Counter[str], taken: set[str], min_frequency: int) -> list[str]:
    """Characters that are no token and stand often enough, the most frequent first, ties in their order."""
    found: Counter[str] = Counter()
    for word, count in counts.items():
        for character in word:
            if character not in taken:
                found[character] += count
    return sorted((c for c, count in found.items() if count >= min_frequency), key=lambda c: (-found[c], c))


def in_pieces(tokenizer: Tokenizer, counts: Counter[str]) -> Counter[tuple[str, ...]]:
    """The words as the tokens that write them."""
    found: Counter[tuple[str, ...]] = Counter()
    for word, count in counts.items():
        found[tuple(token.value for token in tokenizer.model.tokenize(word))] += count
    return found


def _learn(
    corpus: Counter[tuple[str, ...]], taken: set[str], apart: set[str | None], most: int, min_frequency: int
) -> list[Pair]:
    """The next merges, most frequent pair first, ties in the order of their spelling. Tokens in `apart` are part of none."""
    pieces = [list(word) for word in corpus]
    weights = list(corpus.values())
    counts: Counter[Pair] = Counter()
    places: dict[Pair, set[int]] = defaultdict(set)
    for index, word in enumerate(pieces):
        for pair in pairwise(word):
            counts[pair] += weights[index]
            places[pair].add(index)
    heap = [(-count, pair) for pair, count in counts.items()]
    heapq.heapify(heap)
    merges: list[Pair] = []
    while heap and len(merges) < most:
        negative, pair = heapq.heappop(heap)
        if counts[pair] != -negative:  # an old entry
            continue
        if counts[pair] < min_frequency:
            break
        if not apart.isdisjoint(pair):
            continue
        if pair[0] + pair[1] in taken:  # spelled like a token that is made otherwise
            continue
        taken.add(pair[0] + pair[1])
        merges.append(pair)
        changed: set[Pair] = set()
        for index in places.pop(pair):
            old = pieces[index]
            new = _merge(old, pair)
            for sign, word in ((-1, old), (1, new)):
                for other in pairwise(word):
                    counts[other] += sign * weights[index]
                    changed.add(other)
                    places[other].add(index)
            pieces[index] = new
        for other in changed:
            if counts[other] > 0 and other != pair:
                heapq.heappush(heap, (-counts[other], other))
    return merges


def _merge(word: list[str], pair: Pair) -> list[str]:
    merged, at = [], 0
    while at < len(word):
        if tuple(word[at : at + 2]) == pair:
            merged.append(pair[0] + pair[1])
            at += 2
        else:
            merged.append(word[at])
            at += 1
    return merged


def write_extended(source: Path, tokenizer: Tokenizer, out: Path) -> None:
    """The folder `source` of a tokenizer with another tokenizer.json: special tokens and template stay as they are."""
    out.mkdir(parents=True, exist_ok=True)
    for name in (
        "tokenizer_config.json",
        "special_tokens_map.json",
        "chat_template.jinja",
        "generation_config.json",
    ):
        if (source / name).is_file():
            (out / name).write_bytes((source / name).read_bytes())
    tokenizer.save(str(out / "tokenizer.json"))
