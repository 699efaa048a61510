"""How much a document surprises a model of trusted text of its language: gibberish and word salad surprise it much.

The label is bits per character; perplexity per character is 2 to that power. Text of another domain than the trusted
one is more surprising too, and all of a crawl is: the selection's bound is therefore relative to the crawl's median.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import pyarrow as pa

from data.corpus.char_model import CharModel
from data.corpus.labels import read_labels
from data.document import label_schema
from data.settings import PerplexitySettings

PERPLEXITY_LABELS = label_schema({"bits_per_character": pa.float32()})  # null where the language has no model


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
        text = path.read_text(encoding="utf-8", errors="replace")
        CharModel.train(text, settings.order).save(out / f"{path.stem}.npz")
    return [path.stem for path in texts]


@lru_cache(maxsize=32)
def _load(path: Path) -> CharModel | None:
    return CharModel.load(path) if path.exists() else None


def perplexity_labels(documents: pa.Table, settings: PerplexitySettings, *, models: Path, labels: Path) -> pa.Table:
    """`bits_per_character` of each document by the model of its language.

    `models` is the folder that `train_models` filled, `labels` the language labels of these documents.
    """
    langs = read_labels(labels, documents["id"], ["lang"])["lang"].to_pylist()
    bits: list[float | None] = []
    for text, lang in zip(documents["text"].to_pylist(), langs, strict=True):
        model = _load(models / f"{lang}.npz")
        bits.append(model.bits(text[: settings.max_characters]) if model and text else None)
    return pa.table([documents["id"].combine_chunks(), pa.array(bits, pa.float32())], schema=PERPLEXITY_LABELS)
