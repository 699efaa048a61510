"""Put a model into service, behind a gate; bring the one before back.

python -m flows.publish --store artifacts                     what is in service
python -m flows.publish --store artifacts --restore chat      the model before it, back in service
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping

from prefect.events import emit_event

from flows import approval, command_line
from flows.recipe import Recipe
from tasks import publishing, show
from tasks.reporting import model_card
from tasks.reporting.page import report_paths
from tasks.stage import Made, Run
from tasks.store.artifacts import Store


def publish(recipe: Recipe, run: Run, made: Mapping[str, Made]) -> publishing.Entry | None:
    """The run's model into service, if a person (where asked) and the gate agree; says so in the run either way."""
    settings = recipe.publish
    if settings is None:
        return None
    if approval.PUBLISH in recipe.approve_before:
        _, foreseen = publishing.gate(run.open_store(), settings, made["report"].artifact)
        approval.ask(approval.PUBLISH, made, run, "\n".join(f"- {verdict}" for verdict in foreseen))
    model = made[published_stage(recipe)].artifact
    entry, verdicts = publishing.publish(run.open_store(), settings, recipe.name, model, made["report"].artifact)
    if entry:
        model_card.place(run.open_store(), model, report_paths(recipe.name, run, made)["model card"].read_text(encoding="utf-8"))
    outcome = f"{model.url} is in service as {settings.name}" if entry else f"{model.url} stays out of service"
    show.say(" · ".join([outcome, *map(str, verdicts)]))
    lines = [f"# {settings.name}: {'published' if entry else 'not published'}", "", outcome, "", *(f"- {verdict}" for verdict in verdicts)]
    show.page("publish", "\n".join(lines), outcome)
    emit_event(
        "model.published" if entry else "model.refused",
        resource={"prefect.resource.id": f"crawl2chat.service.{settings.name}", "prefect.resource.name": settings.name},
        payload={"model": model.url, "verdicts": [verdict.model_dump() for verdict in verdicts]},
    )
    return entry


def published_stage(recipe: Recipe) -> str:
    """The training stage whose model goes into service: the one that the recipe names, or the last that answers."""
    answering = [stage.name for stage in recipe.training if stage.kind != "reward"]
    return (recipe.publish.model if recipe.publish else None) or answering[-1]


def write_card(recipe: Recipe, run: Run, made: Mapping[str, Made]) -> None:
    """The model card beside the run's report; needs report.json."""
    paths = report_paths(recipe.name, run, made)
    model = published_stage(recipe)
    stages = [stage.model_dump() for stage in recipe.training]
    stages = stages[: [stage["name"] for stage in stages].index(model) + 1]
    figures = json.loads(paths["figures"].read_text(encoding="utf-8"))
    samples = json.loads((run.local(made["report"].artifact) / "samples.json").read_text(encoding="utf-8"))
    paths["model card"].write_text(model_card.model_card(recipe.model_card, figures, stages, model, samples), encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m flows.publish", description="What is in service, and the way back.")
    parser.add_argument("--store", default="artifacts", metavar="URL", help="the artifact store (default: artifacts)")
    parser.add_argument("--restore", metavar="SERVICE", help="put the model before the one in service back")
    given = parser.parse_args(arguments)
    try:
        store = command_line.existing_store(given.store)
        if given.restore:
            entry = publishing.restore(store, given.restore)
            print(f"{given.restore}: {entry.folder} is in service again")
        else:
            print(_services(store))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _services(store: Store) -> str:
    """Each service's model with its figures, and those before it, the newest first."""
    lines = []
    for name in publishing.services(store):
        current = publishing.in_service(store, name)
        if current:
            figures = ", ".join(f"{figure} {value:.4g}" for figure, value in current.figures.items())
            lines.append(f"{name}: {current.folder} · recipe {current.recipe} · since {current.published:%Y-%m-%d %H:%M} UTC · {figures}")
        for earlier in reversed(publishing.history(store, name)):
            lines.append(f"  before: {earlier.folder} · {earlier.published:%Y-%m-%d %H:%M} UTC")
    return "\n".join(lines) or "nothing is in service"


if __name__ == "__main__":
    sys.exit(main())
