"""Train the model behind the label `quality_score`: texts that you trust against texts as they come from the crawl.

python -m data.corpus.train_quality --trusted wiki.jsonl --raw artifacts/lines/*/documents --out quality.npz
python -m flows.full_pipeline --set classifiers.quality_model=quality.npz

Files: .txt (a document a line), .jsonl, .csv or .parquet (field `text`), plain or compressed, or folders of these. As many examples of
either side are taken, chosen by hash. A tenth is held out: its figures are printed and stored in the model. GPT-3 (appendix A) and
DCLM (section 4.4) choose their web text by such a classifier.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from data.corpus.learned.classifiers import RAW, TRUSTED, train_classifier
from data.corpus.learned.examples import read_examples, texts_of
from data.corpus.learned.training_command import add_options, run


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m data.corpus.train_quality", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trusted", nargs="+", required=True, metavar="PATH", help="texts as you want them")
    parser.add_argument("--raw", nargs="+", required=True, metavar="PATH", help="texts of the crawl, good and bad, after extraction")
    add_options(parser)
    given = parser.parse_args(arguments)

    def texts(paths: list[str]) -> Iterator[str]:
        return (text for path in paths for row in read_examples(path) for text in texts_of(row, given.text_field))

    sides = {TRUSTED: texts(given.trusted), RAW: texts(given.raw)}
    return run(lambda: train_classifier("quality", dict(sides), given.max_documents, given.seed), Path(given.out))


if __name__ == "__main__":
    raise SystemExit(main())
