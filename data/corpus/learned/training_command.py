"""What the commands that train a classifier have in common."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from data.corpus.learned.linear_model import LinearModel


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", required=True, metavar="FILE.npz", help="the model")
    parser.add_argument("--max-documents", type=int, default=50_000, metavar="N", help="texts of a class at most (default: 50,000, about 2 kB each in memory)")
    parser.add_argument(
        "--text-field", type=_names, default=["text"], metavar="NAME[,NAME]", help="fields of JSON lines and Parquet that hold texts (default: text)"
    )
    parser.add_argument("--seed", type=int, default=1, help="another seed draws other texts and another order (default: 1)")


def _names(given: str) -> list[str]:
    return given.split(",")


def run(train: Callable[[], LinearModel], out: Path) -> int:
    """Train, save and say what came out; the exit status: 2 for input that cannot be used, with one line that says why."""
    if out.suffix != ".npz":
        print(f"error: --out {out}: a model is a .npz file", file=sys.stderr)
        return 2
    try:
        model = train()
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    model.save(out)
    print(f"{out}: a {model.kind} model of {len(model.classes)} classes")
    print(json.dumps(model.facts, ensure_ascii=False, indent=1))
    return 0
