"""Runs inside lm-evaluation-harness's own environment (benchmarks/knowledge.py makes it): every question of a folder in MMLU's
layout, asked as `mmlu` asks, once with each batch size: starting takes longer than asking. Prints as JSON, by batch size, the
seconds and the letters' log-probabilities.

    _knowledge_lm_eval.py MODEL FOLDER SHOTS BATCH...
"""

import contextlib
import csv
import json
import sys
import time
from pathlib import Path

from lm_eval.evaluator import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

model, folder, shots, batches = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), [int(size) for size in sys.argv[4:]]
subjects = [file.name.removesuffix("_test.csv") for file in sorted((folder / "test").glob("*_test.csv"))]


def task(name):
    files = {split: str(folder / split / f"{name}_{split}.csv") for split in ("dev", "test")}
    return {
        "task": name, "dataset_path": "csv", "test_split": "test", "fewshot_split": "dev", "fewshot_config": {"sampler": "first_n"},
        "dataset_kwargs": {"data_files": files, "header": None, "names": ["question", "A", "B", "C", "D", "answer"]},
        "output_type": "multiple_choice", "target_delimiter": " ",
        "description": f"The following are multiple choice questions (with answers) about {name.replace('_', ' ')}.\n\n",
        "doc_to_text": "{{question}}\nA. {{A}}\nB. {{B}}\nC. {{C}}\nD. {{D}}\nAnswer:",
        "doc_to_choice": ["A", "B", "C", "D"], "doc_to_target": "{{['A', 'B', 'C', 'D'].index(answer)}}",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }  # fmt: skip


def asked(batch):
    """Seconds and answers of one pass over all questions."""
    harness = HFLM(pretrained=model, batch_size=batch, device="cpu", dtype="float32")
    seconds = []
    own = harness.loglikelihood

    def timed(*arguments, **more):  # what it does with the model: tokenizing and scoring; reading files and bookkeeping are left out
        start, used = time.perf_counter(), time.process_time()
        found = own(*arguments, **more)
        seconds.append((time.perf_counter() - start, time.process_time() - used))
        return found

    harness.loglikelihood = timed
    tasks = [task(name) for name in subjects]
    found = simple_evaluate(harness, tasks=tasks, num_fewshot=shots, bootstrap_iters=0, task_manager=TaskManager(include_defaults=False), verbosity="ERROR")
    return {"wall": sum(w for w, _ in seconds), "processor": sum(p for _, p in seconds), "logprobs": {name: answers(name, found) for name in subjects}}


def answers(name, found):
    """The letters' log-probabilities of each question, in the file's order."""
    with (folder / "test" / f"{name}_test.csv").open(encoding="utf-8", newline="") as stream:
        count = sum(1 for _ in csv.reader(stream))
    samples = sorted(found["samples"][name], key=lambda sample: sample["doc_id"])
    assert len(samples) == count
    return [[float(answer[0][0]) for answer in sample["resps"]] for sample in samples]


with contextlib.redirect_stdout(sys.stderr):
    runs = {batch: asked(batch) for batch in batches}
print(json.dumps(runs))
