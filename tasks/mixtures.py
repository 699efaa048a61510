"""Tasks of mixtures: gather the sources, declare the plan; and, once pretraining has read it, show planned beside read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas import State

from data.instructions.lines import write_json
from data.mixtures.account import compare, markdown
from data.mixtures.plan import make as make_plan
from data.mixtures.sampling import sample_conversations, sample_shards
from data.mixtures.settings import MixtureSettings
from data.mixtures.sources import as_rows, documents_of, gather, measure
from data.shards import list_shards
from tasks import show
from tasks.stage import Made, Run, make
from tasks.store.artifacts import Draft, Files, Result

MIXTURE_VERSION = 2


@task(task_run_name="mixture", cache_policy=NO_CACHE)
def mix(
    run: Run, origins: Mapping[str, tuple[Made | Files, str]], tokenizer: tuple[Made | Files, str], labels: Mapping[str, Made], settings: MixtureSettings
) -> State[Made]:
    """The sources side by side in one folder, and the plan that pretraining follows to the token.

    Args:
        origins: of each source its artifact (or files) and the folder in it.
        tokenizer: counts the sources' tokens; the artifact and the folder of its tokenizer.json.
        labels: label stages, for sources that are sampled by a label.
    """
    inputs: dict[str, Made | Files] = {f"source_{name}": origin for name, (origin, _) in origins.items()}
    inputs["tokenizer"] = tokenizer[0]
    if any(source.sample for source in settings.sources.values()):
        inputs |= labels

    def build(draft: Draft) -> Result:
        vocabulary = run.locate(*tokenizer) / "tokenizer.json"
        label_shards = [shard for made in labels.values() for shard in list_shards(run.local(made.artifact) / "labels")]
        sizes, sampled, left_out = {}, {}, {}
        for name, source in settings.sources.items():
            place, origin = draft.out / "sources" / name, run.locate(*origins[name])
            shards = documents_of(origin) if source.sample else []
            if source.sample and shards:
                sampled[name] = sample_shards(shards, [*label_shards, *shards], source.sample, settings.seed, place)
            else:
                left_out[name] = gather(origin, place)
                if source.sample:
                    sampled[name] = sample_conversations(place / "conversations.jsonl", source.sample, settings.seed)
            sizes[name] = measure(place, vocabulary)
        plan = make_plan(sizes, settings)
        write_json(draft.out / "plan.json", plan)
        rows = compare(plan, [])
        _draw(rows, draft.out / "plan.svg")
        metrics = {"tokens": settings.tokens, "sources": plan["sources"], "phases": plan["phases"], "sampled": sampled, "left_out": left_out}
        return Result(counts={}, metrics=metrics)

    return make(run, "mixture", MIXTURE_VERSION, settings, inputs, build)


def account(stage: str, data: Path, summary: Mapping[str, Any], out: Path) -> None:
    """After a job that read a mixture: mixture.json, mixture.svg in its artifact, and the table on its page in the UI."""
    if "mixture" not in summary or not (data / "plan.json").is_file():
        return
    plan = json.loads((data / "plan.json").read_text(encoding="utf-8"))
    rows = compare(plan, as_rows(plan, summary["mixture"]))
    write_json(out / "mixture.json", {"rows": rows})
    _draw(rows, out / "mixture.svg")
    show.page(f"{stage}-mixture", markdown(rows), "tokens planned and read")


def _draw(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    from tasks.reporting import charts  # late: only who draws waits for matplotlib

    path.write_text(charts.mixture(rows), encoding="utf-8")
