"""Gopher's measures of repetition: lines, paragraphs and n-grams that stand in a text more than once.

The arithmetic follows huggingface/datatrove, gopher_repetition_filter.py, with two differences: a top n-gram counts
from its second copy on, and in unspaced text n words are 2n characters (a Chinese word has about two).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from data.text import MULTIPLIER, Hashes, mix
from data.text_batch import Positions, Spans, keys_within

TOP_SIZES = (2, 3, 4)
DUPLICATE_SIZES = (5, 6, 7, 8, 9, 10)

Shares = NDArray[np.float64]


def later_copies(spans: Spans, hashes: Hashes, texts: int) -> tuple[Shares, Shares]:
    """Of each text, the share of `spans` that repeat an earlier one, and of their characters; shape (texts,) each."""
    keys = keys_within(spans.text, hashes)
    order = np.argsort(keys)
    ordered = keys[order]
    later = order[1:][ordered[1:] == ordered[:-1]]  # copies but one of each; which one does not matter
    counts = np.bincount(spans.text, minlength=texts)
    characters = np.bincount(spans.text, spans.lengths, minlength=texts)
    repeated = np.bincount(spans.text[later], minlength=texts)
    repeated_characters = np.bincount(spans.text[later], spans.lengths[later], minlength=texts)
    return repeated / np.maximum(counts, 1), repeated_characters / np.maximum(characters, 1)


def ngram_shares(text: Positions, hashes: Hashes, lengths: Positions, scales: Positions) -> dict[str, Shares]:
    """Gopher's n-gram measures by name, of words given in order by text number, hash and length in characters.

    An n-gram of text t has `scales[t]` * n words. top_Ngram: characters of the commonest n-gram's copies.
    duplicate_Ngram: characters of n-grams that stood before, scanned from the left and passed over whole. Both over
    the characters of all words of the text; shape (len(scales),) each.
    """
    found: dict[str, Shares] = {}
    totals = np.maximum(np.bincount(text, lengths, minlength=len(scales)), 1)
    ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    words = np.bincount(text, minlength=len(scales))
    last_word = np.repeat(np.cumsum(words), words)
    of_word = scales[text]
    # Only where an n-gram repeats can a longer one: `at` are the places left, `grams` the hashes of what stands there.
    at, grams, width = np.arange(len(text)), hashes.copy(), np.ones(len(text), np.int64)
    for size in (*TOP_SIZES, *DUPLICATE_SIZES):
        wanted = of_word[at] * size
        inside = at + wanted <= last_word[at]
        at, grams, width, wanted = at[inside], grams[inside], width[inside], wanted[inside]
        while (short := width < wanted).any():
            grams[short] = grams[short] * np.uint64(MULTIPLIER) + hashes[at[short] + width[short]]
            width[short] += 1
        keys = keys_within(text[at], mix(grams))
        order = np.argsort(keys)  # equal n-grams in any order: they are alike in all that is asked of them
        ordered = keys[order]
        same = ordered[1:] == ordered[:-1]
        if size in TOP_SIZES:
            firsts, copies = _repeated_runs(same)
            first = at[order[firsts]]
            characters = copies * (ends[first + width[order[firsts]]] - ends[first])
            found[f"top_{size}gram_characters_share"] = _of_commonest(text[first], copies, characters, len(scales)) / totals
        repeated = np.zeros(len(order), dtype=np.bool_)
        repeated[1:] = same
        repeated[:-1] |= same
        stays = np.zeros(len(order), dtype=np.bool_)
        stays[order[repeated]] = True
        at, grams, width, keys = at[stays], grams[stays], width[stays], keys[stays]
        if size in DUPLICATE_SIZES:
            characters = np.zeros(len(scales))
            _pass_over(characters, text[at], at, keys, width, ends)
            found[f"duplicate_{size}gram_characters_share"] = characters / totals
    return found


def _repeated_runs(same: NDArray[np.bool_]) -> tuple[Positions, Positions]:
    """Where runs of equal neighbours begin and how long they are, given which values are equal to the one before."""
    edges = np.flatnonzero(np.diff(same, prepend=False, append=False))
    return edges[::2], edges[1::2] - edges[::2] + 1


def _of_commonest(text: Positions, copies: Positions, characters: Positions, texts: int) -> Shares:
    """`characters` of each text's n-gram with most `copies`, of the longest where several are; 0 of a text without any.

    The n-grams are given text by text.
    """
    top = np.zeros(texts)
    if len(text):
        begins = np.flatnonzero(np.diff(text, prepend=-1))
        best = np.maximum.reduceat(copies << 32 | characters, begins)
        top[text[begins]] = best & 0xFFFFFFFF
    return top


def _pass_over(
    characters: Shares, text: Positions, at: Positions, keys: Hashes, width: Positions, ends: Positions
) -> None:
    """Add to `characters` those of the n-grams that repeat an earlier one, left to right, none counted within another."""
    seen: set[int] = set()
    passed: list[int] = []
    free = 0
    for row, (start, key, end) in enumerate(zip(at.tolist(), keys.tolist(), (at + width).tolist(), strict=True)):
        if start < free:
            continue
        if key in seen:
            passed.append(row)
            free = end
        else:
            seen.add(key)
    np.add.at(characters, text[passed], ends[(at + width)[passed]] - ends[at[passed]])
