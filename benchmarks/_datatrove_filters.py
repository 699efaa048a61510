"""Runs in datatrove's environment: each of its filters over every text, on one core; seconds of the processor by filter."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from datatrove.data import Document
from datatrove.pipeline.dedup import MinhashDedupSignature
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.pipeline.formatters import PIIFormatter


def main(texts: Path, out: Path) -> None:
    documents = [json.loads(line)["text"] for line in texts.read_text(encoding="utf-8").splitlines()]
    formatter = PIIFormatter()
    signature = MinhashDedupSignature(str(out / "signatures"))
    filters = {
        "gopher repetition": GopherRepetitionFilter().filter,
        "gopher quality": GopherQualityFilter().filter,
        "c4": C4QualityFilter(filter_no_terminal_punct=False).filter,
        "fineweb": FineWebQualityFilter().filter,
        "signatures": lambda document: signature.get_signature(signature.get_shingles(document.text)),
        "personal data": lambda document: formatter.format(document.text),
    }
    seconds = {}
    for name, apply in filters.items():
        apply(Document(text=documents[0], id="0"))
        start = time.process_time()
        for number, text in enumerate(documents):
            try:
                apply(Document(text=text, id=str(number)))
            except (ValueError, ZeroDivisionError, IndexError):
                continue  # a text without words
        seconds[name] = time.process_time() - start
    print(json.dumps({"stages": seconds, "seconds": sum(seconds.values()), "pages": len(documents)}))




if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
