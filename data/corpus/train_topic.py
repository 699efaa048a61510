"""Train the model behind the labels `topic` and `topic_score` from texts whose topic is known.

python -m data.corpus.train_topic labelled.jsonl --out topics.npz
python -m data.corpus.train_topic topics/ --out topics.npz            # one file a topic: sports.txt, cooking.jsonl, ...
python -m flows.full_pipeline --set classifiers.topic_model=topics.npz

Files: .txt (a document a line), .jsonl, .csv or .parquet (field `text`), plain or compressed, or folders of these. A row's topic is its
field `topic`; where it has none, the name of its file. A tenth of the texts is held out: its accuracy is printed and stored.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from data.corpus.learned.classifiers import train_classifier
from data.corpus.learned.examples import read_examples, texts_of
from data.corpus.learned.linear_model import LinearModel
from data.corpus.learned.training_command import add_options, run


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m data.corpus.train_topic", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("labelled", nargs="+", metavar="PATH", help="labelled texts")
    parser.add_argument("--topic-field", default="topic", metavar="NAME", help="field that holds the topic (default: topic)")
    add_options(parser)
    given = parser.parse_args(arguments)

    def train() -> LinearModel:
        texts: dict[str, list[str]] = {}
        for path in given.labelled:
            for row in read_examples(path):
                topic = str(row.get(given.topic_field) or row["file"])
                texts.setdefault(topic, []).extend(texts_of(row, given.text_field))
        return train_classifier("topic", dict(texts), given.max_documents, given.seed)

    return run(train, Path(given.out))


if __name__ == "__main__":
    raise SystemExit(main())
