"""The two ways in which a job ends badly; the entry points turn them into one line on stderr and an exit status."""

from __future__ import annotations


class BadInput(ValueError):
    """What the job was given cannot be used: a missing file, a bad record, settings that do not fit. Exit status 2."""


class TrainingFailed(RuntimeError):
    """The job began and cannot go on: a loss that is not a number, no checkpoint that can be read. Exit status 1."""
