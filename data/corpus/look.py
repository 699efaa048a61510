"""Look at what a stage dropped.

python -m data.corpus.look artifacts/corpus/FINGERPRINT                                   # some documents of each reason
python -m data.corpus.look artifacts/corpus/FINGERPRINT --reason short_lines --documents 20 --characters 2000
python -m data.corpus.look artifacts/urls/* artifacts/lines/* --seed 2                     # other documents, of several stages

The documents are drawn by a hash of their ids: the same ones every time, and others with another seed. Personal data is redacted.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from data.corpus.drops import drops_of, shown
from data.shards import list_shards


def lines_of(artifacts: Sequence[Path], reasons: Sequence[str], documents: int, characters: int, seed: int) -> Iterator[str]:
    """What a terminal shows of the artifacts' drops. Raises FileNotFoundError where one has none, ValueError for a reason that no one has."""
    found = [(artifact, drops_of(_dropped(artifact), documents, seed)) for artifact in artifacts]
    known = sorted({drop.reason for _, drops in found for drop in drops})
    if unknown := sorted({*reasons} - {*known}):
        raise ValueError(f"nothing was dropped as {', '.join(unknown)}; there are: {', '.join(known) or 'no drops'}")
    for artifact, drops in found:
        for drop in drops:
            if not reasons or drop.reason in reasons:
                yield f"{artifact.parent.name} · {drop.reason}: {drop.documents:,} documents"
                for place in drop.examples:
                    document = shown(place, characters, lines=True)
                    yield "  " + " · ".join(part for part in (document["value"], document["url"]) if part)
                    yield from ("    " + line for line in document["text"].split("\n"))
                yield ""


def _dropped(artifact: Path) -> list[Path]:
    if shards := list_shards(artifact / "dropped"):
        return shards
    raise FileNotFoundError(f"{artifact}: no dropped/part-*.parquet there; name the artifact of a stage that drops (artifacts/corpus/FINGERPRINT)")


def _printable(line: str) -> str:
    """Without what a terminal would obey, and with nothing that shows a line in another order than it has."""
    return "".join(character if character.isprintable() else " " if character.isspace() else "\ufffd" for character in line)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m data.corpus.look", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifacts", nargs="+", type=Path, metavar="ARTIFACT", help="folder of a stage's artifact")
    parser.add_argument("--reason", nargs="+", default=[], help="these alone (default: every reason)")
    parser.add_argument("--documents", type=int, default=3, metavar="N", help="documents of a reason (default: 3)")
    parser.add_argument("--characters", type=int, default=400, metavar="N", help="characters of a document at most (default: 400)")
    parser.add_argument("--seed", type=int, default=0, help="another seed draws other documents (default: 0)")
    given = parser.parse_args(arguments)
    try:
        for line in lines_of(given.artifacts, given.reason, given.documents, given.characters, given.seed):
            print(_printable(line))
    except (FileNotFoundError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends it, without a word
    raise SystemExit(main())
