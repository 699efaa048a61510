"""Train the language models behind `bits_per_character` and `perplexity_bucket`, one a language, from trusted text.

python -m data.corpus.train_perplexity en=wiki_en.jsonl zh=wiki_zh.txt.gz --out models/
python -m flows.full_pipeline --set perplexity.models=models/

Files: .txt (a document a line), .jsonl, .csv or .parquet (field `text`), plain or compressed, or folders of these. A model is an interpolated
Witten-Bell n-gram model of characters, <lang>.npz. A small trusted text needs no command: perplexity.trusted names a folder of <lang>.txt.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from data.corpus.learned.char_model import CharModel
from data.corpus.learned.examples import read_examples, texts_of


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m data.corpus.train_perplexity", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("texts", nargs="+", metavar="LANG=PATH", help="language, as the language model names it, and its trusted text")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="folder of the models")
    parser.add_argument("--order", type=int, default=4, help="characters in an n-gram (default: 4)")
    parser.add_argument("--max-characters", type=int, default=20_000_000, metavar="N", help="characters read of each language (default: 20 million)")
    parser.add_argument("--text-field", default="text", metavar="NAME", help="field that holds the text (default: text)")
    given = parser.parse_args(arguments)
    try:
        for assignment in given.texts:
            lang, equals, path = assignment.partition("=")
            if not equals or not lang.isalnum() or not path:
                raise ValueError(f"{assignment}: write LANG=PATH, as in en=wiki.txt")
            text = _text(path, given.text_field, given.max_characters)
            model = CharModel.train(text, given.order)
            model.save(Path(given.out) / f"{lang}.npz")
            print(f"{Path(given.out) / f'{lang}.npz'}: {model.facts}")
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _text(path: str, field: str, most: int) -> str:
    parts: list[str] = []
    room = most
    for row in read_examples(path):
        for text in texts_of(row, [field]):
            parts.append(text[:room])
            room -= len(text) + 1
            if room <= 0:
                return "\n".join(parts)
    return "\n".join(parts)


if __name__ == "__main__":
    raise SystemExit(main())
