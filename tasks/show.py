"""What a person sees of a stage in the Prefect UI and in the log: one line, a drop table, curves, progress."""

from __future__ import annotations

import base64
import logging
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal
from uuid import UUID

import httpx
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    update_progress_artifact,
)
from prefect.context import FlowRunContext, TaskRunContext
from prefect.events import emit_event
from prefect.exceptions import MissingContextError
from prefect.logging import get_run_logger

from tasks import this_run
from tasks.reporting.sketches import sketch
from tasks.store.artifacts import Artifact, Manifest

log = logging.getLogger(__name__)
NO_FIGURES = ("step", "steps", "seconds", "time", "tokens", "learning_rate")  # told in other words, or no news
SECONDS_BETWEEN_UPDATES = 5.0  # one takes server and flow 40 ms of a slow processor, which the training wants


def _is_news(record: logging.LogRecord) -> bool:
    """Not Prefect's line of every run that ended well and has nothing to say: what a stage did, `outcome` says. Nor the address of every
    part in a terminal: that of the whole run is above it and leads to them."""
    text = record.getMessage()
    if text.startswith("View at ") and (flow := FlowRunContext.get()) is not None:
        return flow.flow_run is None or flow.flow_run.parent_task_run_id is None
    return not (text.startswith("Finished in state ") and text.endswith(("Completed()", "(type=COMPLETED)")))


for _runs in ("prefect.flow_runs", "prefect.task_runs"):  # their levels would silence our own lines too
    logging.getLogger(_runs).addFilter(_is_news)


def say(message: str) -> None:
    """One line in the run's log; silent outside of a run (tests call tasks' functions directly)."""
    try:
        get_run_logger().info(message)
    except MissingContextError:
        return


def page(name: str, text: str, description: str) -> None:
    """Markdown text in the UI, under `name`; nowhere outside of a run."""
    if FlowRunContext.get() is not None or TaskRunContext.get() is not None:
        create_markdown_artifact(text, key=_key(name), description=description)


def outcome(manifest: Manifest, artifact: Artifact, reused: bool) -> None:
    """Log one line; for a stage that was made, publish a page with its drops, figures and lineage."""
    say(f"{manifest.stage}: {'reused' if reused else 'made'} {artifact.url} · {headline(manifest)}")
    if reused:
        return
    page(manifest.stage, _stage_page(manifest, artifact), headline(manifest))
    if this_run.is_deployed():  # a temporary server has no automation that could hear it
        announce(manifest, artifact)


def announce(manifest: Manifest, artifact: Artifact) -> None:
    """Event `<stage>.artifact.created` with the figures, for automations: a new corpus can start training (prefect.yaml). What the artifact
    was made from are the event's related resources."""
    figures = {name: value for name, value in manifest.metrics.items() if isinstance(value, int | float)}
    emit_event(
        f"{manifest.stage}.artifact.created",
        resource={"prefect.resource.id": _resource(manifest.stage, artifact.fingerprint), "prefect.resource.name": artifact.url},
        related=[
            {"prefect.resource.id": _resource(given.stage or "files", given.fingerprint), "prefect.resource.role": "input", "prefect.resource.name": role}
            for role, given in manifest.inputs.items()
        ],
        payload={"counts": manifest.counts, "figures": figures},
    )


def _resource(stage: str, print_: str) -> str:
    return f"crawl2chat.{stage}.{print_}"


def headline(manifest: Manifest) -> str:
    counts, parts = manifest.counts, []
    if "documents_in" in counts:
        parts.append(f"{counts['documents_in']:,} in, {counts['kept']:,} kept")
    parts += [f"{name} {_number(value)}" for name, value in list(manifest.metrics.items())[:6] if not isinstance(value, dict | list)]
    parts += [f"warning: {text}" for text in _warnings(manifest)]
    return " · ".join(parts) or f"{manifest.seconds:.1f} s"


def _stage_page(manifest: Manifest, artifact: Artifact) -> str:
    lines = [f"# {manifest.stage}", "", f"`{artifact.url}` · {manifest.seconds:.1f} s", ""]
    dropped: Mapping[str, int] = manifest.counts.get("dropped") or {}
    if dropped:
        total = manifest.counts["documents_in"]
        lines += ["| dropped because | documents | share |", "|---|---:|---:|"]
        lines += [f"| {reason} | {count:,} | {count / total:.1%} |" for reason, count in sorted(dropped.items(), key=lambda item: -item[1])]
        lines.append("")
    lines += [f"**Warning:** {text}\n" for text in _warnings(manifest)]
    figures = {name: value for name, value in manifest.metrics.items() if not isinstance(value, dict | list)}
    if figures:
        lines += ["| figure | value |", "|---|---:|", *(f"| {name} | {_number(value)} |" for name, value in figures.items()), ""]
    sources = {role: link(given.stage) if given.stage else f"`{given.path}`" for role, given in manifest.inputs.items()}
    lines += ["Made from:", *(f"- {role}: {sources[role]} {given.fingerprint}" for role, given in manifest.inputs.items())]
    return "\n".join(lines)


def link(stage: str) -> str:
    """To what the UI shows of a stage, from the page of another: relative, so that it holds behind any address and in both UIs."""
    return f"[{stage}](../key/{_key(stage)})"


def _warnings(manifest: Manifest) -> list[str]:
    """What the stage itself found worrying (rlhf_core/job/watch.py); the report only counts its warnings."""
    found = manifest.metrics.get("warnings")
    return found if isinstance(found, list) else []


class Progress:
    """A ring on the task run's timeline, fed by a job's metrics; at most one update every SECONDS_BETWEEN_UPDATES, and one at the end."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self.id: UUID | None = None
        self.began: float | None = None
        self.first = 0.0  # the step that it began with: a resumed job has others behind it
        self.last = 0.0
        self.tokens = 0.0  # since the last update

    def __call__(self, line: Mapping[str, Any]) -> None:
        """`line` has step and steps; its other figures become the ring's plain text, `tokens` a rate."""
        if not line.get("steps") or TaskRunContext.get() is None:
            return
        now = time.monotonic()
        step, steps = float(line["step"]), float(line["steps"])
        self.tokens += line.get("tokens", 0.0)
        share = 100.0 * step / steps
        if self.began is None:
            self.began, self.first = now, step
        elif now - self.last < SECONDS_BETWEEN_UPDATES and share < 100:
            return
        rate = f"{self.tokens / (now - self.last):,.0f} tokens/s" if self.tokens and now > self.began else ""
        pace = (step - self.first) / (now - self.began) if now > self.began else 0.0
        left = f"{duration((steps - step) / pace)} left" if pace > 0 and step < steps else ""
        self.last, self.tokens = now, 0.0
        self._draw(share, " · ".join(filter(None, (_told(line), rate, left))))

    def _draw(self, share: float, text: str) -> None:
        try:
            if self.id is None:
                self.id = UUID(str(create_progress_artifact(share, key=f"{_key(self.stage)}-progress", description=text)))
            else:
                update_progress_artifact(self.id, progress=share, description=text)
        except httpx.HTTPError as error:
            log.debug("the ring of %s stays as it is: %s", self.stage, error)  # a server that is away ends no training of days

    def count(self, done: int, of: int | None, text: str) -> None:
        """The same from the data half, which counts instead of measuring."""
        self({"step": done, "steps": of or 0, "text": text})


def _told(line: Mapping[str, Any]) -> str:
    shown = {name: value for name, value in line.items() if name not in NO_FIGURES and isinstance(value, int | float)}
    figures = " · ".join(f"{name} {_number(value)}" for name, value in list(shown.items())[:4])
    return " · ".join(filter(None, (f"{line['step']}/{line['steps']}", figures, line.get("text"))))


def duration(seconds: float) -> str:
    """As a person says it: `40 s`, `12 min`, `3 h 20 min`."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def curves(stage: str, lines: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
    """Curves of `names` over the steps, as one picture in the UI; of less than two finite values there is none."""
    points = {name: [(line["step"], line[name]) for line in lines if isinstance(line.get(name), int | float) and math.isfinite(line[name])] for name in names}
    drawn = {name: own for name, own in points.items() if len(own) > 1}
    if drawn:
        picture(f"{stage}-curves", sketch(drawn).encode(), f"{stage}: " + ", ".join(drawn), kind="svg+xml")


def picture(name: str, content: bytes, description: str, kind: Literal["png", "svg+xml"] = "png") -> None:
    """A picture in the UI, in the page itself: the UI shows no files, and below an image artifact its address, letter by letter."""
    page(name, f"![{description}](data:image/{kind};base64,{base64.b64encode(content).decode()})", description)


def _key(stage: str) -> str:
    return stage.replace("_", "-")


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
