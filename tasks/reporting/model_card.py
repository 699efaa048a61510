"""The model card: README.md beside a model, in the Hugging Face Hub's form, from what was measured of it.

Nothing in it is written by hand but what the recipe says of licences, use and limits. Whatever a template prints is escaped:
names, settings and sampled texts cannot write Markdown or HTML.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import yaml
from pydantic import BaseModel, ConfigDict, Field

from tasks.reporting import tables
from tasks.store.artifacts import Artifact, Store

_SPECIAL = re.compile(r"[\\`*_{}\[\]#|~!]")
_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_LANGUAGE = re.compile(r"^[a-z]{2,3}$")
_SAMPLES = 3


class ModelCardSettings(BaseModel):
    """What a model card says that cannot be measured."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    licence: str | None = Field(
        None, pattern=r"^[A-Za-z0-9.+-]+$", description="Licence of the model, as the Hub writes it (apache-2.0, cc-by-4.0, other); null = the card says that none is given."
    )
    data_licences: dict[str, str] = Field(
        default_factory=dict, description="Licence or origin of what the model was trained on, by input: corpus, seed_tasks, preferences, ..."
    )
    intended_use: str | None = Field(None, description="What the model is for, in a sentence or two.")
    limits: list[str] = Field(default_factory=list, description="Limits that a reader should know, beside those that were measured.")


def model_card(
    settings: ModelCardSettings, figures: Mapping[str, Any], stages: Sequence[Mapping[str, Any]], model: str, samples: Sequence[Mapping[str, Any]]
) -> str:
    """README.md of the training stage `model`.

    Args:
        figures: report.json.
        stages: the recipe's training stages up to `model`: `name`, `kind`, `init`, `data`.
        samples: lines of samples.json, of which some are shown.
    """
    names, rows = tables.side_by_side(figures)
    column = names.index(model)
    baseline = figures["judgement"].get("baseline")
    beside = names.index(baseline) if baseline in names and baseline != model else None
    environment = jinja2.Environment(  # noqa: S701  # autoescape knows HTML only: `finalize` escapes every printed value for Markdown
        loader=jinja2.FileSystemLoader(Path(__file__).parent), trim_blocks=True, lstrip_blocks=True, finalize=_escaped, keep_trailing_newline=True
    )
    environment.filters |= {"share": tables.share, "number": tables.number, "local": _local}
    metadata = _Plain(yaml.safe_dump(_metadata(settings, figures, stages, model), allow_unicode=True, sort_keys=False))
    return environment.get_template("model_card.md.j2").render(
        metadata=metadata, settings=settings, report=figures, stages=stages, model=model, baseline=baseline if beside is not None else None,
        scores=[(row["label"], row["cells"][column], row["cells"][beside] if beside is not None else None) for row in rows if row["cells"][column]["text"]],
        verdicts=[row for row in tables.verdicts(figures["judgement"]) if row["label"] == model],
        samples=[sample for sample in samples if sample["answers"].get(model)][:_SAMPLES],
    )  # fmt: skip


class _Plain(str):
    """Text that stands as it is."""


def _metadata(settings: ModelCardSettings, figures: Mapping[str, Any], stages: Sequence[Mapping[str, Any]], model: str) -> dict[str, Any]:
    """What the Hub reads: https://huggingface.co/docs/hub/model-cards."""
    languages = [row["value"] for row in figures.get("card", {}).get("languages", []) if _LANGUAGE.match(str(row["value"]))]
    base = stages[0]["init"]
    own = figures[model]
    metrics = [
        {"type": kind, "name": words, "value": round(float(own[key]), 4)}
        for key, kind, words in (("exact_match", "exact_match", "right answers"), ("win_rate", "win_rate", "win rate by rule"))
        if key in own
    ]
    found: dict[str, Any] = {
        "language": languages or None,
        "license": settings.licence.lower() if settings.licence else None,
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["crawl2chat", *dict.fromkeys(stage["kind"] for stage in stages)],
        "base_model": base if isinstance(base, str) and re.fullmatch(r"[\w.-]+/[\w.-]+", base) else None,
    }
    if metrics:
        dataset = {"name": f"held-out questions and prompts of recipe {figures['recipe']}", "type": f"crawl2chat-{figures['recipe']}"}
        results = [{"task": {"type": "text-generation"}, "dataset": dataset, "metrics": metrics}]
        found["model-index"] = [{"name": f"{figures['recipe']}-{model}", "results": results}]
    return {key: value for key, value in found.items() if value is not None}


def _local(reference: str | None) -> str:
    """A stage's name or a hub name as it stands; of a folder of this machine its last part."""
    return Path(reference).name if reference and Path(reference).is_absolute() else reference or "nothing"


def _escaped(value: Any) -> str:
    """A value as Markdown that shows it and does nothing else."""
    if isinstance(value, _Plain):
        return str(value)
    text = " ".join(str(value).split())
    text = re.sub(r"[&<>]", lambda mark: _HTML[mark.group()], text)
    text = _SPECIAL.sub(r"\\\g<0>", text)
    return text.replace("://", ":&#47;&#47;")  # no address becomes a link


def place(store: Store, model: Artifact, card: str) -> None:
    """Write the card beside the weights. It is no part of the artifact's content: its manifest does not name it, and each
    publication writes it anew."""
    store.fs.pipe_file(f"{store.root}/{model.stage}/{model.fingerprint}/model/README.md", card.encode())
