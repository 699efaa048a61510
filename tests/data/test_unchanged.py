"""What is kept in memory of a file is that file's, and no older one's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from data.corpus.learned.classifiers import classifier_labels, text_features
from data.corpus.learned.linear_model import train
from data.corpus.sensitive import sensitive_labels
from data.settings import ClassifierSettings, SensitiveSettings
from data.unchanged import kept_while_unchanged, state_of
from tests.data.corpus.helpers import documents


def test_a_file_is_read_again_where_it_changed(tmp_path: Path) -> None:
    reads: list[tuple[Path | None, str]] = []

    @kept_while_unchanged(2)
    def read(path: Path | None, encoding: str) -> str:
        """Its text."""
        reads.append((path, encoding))
        return path.read_text(encoding) if path else ""

    one = tmp_path / "one"
    one.write_text("a")
    assert [read(one, "utf-8"), read(one, "utf-8"), read(one, "ascii"), read(None, "ascii")] == ["a", "a", "a", ""]
    assert reads == [(one, "utf-8"), (one, "ascii"), (None, "ascii")] and read.__doc__ == "Its text."
    one.write_text("bb")
    assert read(one, "utf-8") == "bb"
    same_size = one.stat().st_mtime_ns
    one.write_text("cc")
    os.utime(one, ns=(same_size, same_size + 1))
    assert read(one, "utf-8") == "cc"
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "absent", "utf-8")


def test_a_folder_is_all_its_files(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    states = [state_of(tmp_path)]
    for name in ("b", "sub/a"):
        (tmp_path / name).write_text("x")
        states.append(state_of(tmp_path))
    assert [len(state) for state in states] == [0, 1, 2] and state_of(None) == ()
    assert state_of(str(tmp_path / "b")) == states[1]


def test_lists_and_models_of_the_corpus_half_are_read_again(tmp_path: Path) -> None:
    """One process, two runs, the same path: the second run's fingerprint is of the new content, so its labels have to be."""
    terms = SensitiveSettings(terms_file=str(tmp_path / "terms.txt"), use_bundled_terms=False)
    (tmp_path / "terms.txt").write_text("grey banner\n")
    table = documents("a grey banner and a blue one")
    assert sensitive_labels(table, terms)["sensitive_terms"].to_pylist() == [1]
    (tmp_path / "terms.txt").write_text("grey banner\nblue one\n")
    assert sensitive_labels(table, terms)["sensitive_terms"].to_pylist() == [2]
    model = tmp_path / "topics.npz"
    features = text_features(["a grey banner", "b"])
    scores = []
    for number, labels in enumerate((["one", "two"], ["two", "one"]), 1):
        train("topic", features, labels, 18, seed=1).save(model)
        os.utime(model, ns=(number, number))
        scores.append(classifier_labels(table, ClassifierSettings(topic_model=str(model)))["topic"].to_pylist())
    assert scores == [["one"], ["two"]]
