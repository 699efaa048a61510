"""A run's own report: the report artifact's figures with this run's table of stages, as JSON, as one page, as a table in the terminal.

`STORE/reports/<recipe>/report.json` and `report.html`; the page needs no network.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from tasks.artifacts import Store
from tasks.stage import Made, Run

# What a reader asks of a stage first; every other figure is one click away.
FIRST = (
    "loss", "perplexity", "bits_per_byte", "eval_loss", "exact_match", "accuracy", "pairs", "reward_before", "reward_after", "kl",
    "win_rate", "length", "finished_share", "distinct_2",
)  # fmt: skip
HEADLINE = {"perplexity": "perplexity", "exact_match": "exact match", "accuracy": "accuracy", "win_rate": "win rate", "kl": "KL"}


def write_run_report(recipe: str, run: Run, made: Mapping[str, Made], settings: Mapping[str, Any]) -> None:
    """This run's report.json and report.html. `settings`: the recipe's settings that differ from the defaults, by their names."""
    store = run.open_store()
    artifact = run.local(made["report"].artifact)
    figures, pictures, samples = (
        json.loads((artifact / f"{name}.json").read_text(encoding="utf-8")) for name in ("figures", "pictures", "samples")
    )
    figures["settings"] = dict(settings)
    figures["stages"] = [_stage(store, name, stage) for name, stage in made.items()]
    paths = report_paths(recipe, run, made)
    paths["report"].parent.mkdir(parents=True, exist_ok=True)
    paths["figures"].write_text(json.dumps(figures, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    paths["report"].write_text(render(figures, pictures, samples), encoding="utf-8")
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
        "chat model": run.local(made[trained[-1]].artifact) / "model",
    }


def _stage(store: Store, name: str, stage: Made) -> dict[str, Any]:
    inputs = store.manifest(stage.artifact).inputs
    return {
        "name": name,
        "seconds": round(stage.seconds, 2),
        "reused": stage.reused,
        "artifact": stage.artifact.url,
        "fingerprint": stage.artifact.fingerprint,
        "kept": stage.counts.get("kept"),
        "inputs": {role: f"{given.stage or given.path} {given.fingerprint}" for role, given in inputs.items()},
    }


def render(figures: Mapping[str, Any], pictures: Mapping[str, str], samples: list[dict[str, Any]]) -> str:
    """The page: self-contained HTML, readable on a phone."""
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)
    environment.filters["number"] = lambda value: f"{value:,.3g}" if isinstance(value, float) else f"{value:,}"
    trained = [name for name in pictures if name not in ("corpus", "card")]
    headline = [("documents kept", figures["corpus"]["kept"])]
    for name in trained:
        headline += [(f"{name}: {words}", figures[name][key]) for key, words in HEADLINE.items() if isinstance(figures[name].get(key), float)]
    return environment.get_template("report.html.j2").render(
        report=figures,
        headline=headline,
        waterfall=pictures["corpus"],
        distributions=pictures.get("card", ""),
        curves=[(name, pictures[name], *_figures(figures[name])) for name in trained],
        samples=samples,
        models=list(samples[0]["answers"]) if samples else [],
        seconds=sum(stage["seconds"] for stage in figures["stages"]),
    )


def _figures(stage: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, float]]:
    """A training stage's figures: what is asked first, and the rest."""
    numbers = {name: value for name, value in stage.items() if isinstance(value, int | float) and not isinstance(value, bool)}
    return {name: numbers[name] for name in FIRST if name in numbers}, {name: value for name, value in numbers.items() if name not in FIRST}


def closing_table(made: Mapping[str, Made]) -> str:
    """The run's stages: time, in, out, reused or made."""
    rows = [("stage", "seconds", "in", "out", "")]
    for name, stage in made.items():
        counts = stage.counts
        into, out = (f"{counts[key]:,}" if key in counts else "" for key in ("documents_in", "kept"))
        rows.append((name, f"{stage.seconds:.1f}", into, out, "reused" if stage.reused else "made"))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = ["  ".join(cell.ljust(width) if column in (0, 4) else cell.rjust(width) for column, (cell, width) in enumerate(zip(row, widths, strict=True))).rstrip() for row in rows]
    return "\n".join(["", lines[0], "-" * sum(widths), *lines[1:], ""])
