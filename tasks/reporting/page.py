"""A run's own report: the report artifact's figures with this run's table of stages, as JSON, as one page, as a table in the terminal
and in the UI.

`STORE/reports/<recipe>/report.json` and `report.html`; the page needs no network.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC
from pathlib import Path
from typing import Any

import jinja2

from tasks import show
from tasks.reporting import tables, words
from tasks.reporting.duration_bars import duration_bars
from tasks.reporting.excerpt import UNANSWERED
from tasks.reporting.figures import TEACHER_FIGURES, answering
from tasks.stage import Made, Run
from tasks.store.artifacts import Store


def write_run_report(recipe: str, run: Run, made: Mapping[str, Made], settings: Mapping[str, Any]) -> None:
    """This run's report.json and report.html. `settings`: the recipe's settings that differ from the defaults, by their names."""
    store = run.open_store()
    artifact = run.local(made["report"].artifact)
    figures, pictures, samples = (
        json.loads((artifact / f"{name}.json").read_text(encoding="utf-8")) for name in ("figures", "pictures", "samples")
    )
    figures["samples"], figures["settings"] = samples, dict(settings)
    figures["stages"] = [_stage(store, name, stage) for name, stage in made.items()]
    pictures["durations"] = duration_bars({stage["name"]: stage["seconds"] for stage in figures["stages"]})
    paths = report_paths(recipe, run, made)
    paths["report"].parent.mkdir(parents=True, exist_ok=True)
    paths["figures"].write_text(json.dumps(figures, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    paths["report"].write_text(render(figures, pictures), encoding="utf-8")
    if not store.is_local:
        for path in (paths["figures"], paths["report"]):
            store.fs.put_file(str(path), f"{store.root}/reports/{recipe}/{path.name}")


def report_paths(recipe: str, run: Run, made: Mapping[str, Made]) -> dict[str, Path]:
    """What the run left for a person, by what it is, on this machine (in a remote store it lies under the same name too)."""
    folder = run.open_store().workroot.parent / "reports" / recipe
    trained = [name for name in made if (run.local(made[name].artifact) / "model").is_dir()]
    return {
        "report": folder / "report.html",
        "figures": folder / "report.json",
        "model card": folder / "model_card.md",
        "chat model": run.local(made[trained[-1]].artifact) / "model",
    }


def _stage(store: Store, name: str, stage: Made) -> dict[str, Any]:
    manifest = store.manifest(stage.artifact)
    return {
        "name": name,
        "seconds": round(stage.seconds, 2),
        "ended": manifest.ended.astimezone(UTC).isoformat(timespec="seconds"),
        "reused": stage.reused,
        "artifact": stage.artifact.url,
        "fingerprint": stage.artifact.fingerprint,
        "kept": stage.counts.get("kept"),
        "teacher": {key.removeprefix("teacher_"): stage.metrics[key] for key in TEACHER_FIGURES if key in stage.metrics},
        "inputs": {role: f"{given.stage or given.path} {given.fingerprint}" for role, given in manifest.inputs.items()},
    }


def render(figures: Mapping[str, Any], pictures: Mapping[str, str]) -> str:
    """The page of a report.json: self-contained HTML, readable on a phone. Whatever comes from texts is escaped; only our own pictures are not."""
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"number": tables.number, "share": tables.share}
    return environment.get_template("report.html.j2").render(
        report=figures, pictures=pictures, summary=tables.summary(figures["stages"]), headline=tables.headline(figures), models=tables.side_by_side(figures),
        stages=tables.training(figures), verdicts=tables.verdicts(figures["judgement"]), verdict_heads=tables.VERDICT_HEADS, groups=tables.reward_groups(figures),
        subjects=tables.subjects(figures), kinds={name: words.KINDS.get(own["kind"], "") for name, own in answering(figures).items()}, words=words.WORDS,
        unanswered=UNANSWERED,
    )  # fmt: skip


def closing_table(made: Mapping[str, Made]) -> str:
    """The run's stages: time, in, out, reused or made."""
    rows = [("stage", "seconds", "in", "out", ""), *(_row(name, stage) for name, stage in made.items())]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = ["  ".join(cell.ljust(width) if column in (0, 4) else cell.rjust(width) for column, (cell, width) in enumerate(zip(row, widths, strict=True))).rstrip() for row in rows]
    return "\n".join(["", lines[0], "-" * sum(widths), *lines[1:], ""])


def show_stages(made: Mapping[str, Made]) -> None:
    """The same on the run's page in the UI, with every stage's fingerprint: the way from crawl to model."""
    lines = ["| stage | seconds | in | out | | fingerprint |", "|---|---:|---:|---:|---|---|"]
    lines += ["| " + " | ".join([show.link(name), *_row(name, stage)[1:], f"`{stage.artifact.fingerprint}`"]) + " |" for name, stage in made.items()]
    again = sum(stage.reused for stage in made.values())
    show.page("stages", "\n".join(lines), f"{len(made) - again} stages made, {again} reused")


def _row(name: str, stage: Made) -> tuple[str, str, str, str, str]:
    into, out = (f"{stage.counts[key]:,}" if key in stage.counts else "" for key in ("documents_in", "kept"))
    return name, f"{stage.seconds:.1f}", into, out, "reused" if stage.reused else "made"
