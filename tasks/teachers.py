"""The teacher that a stage's settings name: recorded completions, a server, or a local model served for the stage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from data.instructions.http_teacher import HttpTeacher
from data.instructions.settings import TeacherSettings
from data.instructions.teacher import RecordedTeacher, Teacher
from tasks.serving import served

_NO_KEY = {"teacher_key_variable": "CRAWL2CHAT_NO_KEY"}  # a server of our own gets no key of anyone's


@contextmanager
def teacher_of(settings: TeacherSettings, work: Path, recorded: Path | None = None) -> Iterator[Teacher]:
    """`work` keeps a server's answers from one attempt to the next.

    Raises:
        ValueError: the settings name no teacher, or a local model that cannot be served.
    """
    recordings = Path(settings.completions) if settings.completions else recorded
    if settings.teacher_url is not None:
        with closing(HttpTeacher.from_settings(settings, work / "answers")) as teacher:
            yield teacher
    elif settings.teacher_local is not None:
        with (
            served(settings.teacher_local, work / "server.log") as server,
            closing(HttpTeacher.at(server.url, server.model, settings.model_copy(update=_NO_KEY), work / "answers", server.extra)) as teacher,
        ):
            yield teacher
    elif recordings is not None:
        yield RecordedTeacher(recordings)
    else:
        raise ValueError("no teacher: give teacher_url with teacher_model, teacher_local, or completions")
