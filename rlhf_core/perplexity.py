"""How much documents surprise a causal language model: `python -m rlhf_core.perplexity JOB.json`.

Reads `rlhf_core.settings.ScoringJob`; leaves one labels/part-*.parquet for each shard of documents (`id`,
`model_bits_per_character`), metrics.jsonl and summary.json in its `output`. Shards that are there are not scored again.
Exit status as in rlhf_core.train.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlhf_core.job.errors import BadInput
from rlhf_core.settings import ScoringJob
from rlhf_core.train import guarded, read_job

_SECONDS_BETWEEN_LINES = 2.0


def main() -> int:
    return guarded(score, read_job(ScoringJob))


def score(job: ScoringJob) -> None:
    from rlhf_core.models.networks import quiet_libraries, take_device

    quiet_libraries()
    device = take_device(job.settings.launch.threads)
    shards = sorted(Path(job.documents).glob("part-*.parquet"))
    if not shards:
        raise BadInput(f"no documents part-*.parquet in {job.documents}")
    output = Path(job.output)
    (output / "labels").mkdir(parents=True, exist_ok=True)
    scorer: Scorer | None = None
    with (output / "metrics.jsonl").open("a", encoding="utf-8") as metrics:
        for index, shard in enumerate(shards):
            if (output / "labels" / shard.name).exists():
                continue
            scorer = scorer or Scorer(job, device)
            _score_shard(scorer, shard, output / "labels", _reporter(metrics, index, len(shards)))
    (output / "summary.json").write_text(json.dumps({"shards": len(shards)}), encoding="utf-8")


def _reporter(metrics: Any, index: int, shards: int) -> Callable[[float], None]:
    """Appends a line for each share of a shard that is done, one every two seconds at most and one at its end."""
    last = 0.0

    def report(done: float) -> None:
        nonlocal last
        if done >= 1 or time.monotonic() - last > _SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            metrics.write(json.dumps({"step": round(index + done, 3), "steps": shards}) + "\n")
            metrics.flush()

    return report


def _score_shard(scorer: Scorer, shard: Path, out: Path, report: Callable[[float], None]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(shard, columns=["id", "text"], partitioning=None)
    bits = scorer.bits_per_character([text or "" for text in table["text"].to_pylist()], report)
    labels = pa.table({"id": table["id"], "model_bits_per_character": pa.array(bits, pa.float32())})
    pq.write_table(labels, out / f".{shard.name}", compression="zstd")
    os.replace(out / f".{shard.name}", out / shard.name)
    report(1.0)


class Scorer:
    """A causal language model and its tokenizer, asked for the probability of texts."""

    def __init__(self, job: ScoringJob, device: Any) -> None:
        from transformers import AutoTokenizer

        from rlhf_core.models.networks import PolicyModel, load_plain

        folder = Path(job.model)
        folder = folder / "model" if (folder / "model").is_dir() else folder
        self.settings, self.device = job.settings, device
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise BadInput(f"no tokenizer can be read from {folder}: {error}") from error
        model = load_plain(str(folder), job.settings.precision)
        self.model = PolicyModel(model).to(device).eval()
        # What stands before a document in training: the first token needs something to be predicted from.
        starts = [i for i in (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id) if i is not None]
        if not starts:
            raise BadInput(f"{folder}: the tokenizer has neither a first nor a last token, so a text's beginning has no probability")
        self.start = int(starts[0])
        positions = getattr(model.config, "max_position_embeddings", None) or job.settings.max_tokens + 1
        self.length = min(job.settings.max_tokens, positions - 1)

    def bits_per_character(self, texts: list[str], report: Callable[[float], None] = lambda done: None) -> list[float | None]:
        """-log2 p(text) / characters of each text's first `max_tokens` tokens, to 4 digits; None for an empty text."""
        from rlhf_core.dataset.chat_template import Tokens
        from rlhf_core.dataset.spelling import Spelling
        from rlhf_core.measures.likelihood import nats

        encoded = Spelling(self.tokenizer).ids(texts)
        rows = [Tokens([self.start, *ids[: self.length]], [False] + [True] * min(len(ids), self.length)) for ids in encoded]
        done = 0

        def scored(count: int) -> None:
            nonlocal done
            done += count
            report(min(done / len(texts), 0.999))

        found: list[float | None] = []
        totals = nats(self.model, rows, self.settings.batch_tokens, self.device, scored)
        for text, ids, total in zip(texts, encoded, totals, strict=True):
            read = text if len(ids) <= self.length else self.tokenizer.decode(ids[: self.length])
            found.append(round(total / math.log(2) / max(len(read), 1), 4) if ids else None)
        return found


if __name__ == "__main__":
    sys.exit(main())
