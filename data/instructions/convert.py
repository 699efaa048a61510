"""From one layout to another: `python -m data.instructions.convert IN OUT --to sharegpt`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data.instructions.formats import Rejected, Tally, stream_conversations, stream_preferences
from data.instructions.preference_shapes import PREFERENCES
from data.instructions.shapes import ALIASES, CONVERSATIONS
from data.instructions.writers import CONVERSATION_WRITERS, PREFERENCE_WRITERS, write


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0; 1 where nothing could be read; 2 for a wrong call or file. What was left out is printed, by reason."""
    parser = argparse.ArgumentParser(prog="python -m data.instructions.convert", description=__doc__)
    parser.add_argument("input", type=Path, metavar="IN")
    parser.add_argument("output", type=Path, metavar="OUT")
    parser.add_argument("--to", required=True, choices=[*CONVERSATION_WRITERS, *PREFERENCE_WRITERS, *filter(ALIASES.get, ALIASES)], metavar="FORMAT", help="%(choices)s")
    parser.add_argument("--from", dest="given", choices=[*CONVERSATIONS, *PREFERENCES, *ALIASES], metavar="FORMAT", help="%(choices)s; detected line by line where not given")
    options = parser.parse_args(arguments)
    tally = Tally()
    preferences = options.to in PREFERENCE_WRITERS or ALIASES.get(options.to) in PREFERENCE_WRITERS
    stream: Any = stream_preferences if preferences else stream_conversations
    try:
        written, left_out = write(options.output, _records(stream(options.input, tally, options.given)), options.to)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{tally.values:,} values read, {written:,} written to {options.output}")
    for title, counts in (("rejected", tally.reasons()), ("left out", left_out)):
        if counts:
            print(f"{title}: " + ", ".join(f"{count:,} {reason}" for reason, count in counts.items()))
    return 0 if written else 1


def _records(stream: Iterator[Any]) -> Iterator[Any]:
    for item in stream:
        if isinstance(item, Rejected):
            print(f"line {item.line}: {item.reason}: {item.text[:80]}", file=sys.stderr)
        else:
            yield item


if __name__ == "__main__":
    sys.exit(main())
