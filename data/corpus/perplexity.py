"""How much a document surprises a model of trusted text of its language: gibberish and word salad surprise it much, lists and
boilerplate little.

The label is bits per character, whatever the model (characters, KenLM, a causal language model): -log2 of the text's probability
over its length; perplexity per character is 2 to that power. Text of another domain than the trusted one is more surprising too,
and all of a crawl is: the selection's bounds are therefore relative to the crawl's median, and so are the buckets (buckets.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from data.corpus.labels import read_labels
from data.corpus.learned import kenlm_model
from data.corpus.learned.char_model import CharModel
from data.corpus.reading.charset import text_of
from data.document import label_schema, values, views
from data.settings import PerplexitySettings
from data.text import Text
from data.unchanged import kept_while_unchanged

# Null where the language has no model. `perplexity_lang` names the language whose model was asked.
PERPLEXITY_LABELS = label_schema({"bits_per_character": pa.float32(), "perplexity_lang": pa.string()})


class LanguageModel(Protocol):
    def bits(self, text: Text, most: int) -> float:
        """Mean bits per character of the first `most`."""
        ...


def bundled_trusted() -> Path:
    """Folder of the samples' trusted texts."""
    return Path(__file__).resolve().parents[1] / "samples" / "trusted"


def train_models(out: Path, settings: PerplexitySettings) -> list[str]:
    """Train out/<lang>.npz from each <lang>.txt of the trusted folder; returns the languages.

    Raises FileNotFoundError where the folder has no text.
    """
    folder = Path(settings.trusted) if settings.trusted else bundled_trusted()
    texts = sorted(folder.glob("*.txt"))
    if not texts:
        raise FileNotFoundError(f"{folder}: no <lang>.txt to learn from; set perplexity.trusted")
    for path in texts:
        CharModel.train(text_of(path.read_bytes()), settings.order).save(out / f"{path.stem}.npz")
    return [path.stem for path in texts]


def find_models(folder: Path) -> list[str]:
    """The languages of the models in `folder`, by the names of its files. Raises FileNotFoundError where there is none."""
    names = {path.name.split(".")[0] for path in folder.glob("*") if path.name.endswith((".npz", *kenlm_model.ENDINGS))}
    if not names:
        raise FileNotFoundError(f"{folder}: no <lang>.npz (python -m data.corpus.train_perplexity) and no KenLM file <lang>.arpa, .klm or .bin")
    return sorted(names)


def check_languages(languages: Sequence[str], wanted: Sequence[str], folder: str) -> None:
    """Raises ValueError where none of the languages that are `wanted` is among those of the models: no document would be measured."""
    if not set(languages) & set(wanted):
        raise ValueError(f"{folder}: models of {', '.join(languages)}; needed is one of {', '.join(wanted)}, which its file's name says, as {wanted[0]}.npz or {wanted[0]}.txt")


@kept_while_unchanged(32)
def _load(folder: Path, lang: str | None) -> LanguageModel | None:
    if not lang or not lang.isalnum():
        return None
    if (own := folder / f"{lang}.npz").exists():
        return CharModel.load(own)
    for ending in kenlm_model.ENDINGS:
        if (path := folder / f"{lang}{ending}").exists():
            return kenlm_model.KenlmModel(path)
    return None


def perplexity_labels(documents: pa.Table, settings: PerplexitySettings, *, models: Path, labels: Path) -> pa.Table:
    """`bits_per_character` of each document by the model of its language.

    `models` is a folder of <lang>.npz or KenLM files, `labels` the language labels of these documents.
    """
    langs = values(read_labels(labels, documents["id"], ["lang"]), "lang")
    of_languages = {lang: _load(models, lang) for lang in set(langs)}
    bits: list[float | None] = []
    for text, lang in zip(views(documents, "text"), langs, strict=True):
        model = of_languages[lang]
        bits.append(model.bits(text, settings.max_characters) if model and text else None)
    return _labels(documents, pa.array(bits, pa.float32()), langs)


def scored_labels(documents: pa.Table, settings: PerplexitySettings, *, scores: Path, labels: Path) -> pa.Table:
    """The same from what a causal language model said of these documents: a label shard with `model_bits_per_character`."""
    langs = values(read_labels(labels, documents["id"], ["lang"]), "lang")
    found = read_labels(scores, documents["id"], ["model_bits_per_character"])["model_bits_per_character"]
    return _labels(documents, found.cast(pa.float32()).combine_chunks(), langs)


def _labels(documents: pa.Table, bits: pa.Array, langs: list[str | None]) -> pa.Table:
    asked = [lang if known else None for lang, known in zip(langs, bits.is_valid().to_pylist(), strict=True)]
    return pa.table([documents["id"].combine_chunks(), bits, pa.array(asked, pa.string())], schema=PERPLEXITY_LABELS)
