"""Runs in datatrove's environment: archives -> kept documents with its own filters; prints its statistics as one JSON line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.extractors import Trafilatura
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.pipeline.readers import WarcReader
from datatrove.pipeline.writers import JsonlWriter


def main(archives: Path, out: Path, workers: int) -> None:
    pipeline = [
        WarcReader(str(archives), glob_pattern="*.warc.gz"),
        Trafilatura(favour_precision=True, timeout=30),  # by default a second, which a busy machine takes from every page
        GopherRepetitionFilter(),
        GopherQualityFilter(),
        C4QualityFilter(filter_no_terminal_punct=False),
        FineWebQualityFilter(),
        JsonlWriter(str(out / "documents")),
    ]
    LocalPipelineExecutor(pipeline=pipeline, tasks=workers, workers=workers, logging_dir=str(out / "logs")).run()
    print(json.dumps({"stages": json.loads((out / "logs" / "stats.json").read_text())}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
