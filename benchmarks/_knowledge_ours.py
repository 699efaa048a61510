"""Our multiple choice on a folder in MMLU's layout, in this process: `MODEL FOLDER SHOTS BATCH_TOKENS`; prints one JSON line."""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from pathlib import Path

import torch

from rlhf_core.evaluation.candidate import load_candidate
from rlhf_core.evaluation.knowledge import ask
from rlhf_core.evaluation.multiple_choice import read_subjects
from rlhf_core.job.inputs import Inputs


def main() -> None:
    model, folder, shots, batch_tokens = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    torch.set_num_threads(1)
    candidate = load_candidate(Inputs({"other:model": model}), "other:model", torch.device("cpu"))
    subjects = read_subjects("mmlu", folder)
    start, used = time.perf_counter(), time.process_time()
    replies = ask(candidate.policy, candidate.chat.tokenizer, subjects, shots, candidate.context, batch_tokens)
    wall, processor = time.perf_counter() - start, time.process_time() - used
    rows: dict[str, list[list[float]]] = defaultdict(list)
    for reply in replies:
        assert reply.logprobs is not None and reply.shots == shots
        rows[reply.subject.name].append(list(reply.logprobs))
    print(json.dumps({"wall": wall, "processor": processor, "logprobs": rows}))


if __name__ == "__main__":
    main()
