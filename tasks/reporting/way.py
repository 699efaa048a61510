"""The way from crawl to model as a graph: what each stage took and left, counted; charts.way draws it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rlhf_core.settings import AnyStage
from tasks.reporting.figures import CORPUS_STAGES
from tasks.stage import Made

# What a training stage says it read of its data, and what that is called.
_READ = (("tokens", "tokens"), ("examples", "examples"), ("train_pairs", "pairs"), ("prompts", "prompts"))
_DOCUMENTS, _INSTRUCTIONS = 0, 1  # columns


def way(stages: Sequence[AnyStage], made: Mapping[str, Made]) -> dict[str, list[dict[str, Any]]]:
    """{"nodes": [{"name", "column", "row", "note"}], "edges": [{"from", "to", "text"}]}, rows from top to bottom."""
    nodes = [_node("crawl", _DOCUMENTS, 0)]
    edges = []
    before, count = "crawl", made["ingest"].counts["documents_in"]
    for row, name in enumerate(CORPUS_STAGES, 1):
        counts = made[name].counts
        lost = sum(counts["dropped"].values())
        nodes.append(_node(name, _DOCUMENTS, row, f"{lost:,} dropped" if lost else ""))
        edges.append(_edge(before, name, f"{count:,} pages" if row == 1 else f"{count:,}"))
        before, count = name, counts["kept"]
    written, joined = _instructions(made)
    nodes, edges = nodes + written, edges + joined
    known = {node["name"] for node in nodes}
    row = len(CORPUS_STAGES)
    for stage in stages:
        row += 1
        nodes.append(_node(stage.name, _INSTRUCTIONS if stage.kind == "reward" else _DOCUMENTS, row, stage.kind if stage.kind != stage.name else ""))
        sources = {data.partition("/")[0] for data in stage.datasets().values()} & known
        said = _read(made[stage.name].metrics)
        edges += [_edge(source, stage.name, said) for source in sorted(sources)]
        edges += [_edge(model, stage.name, "") for model in dict.fromkeys(stage.models().values()) if model in known]
        known.add(stage.name)
    answering = [stage.name for stage in stages if stage.kind != "reward"]
    nodes.append(_node("chat model", _DOCUMENTS, row + 1))
    parameters = next((made[stage.name].metrics["parameters"] for stage in stages if "parameters" in made[stage.name].metrics), None)
    edges.append(_edge(answering[-1], "chat model", f"{parameters:,} parameters" if parameters else ""))
    return {"nodes": nodes, "edges": edges}


def _instructions(made: Mapping[str, Made]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Instructions, judged data and preferences, down to the splits beside the corpus."""
    last = len(CORPUS_STAGES)
    written = [name for name in ("instructions", "domain", "judged") if name in made]
    nodes = [_node(name, _INSTRUCTIONS, last - len(written) + place) for place, name in enumerate(written)]
    edges = [_edge(name, "splits", _records(made[name].metrics)) for name in written]
    return [*nodes, _node("splits", _INSTRUCTIONS, last)], edges


def _records(metrics: Mapping[str, Any]) -> str:
    for key in ("conversations", "preferences"):
        if key in metrics:
            return f"{metrics[key]:,} {key}"
    return ""


def _read(metrics: Mapping[str, Any]) -> str:
    return next((f"{metrics[key]:,} {words}" for key, words in _READ if metrics.get(key)), "")


def _node(name: str, column: int, row: int, note: str = "") -> dict[str, Any]:
    return {"name": name, "column": column, "row": row, "note": note}


def _edge(source: str, target: str, text: str) -> dict[str, Any]:
    return {"from": source, "to": target, "text": text}
