"""A reward model's scores of sampled answers: `python -m rlhf_core.answer_scores JOB.json`.

Reads `rlhf_core.settings.AnswerScoringJob`; leaves scores.jsonl (`id` and `scores` of every record, in their order; null for
an answer that does not fit the model), metrics.jsonl and summary.json in its `output`. Scores that are there are not computed
again. Exit status as in rlhf_core.train.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from rlhf_core.dataset.records import Record, iterate_records
from rlhf_core.job.lines import whole_lines
from rlhf_core.settings import AnswerScoringJob
from rlhf_core.train import guarded, read_job

if TYPE_CHECKING:
    from rlhf_core.rewards.sources import Scorer

_BATCH = 16  # records whose answers are scored together


def main() -> int:
    return guarded(score, read_job(AnswerScoringJob))


def score(job: AnswerScoringJob) -> None:
    from rlhf_core.job.inputs import Inputs
    from rlhf_core.models.networks import quiet_libraries, take_device
    from rlhf_core.rewards.sources import load_scorer
    from rlhf_core.settings.alignment import RewardSource

    quiet_libraries()
    settings = job.settings
    model = Inputs({"reward model": job.model}).model("reward model")
    output = Path(job.output)
    scorer = load_scorer(RewardSource(model=model, label=settings.label), model, None, take_device(settings.launch.threads), settings.precision)
    _score_file(scorer, Path(job.samples), output)


def _score_file(scorer: Scorer, samples: Path, output: Path) -> None:
    output.mkdir(parents=True, exist_ok=True)
    steps = sum(1 for _ in iterate_records(samples))
    counts = [(len(row), row.count(None)) for row in (line["scores"] for line in whole_lines(output / "scores.jsonl"))]
    records = islice(iterate_records(samples), len(counts), None)
    with (output / "scores.jsonl").open("a", encoding="utf-8") as scores, (output / "metrics.jsonl").open("a", encoding="utf-8") as metrics:
        while batch := list(islice(records, _BATCH)):
            for record, row in zip(batch, _scores(scorer, batch), strict=True):
                scores.write(json.dumps({"id": record.id, "scores": row}) + "\n")
                counts.append((len(row), row.count(None)))
            scores.flush()
            metrics.write(json.dumps({"step": len(counts), "steps": steps}) + "\n")
            metrics.flush()
    answers, too_long = (sum(column) for column in zip(*counts, strict=True)) if counts else (0, 0)
    summary = {"records": len(counts), "answers": answers, "too_long_answers": too_long}
    (output / "summary.json").write_text(json.dumps(summary), encoding="utf-8")


def _scores(scorer: Scorer, records: list[Record]) -> list[list[float | None]]:
    """Of each record's answers, in their order."""
    from rlhf_core.rewards.sources import finite

    prompts = [record for record in records for _ in record.responses]
    texts = [text for record in records for text in record.responses]
    fitting = [place for place, fits in enumerate(scorer.fits(prompts, texts)) if fits]
    found: list[float | None] = [None] * len(texts)
    if fitting:
        given = finite(scorer.score_texts([prompts[i] for i in fitting], [texts[i] for i in fitting], [True] * len(fitting)), "the judge")
        for place, value in zip(fitting, given.tolist(), strict=True):
            found[place] = round(value, 6)
    rest: Iterator[float | None] = iter(found)
    return [list(islice(rest, len(record.responses))) for record in records]


if __name__ == "__main__":
    sys.exit(main())
