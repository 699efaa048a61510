"""Train the model behind the URL score from URLs that are known to be good or bad.

python -m data.corpus.train_url_score labelled.tsv --out urls.npz
python -m data.corpus.train_url_score good.txt bad.txt --out urls.npz          # one URL a line, the file's name is its label
python -m data.corpus.train_url_score --good artifacts/corpus/F/documents --bad artifacts/corpus/F/dropped --out urls.npz
python -m flows.full_pipeline --set urls.score_model=urls.npz --set urls.min_score=0.2

Files: .txt or .tsv (a URL, or `label<TAB>URL`, a line), .jsonl, .csv or .parquet (fields `url` and `label`), plain or compressed, or folders of these.
Labels: good, keep, kept or 1; bad, drop, dropped or 0; those given by --good and --bad need none, and rows without a URL are left
out of them. A tenth of the URLs is held out: its figures are printed and stored. What an earlier run kept and dropped serves well.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from data.corpus.learned.examples import read_examples
from data.corpus.learned.linear_model import LinearModel, train
from data.corpus.learned.training_command import add_options, run
from data.corpus.url.score import BAD, BITS, GOOD, KIND, url_features

_LABELS = {"good": GOOD, "keep": GOOD, "kept": GOOD, "1": GOOD, "bad": BAD, "drop": BAD, "dropped": BAD, "0": BAD}


def train_url_model(labelled: Sequence[str], good: Sequence[str], bad: Sequence[str], most: int, seed: int) -> LinearModel:
    """Raises ValueError for a row of `labelled` without a URL or with an unknown label, and where one of the two labels has no URL."""
    urls: dict[str, set[str]] = {GOOD: set(), BAD: set()}
    for label, url in [*_of_labelled(labelled), *_of_side(good, GOOD), *_of_side(bad, BAD)]:
        if len(urls[label]) < most:
            urls[label].add(url)
    pairs = [(url, label) for label, of_label in urls.items() for url in sorted(of_label)]
    return train(KIND, [url_features(url) for url, _ in pairs], [label for _, label in pairs], BITS, seed)


def _of_side(paths: Sequence[str], label: str) -> Iterator[tuple[str, str]]:
    for path in paths:
        for row in read_examples(path):
            if url := str(row.get("url") or (row.get("text") if "url" not in row else None) or "").strip():
                yield label, url


def _of_labelled(paths: Sequence[str]) -> Iterator[tuple[str, str]]:
    for path in paths:
        for row in read_examples(path):
            label, url = _labelled(row)
            if label not in _LABELS or not url:
                raise ValueError(f"{path}: {str(row)[:200]}: needed: a url and a label of {', '.join(_LABELS)}; or name the path after --good or --bad")
            yield _LABELS[label], url


def _labelled(row: dict[str, object]) -> tuple[str, str]:
    label, url = row.get("label"), row.get("url")
    if url is None and isinstance(text := row.get("text"), str):
        before, tab, after = text.partition("\t")
        label, url = (before, after) if tab else (None, text)
    return str(row["file"] if label is None else label).strip().lower(), str(url or "").strip()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m data.corpus.train_url_score", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("labelled", nargs="*", metavar="LABELLED", help="URLs with labels")
    parser.add_argument("--good", nargs="+", default=[], metavar="PATH", help="good URLs")
    parser.add_argument("--bad", nargs="+", default=[], metavar="PATH", help="bad URLs")
    add_options(parser)
    given = parser.parse_args(arguments)
    return run(lambda: train_url_model(given.labelled, given.good, given.bad, given.max_documents, given.seed), Path(given.out))


if __name__ == "__main__":
    raise SystemExit(main())
