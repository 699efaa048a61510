"""What was measured of a run: the figures of an evaluation, a judgement or a report, and the single items behind them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlhf_core.measures.text_measures import exact_match
from tasks.judging import overall
from tasks.reporting.figures import json_lines, numbers, of_model, read_json, win_rate_name
from tasks.store.artifacts import MANIFEST, Artifact, Store

Items = dict[str, dict[str, float]]  # figure -> item -> value


@dataclass(frozen=True)
class Measured:
    """One side of a comparison. A figure is the mean of its items, where these are known."""

    name: str
    figures: dict[str, float]
    items: Items = field(default_factory=dict)

    def of_one(self, model: str) -> Measured:
        """Of one model alone, with figures without its name, so that two models can be compared.

        Raises:
            ValueError: nothing was measured of that model.
        """
        mark = f"{model}."
        figures = {path.removeprefix(mark): value for path, value in self.figures.items() if path.startswith(mark)}
        if not figures:
            known = ", ".join(sorted({path.split(".")[0] for path in self.figures if "." in path}))
            raise ValueError(f"{self.name}: nothing was measured of {model!r}; measured were: {known}")
        return Measured(f"{self.name}#{model}", figures, {path.removeprefix(mark): own for path, own in self.items.items() if path.startswith(mark)})


def resolve(store: Store, reference: str) -> Measured:
    """What was measured of a run: the folder of an evaluation, a judgement or a report, a run's report.json, or the id of such an
    artifact in the store (STAGE/FINGERPRINT or the fingerprint's beginning); `#MODEL` behind it takes one model alone.

    Raises:
        ValueError: names the reference and what it may be.
    """
    place, _, model = reference.partition("#")
    home, artifact = find(store, place)
    found = measured(home, artifact, place)
    return found.of_one(model) if model else found


def measured(store: Store, artifact: Artifact, name: str) -> Measured:
    """Figures and items that an evaluation, a judgement or a report stands on.

    Raises:
        ValueError: the artifact is none of these.
    """
    inputs = store.manifest(artifact).inputs
    parts = {artifact.stage: artifact} | {
        given.stage: found for given in inputs.values() if given.stage and (found := store.find(given.stage, given.fingerprint))
    }
    if "evaluation" not in parts:
        raise ValueError(f"{name}: a {artifact.stage} artifact holds no evaluation, and none that it was made from is in {store.url}")
    evaluation = parts["evaluation"]
    judgement = parts.get("judgement") or next((one for one in store.artifacts() if one.stage == "judgement" and _made_from(store, one, evaluation)), None)
    folder, judged = store.local(evaluation), store.local(judgement) if judgement else None
    said, verdicts = read_json(folder / "evaluation.json"), read_json(judged / "judgement.json") if judged else {}
    kinds = {model: kind for kind, _, model in (role.partition(":") for role in store.manifest(evaluation).inputs) if model}
    kinds |= {model: "other" for model in said["models"] if model not in kinds}  # from the hub: no artifact
    figures = dict(numbers({model: of_model(kind, model, said, verdicts) for model, kind in kinds.items()}))
    if artifact.stage == "report":
        report = read_json(store.local(artifact) / "figures.json")
        figures |= dict(numbers({key: value for key, value in report.items() if key not in ("card", "way", "curves", "evaluation", "judgement")}))
    return Measured(name, figures, items(folder, judged, kinds))


def items(evaluation: Path, judgement: Path | None, kinds: Mapping[str, str]) -> Items:
    """The single items behind the figures of an evaluation and a judgement: {figure: {item: value}}."""
    found: Items = {}

    def put(figure: str, item: str, value: Any) -> None:
        if value is not None and math.isfinite(value):
            found.setdefault(figure, {})[item] = float(value)

    for line in json_lines(evaluation / "answers.jsonl"):
        model, item = line["model"], f"{line['set']}/{line['id']}"
        if line["set"] == "questions" and line["reference"]:
            right = exact_match(line["text"] or "", line["reference"])
            put(f"{model}.exact_match", item, right)
            if line.get("lang"):
                put(f"{model}.exact_match_{line['lang']}", item, right)
        if line["set"] == "prompts":
            put(f"{model}.reward", item, line.get("reward"))
            put(f"{model}.finished_share", item, line.get("finished"))
            put(f"{model}.repeating_share", item, line.get("repeating"))
            put(f"{model}.length", item, line.get("length"))
    for line in json_lines(judgement / "verdicts.jsonl") if judgement else []:
        put(f"{line['model']}.{win_rate_name(line['judge'], line['criterion'])}", f"{line['set']}/{line['id']}", line["value"])
    for line in overall(json_lines(judgement / "verdicts.jsonl")) if judgement else []:
        put(f"{line['model']}.{win_rate_name(line['judge'], 'overall')}", f"{line['set']}/{line['id']}", line["value"])
    for line in json_lines(evaluation / "knowledge.jsonl"):
        put(f"{line['model']}.knowledge.{line['set']}.accuracy", f"{line['subject']}/{line['id']}", line["right"])
    reward_model = next((model for model, kind in reversed(list(kinds.items())) if kind == "reward"), None)
    sized: dict[str, dict[str, tuple[float, float]]] = {}  # figure -> item -> (what is counted, of how much)
    for line in json_lines(evaluation / "pairs.jsonl") if reward_model else []:
        rankings = sized.setdefault(f"{reward_model}.accuracy", {})  # the pairs of one ranking hang together: it is the item
        won, count = rankings.get(str(line["id"]), (0.0, 0.0))
        rankings[str(line["id"])] = won + line["right"], count + 1
    for line in json_lines(evaluation / "language_model.jsonl"):
        for lang in (line["lang"], "all"):
            for figure, size in (("bits_per_byte", "bytes"), ("bits_per_character", "characters")):
                documents = sized.setdefault(f"{line['model']}.language_model.{lang}.{figure}", {})
                documents[str(line["id"])] = line["nats"] / math.log(2), line[size]
    for figure, own in sized.items():
        mean = sum(size for _, size in own.values()) / len(own)  # so that the items' mean is the figure, a sum over a sum
        for item, (part, _) in own.items():
            put(figure, item, part / mean)
    return found


def find(store: Store, place: str) -> tuple[Store, Artifact]:
    """The artifact that a person means, and the store it lies in. Raises ValueError naming what it may be."""
    path = Path(place)
    if path.is_file() and path.suffix == ".json":
        try:
            entry = {stage["name"]: stage for stage in json.loads(path.read_text(encoding="utf-8"))["stages"]}["report"]
            home, print_ = Store(entry["artifact"].rsplit("/", 2)[0]), entry["fingerprint"]
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"{place}: no report.json of a run: its table of stages names no report") from None
        found = home.find("report", print_)
        if found is None:
            raise ValueError(f"{place}: the report's artifact is gone from {home.url}")
        return home, found
    if (path / MANIFEST).is_file():
        stage, print_ = path.resolve().parts[-2:]
        return Store(str(path.resolve().parents[1])), Artifact(stage=stage, fingerprint=print_, url=str(path.resolve()))
    stage, _, beginning = place.rpartition("/")
    fitting = [one for one in store.artifacts() if one.fingerprint.startswith(beginning) and stage in ("", one.stage)] if beginning else []
    if len(fitting) != 1:
        raise ValueError(
            f"{place}: {'several artifacts begin so' if fitting else 'nothing is called so'} in {store.url}; give the folder of an evaluation "
            "or report, a run's report.json, or STAGE/FINGERPRINT"
        )
    return store, fitting[0]


def _made_from(store: Store, artifact: Artifact, source: Artifact) -> bool:
    return any(given.fingerprint == source.fingerprint for given in store.manifest(artifact).inputs.values())
