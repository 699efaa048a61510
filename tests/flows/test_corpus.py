"""The corpus part's table of stages: what a recipe gives nothing to do is left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.corpus.learned.classifiers import train_classifier
from flows.corpus import steps
from flows.recipe_errors import RecipeError
from flows.recipe_file import load
from tasks.stage import Run

RUN = Run(store="nowhere")
ALWAYS = ["ingest", "urls", "rough_language", "extraction", "quality", "lines", "language", "signatures", "duplicates", "perplexity", "buckets", "sensitive", "corpus", "card"]


def test_stages_without_work_are_left_out(tmp_path: Path) -> None:
    assert set(steps(load("tiny"), RUN)) == {*ALWAYS, "decontamination"}
    assert list(steps(load("tiny", ["decontamination.use_questions=false"]), RUN)) == ALWAYS
    assert "decontamination" in steps(load("tiny", ["questions=null"]), RUN), "knowledge sets are held against it as well"
    assert list(steps(load("tiny", paths={"corpus": [str(tmp_path)]}), RUN)) == ALWAYS  # another crawl, no questions
    train_classifier("quality", {"raw": ["goal"], "trusted": ["bread"]}, 10, 1, bits=8).save(tmp_path / "model.npz")
    given = [f"classifiers.quality_model={tmp_path / 'model.npz'}", f"scoring.model={tmp_path}", f"decontamination.files=[{tmp_path}]"]
    assert {"classifiers", "scoring", "decontamination"} <= set(steps(load("tiny", [*given, "decontamination.use_questions=false"]), RUN))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("classifiers.topic_model=missing.npz", r"classifiers\.topic_model: no such file or folder: missing\.npz"),
        ("decontamination.files=[missing.jsonl]", r"decontamination\.files: no such file or folder: missing\.jsonl"),
        ("duplicates.earlier=[missing]", r"duplicates\.earlier: no such file"),
        ("perplexity.models=missing", r"perplexity\.models: no such file"),
        ("duplicates.bands=15", r"duplicates: 15 bands of 8 rows take 120 hash functions: raise hashes, which is 112"),
        ("buckets.head_percentile=70", r"buckets: head_percentile 70 is above tail_percentile 60"),
        ("scoring.model=missing", r"scoring\.model: no such file"),
        ("selection.balance=[{label: lang}]", r"selection\.balance\.0: balance over 'lang' needs shares or max_documents"),
        ("selection.rules=[{reason: x, label: y}]", r"selection\.rules\.0: rule 'x' needs min, max"),
        ("selection.personal_data={emails: burn}", r"selection\.personal_data.*'redact', 'drop' or 'keep'"),
    ],
)
def test_wrong_values_are_named(override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load("tiny", [override])
