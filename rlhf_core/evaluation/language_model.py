"""How well a model predicts held-out text, per language: perplexity, bits per character and per byte.

Perplexity is per token and compares models of one tokenizer; the other two compare any models. Every token of a text is
predicted once, in windows that overlap: it sees `window - stride` tokens at least, or all that stands before it (the strided
evaluation of transformers' documentation, "Perplexity of fixed-length models").
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from rlhf_core.dataset.chat_template import Tokens
from rlhf_core.dataset.corpus import held_out
from rlhf_core.dataset.spelling import Spelling
from rlhf_core.measures.likelihood import nats
from rlhf_core.models.networks import PolicyModel


@dataclass(frozen=True)
class Text:
    id: str
    lang: str
    text: str


def read_texts(corpus: Path, share: float, most: int) -> list[Text]:
    """The documents of a corpus artifact that pretraining holds out (`share` of them, by their ids), `most` of each language:
    those whose hashed ids come first, so that the choice does not depend on the order of the corpus."""
    by_lang: dict[str, list[tuple[bytes, Text]]] = {}
    for shard in sorted((corpus / "documents").glob("part-*.parquet")):
        table = pq.read_table(shard, columns=["id", "lang", "text"], partitioning=None)
        ids = [str(identity) for identity in table["id"].to_pylist()]
        places = [place for place, identity in enumerate(ids) if held_out(identity, share)]
        chosen = table.take(pa.array(places, pa.int64()))
        for identity, lang, text in zip(
            (ids[place] for place in places), chosen["lang"].to_pylist(), chosen["text"].to_pylist(), strict=True
        ):
            if text and text.strip():
                key = hashlib.blake2b(identity.encode(), digest_size=8).digest()
                by_lang.setdefault(lang or "unknown", []).append((key, Text(identity, lang or "unknown", text)))
    return [text for lang in sorted(by_lang) for _, text in sorted(by_lang[lang], key=lambda item: item[0])[:most]]


@dataclass(frozen=True)
class Scored:
    """What a text cost a model. `nats` are -ln p of all its `tokens`; `lossy`: the tokenizer does not give the text back as it is,
    so they are of less than the whole text."""

    text: Text
    tokens: int
    nats: float
    lossy: bool

    def line(self) -> dict[str, Any]:
        """A line of language_model.jsonl, without the model."""
        text = self.text.text
        sizes = {"tokens": self.tokens, "characters": len(text), "bytes": len(text.encode())}
        return {"id": self.text.id, "lang": self.text.lang, "nats": self.nats, **sizes, "lossy": self.lossy}


def score(
    model: PolicyModel,
    tokenizer: Any,
    start: int,
    texts: Sequence[Text],
    window: int,
    stride: int,
    batch_tokens: int,
    device: torch.device,
    done: Callable[[int], None] = lambda rows: None,
) -> list[Scored]:
    """Every text, in order.

    start   the token that stands before a text, from which its first one is predicted
    window  tokens read at once, at most; stride  tokens by which a window moves on
    """
    encoded = Spelling(tokenizer).ids([text.text for text in texts])
    rows, owner = [], []
    for place, ids in enumerate(encoded):
        for row in windows([start, *ids], window, stride):
            rows.append(row)
            owner.append(place)
    totals = [0.0] * len(texts)
    for place, total in zip(owner, nats(model, rows, batch_tokens, device, done), strict=True):
        totals[place] += total
    decoded = tokenizer.batch_decode(encoded, clean_up_tokenization_spaces=False)
    return [
        Scored(text, len(ids), total, text.text.strip() != back.strip())
        for text, ids, total, back in zip(texts, encoded, totals, decoded, strict=True)
    ]


def summarise(scored: Sequence[Scored]) -> dict[str, dict[str, Any]]:
    """Figures by language, and `all` over all texts where there are several languages."""
    langs = sorted({one.text.lang for one in scored})
    groups = {lang: [one for one in scored if one.text.lang == lang] for lang in langs}
    if len(langs) > 1:
        groups["all"] = list(scored)
    return {name: _figures(own) for name, own in groups.items()}


def windows(stream: list[int], window: int, stride: int) -> Iterator[Tokens]:
    """Windows over a text with its start token, in which every token but the start counts once."""
    scored, begin = 1, 0
    while scored < len(stream):
        end = min(begin + window, len(stream))
        yield Tokens(stream[begin:end], [place >= scored for place in range(begin, end)])
        scored, begin = end, max(begin, min(end + stride, len(stream)) - window)


def _figures(scored: Sequence[Scored]) -> dict[str, Any]:
    lines = [one.line() for one in scored]
    nats, tokens, characters, size = (sum(line[key] for line in lines) for key in ("nats", "tokens", "characters", "bytes"))
    bits = nats / math.log(2)
    return {
        "perplexity": math.exp(min(nats / max(tokens, 1), 50.0)),
        "bits_per_character": bits / max(characters, 1),
        "bits_per_byte": bits / max(size, 1),
        "documents": len(scored),
        "tokens": tokens,
        "lossy": sum(one.lossy for one in scored),
    }
