"""The teacher that the settings name."""

from __future__ import annotations

from pathlib import Path

from data.instructions.http_teacher import HttpTeacher
from data.instructions.teacher import Teacher
from data.settings import SelfInstructSettings

BUNDLED = Path(__file__).parent.parent / "samples" / "completions.jsonl"


def teacher_for(settings: SelfInstructSettings, cache: Path | None = None) -> Teacher | Path:
    """A server where `teacher_url` is set (its answers are cached in `cache`), else a file of recorded completions.

    Raises:
        FileNotFoundError: the file of recorded completions is not there.
    """
    if settings.teacher_url is not None:
        return HttpTeacher.from_settings(settings, cache)
    recorded = Path(settings.completions) if settings.completions else BUNDLED
    if not recorded.is_file():
        raise FileNotFoundError(f"self_instruct.completions: there is no file {recorded}")
    return recorded
