"""Scheduled retraining: when new crawl files lie there, the whole way again; otherwise nothing, and it says so.

python -m flows.retrain --recipe tiny
"""

from __future__ import annotations

import sys
from typing import Any

from fsspec.core import has_magic
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed

from data.corpus.reading import hub
from data.places import file_system
from flows import approval, place
from flows.definition import flow
from flows.full_pipeline import REFUSED, crawl_to_model, run_from_command_line
from flows.recipe import Recipe
from tasks import show
from tasks.stage import Made, Run

NOTHING_NEW = "NothingNew"  # the state of a run that found no new crawl files


@flow(name="retrain", flow_run_name="{recipe.name}", on_cancellation=[place.cancel_children])
def retrain(recipe: Recipe, run: Run) -> dict[str, Made] | State[Any]:
    """Crawl to model if the crawl has grown since the last finished retraining of this recipe."""
    store, note = run.open_store(), f"retrained/{recipe.name}"
    files = crawl_files(recipe.corpus)
    known = store.read_note(note) or {}
    new = [path for path, facts in files.items() if known.get(path) != facts]
    if not new:
        return Completed(name=NOTHING_NEW, message=f"no new crawl files: {len(files)} lie there, all known")
    show.say(f"{len(new)} of {len(files)} crawl files are new or changed: {', '.join(new[:3])}{', ...' if len(new) > 3 else ''}")
    try:
        made = crawl_to_model(recipe, run, until=None)
    except approval.Refused as refusal:
        return Cancelled(name=REFUSED, message=str(refusal))
    store.write_note(note, files)  # after the end: a run that was killed is tried again by the next one
    return made


def crawl_files(inputs: list[str]) -> dict[str, list[str]]:
    """Path -> size and time or tag, of every file that the recipe's crawl names, and of a hub's dataset its commit; nothing is read."""
    found: dict[str, list[str]] = {}
    for given in inputs:
        dataset = hub.parse(given)
        if dataset and not dataset.is_local:
            found[given] = ["commit", hub.revision_of(dataset)]
            continue
        fs, plain = file_system(dataset.path if dataset else given)
        for entry in fs.glob(plain) if has_magic(plain) else [plain]:
            for path, facts in fs.find(entry, detail=True).items():
                stamp = facts.get("ETag") or facts.get("mtime") or facts.get("LastModified") or facts.get("created")
                found[str(path)] = [str(facts.get("size")), str(stamp)]
    return found


def main(arguments: list[str] | None = None) -> int:
    return run_from_command_line(lambda recipe, run, _: retrain(recipe, run, return_state=True), arguments, can_stop=False)


if __name__ == "__main__":
    sys.exit(main())
