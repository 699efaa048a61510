"""The report page's tables and key figures: which figures are shown, in which order and how they are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.reporting.figures import answering, trained

Cell = dict[str, str]  # "text", and "range" where there is an interval
Row = dict[str, Any]  # "label", "cells"

# What a reader asks of a training stage first; every other figure is one click away.
FIRST = ("loss", "perplexity", "bits_per_byte", "eval_loss", "accuracy", "pairs", "reward_before", "reward_after", "kl", "train_loss", "steps", "seconds")
SHARES = ("exact_match", "accuracy", "letter_probability", "mean_of_subjects", "win_rate", "share", "precision", "recall")  # how the names of figures between 0 and 1 begin or end
_OF_MODELS = (
    ("exact_match", "right answers"), ("exact_match_en", "right answers, English"), ("exact_match_zh", "right answers, Chinese"),
    ("reward", "reward"), ("kl", "KL to SFT, nats"), ("finished_share", "finished"), ("repeating_share", "repeating themselves"),
    ("preferred_share", "matching the preferred pattern"), ("length", "length, tokens"), ("distinct_1", "distinct-1"), ("distinct_2", "distinct-2"),
)  # fmt: skip
_OF_TEXT = (("perplexity", "perplexity"), ("bits_per_byte", "bits per byte"), ("bits_per_character", "bits per character"))
_OF_SAMPLED = (("exact_match", "right answers, drawn"), ("reward", "reward, drawn"), ("distinct_2", "distinct-2, drawn"), ("self_bleu", "self-BLEU, drawn"))
VERDICT_HEADS = ("win rate", "wins", "ties", "losses", "p", "orders disagree", "failed")


def headline(figures: Mapping[str, Any]) -> list[tuple[str, Cell]]:
    """Some figures that say what came of it all, by their words."""
    corpus = figures["corpus"]
    found = [("documents kept", {"text": f"{number(corpus['kept'])} of {number(corpus['documents_in'])}"})]
    found += [(words, cell(corpus, key)) for key, words in (("cleaning_precision", "cleaning precision"), ("cleaning_recall", "cleaning recall")) if key in corpus]
    for name, own in trained(figures).items():
        if own.get("kind") == "sft" and "exact_match" in own:
            found.append((f"{name}: right answers", cell(own, "exact_match")))
        if "accuracy" in own and "pairs" in own:
            found.append((f"{name}: pairs in the right order", cell(own, "accuracy")))
        if "win_rate" in own and name != figures["judgement"].get("baseline") and own.get("kind") != "pretrain":
            rate = _tally(figures, "rule", name)
            found.append((f"{name}: win rate by rule", _rate(rate["win_rate"]) if rate else cell(own, "win_rate")))
            found += [(f"{name}: {words}", cell(own, key)) for key, words in (("exact_match", "right answers"), ("kl", "distance from SFT (KL, nats)")) if key in own]
        if {"reward_before", "reward_after"} <= own.keys():
            found.append((f"{name}: reward before, after", {"text": f"{own['reward_before']:.2f} → {own['reward_after']:.2f}"}))
    return found


def side_by_side(figures: Mapping[str, Any]) -> tuple[list[str], list[Row]]:
    """Models side by side: knowledge, held-out text by language, answers. Rows without any figure are left out."""
    models = answering(figures)
    rows = [_row(words, [cell(own, key) for own in models.values()]) for key, words in _OF_MODELS[:3]]
    for name in dict.fromkeys(key for own in models.values() for key in own.get("knowledge", {})):
        known = [own.get("knowledge", {}).get(name, {}) for own in models.values()]
        rows.append(_row(f"knowledge, {name}", [_accuracy(one) for one in known]))
    for lang in dict.fromkeys(key for own in models.values() for key in own.get("language_model", {})):
        text = [own.get("language_model", {}).get(lang, {}) for own in models.values()]
        rows += [_row(f"{words}, {lang}", [cell(one, key) for one in text]) for key, words in _OF_TEXT]
    rows += [_row(words, [cell(own, key) for own in models.values()]) for key, words in _OF_MODELS[3:]]
    rows += [_row(words, [cell(own.get("sampled", {}), key) for own in models.values()]) for key, words in _OF_SAMPLED]
    return list(models), [row for row in rows if any(one["text"] for one in row["cells"])]


def subjects(figures: Mapping[str, Any]) -> list[tuple[str, list[Row]]]:
    """Of each multiple-choice set of several subjects: the averages, then its categories and subjects, model by model."""
    known = [own.get("knowledge", {}) for own in answering(figures).values()]
    found = []
    for name in dict.fromkeys(key for own in known for key in own):
        sets = [own.get(name, {}) for own in known]
        titles = {key: one["title"] for own in sets for key, one in own.get("subjects", {}).items()}
        if len(titles) < 2:
            continue
        rows = [_row("all questions", [_accuracy(own) for own in sets]), _row("mean of the subjects", [cell(own, "mean_of_subjects") for own in sets])]
        rows.append(_row("probability of the four letters together", [cell(own, "letter_probability") for own in sets]))
        categories = dict.fromkeys(key for own in sets for key in own.get("categories", {}) if key != "none")  # subjects of no published table
        rows += [_row(f"category {key}", [_accuracy(own.get("categories", {}).get(key, {})) for own in sets]) for key in categories]
        rows += [_row(title, [_accuracy(own.get("subjects", {}).get(key, {})) for own in sets]) for key, title in titles.items()]
        found.append((name, rows))
    return found


def training(figures: Mapping[str, Any]) -> list[tuple[str, dict[str, str], dict[str, str]]]:
    """Each training stage's figures: what is asked first, and the rest."""
    found = []
    for name, own in trained(figures).items():
        shown = {key: written(key, value) for key, value in own.items() if isinstance(value, int | float) and not isinstance(value, bool)}
        found.append((name, {key: shown[key] for key in FIRST if key in shown}, {key: text for key, text in shown.items() if key not in FIRST}))
    return found


def verdicts(judgement: Mapping[str, Any]) -> list[Row]:
    """One row for each judge, model and criterion; its cells are those of VERDICT_HEADS."""
    rows = []
    for judge, by_model in judgement.get("judges", {}).items():
        for model, criteria in by_model.items():
            for criterion, tally in criteria.items():
                cells = [
                    _rate(tally["win_rate"]) if tally["win_rate"] else {"text": "none"},
                    *({"text": number(tally[key])} for key in ("wins", "ties", "losses")),
                    {"text": number(tally["p_value"])},
                    {"text": share(tally["disagreement"]) if judge == "teacher" and tally["disagreement"] is not None else ""},
                    {"text": ", ".join(f"{count:,} {reason}" for reason, count in tally["failures"].items())},
                ]
                rows.append({"label": model, "judge": judge, "criterion": criterion, "cells": cells})
    return rows


def reward_groups(figures: Mapping[str, Any]) -> list[tuple[str, list[Row]]]:
    """A reward model's accuracy by source, language and margin, and how its scores go with length."""
    found = []
    for name, own in trained(figures).items():
        rows = []
        for key, words in (("by_source", "source"), ("by_lang", "language"), ("by_margin", "margin")):
            rows += [_row(f"{words}: {group}", [cell(one, "accuracy"), {"text": number(one["pairs"])}]) for group, one in own.get(key, {}).items()]
        for kind, value in own.get("length_correlation", {}).items():
            text = "none: one of them never differs" if value is None else f"{value:+.2f}"
            rows.append(_row(f"score against length within pairs, {kind.capitalize()}'s correlation", [{"text": text}, {"text": number(own["pairs"])}]))
        if rows:
            found.append((name, rows))
    return found


def summary(stages: Sequence[Mapping[str, Any]]) -> str:
    """A run in a line: how many stages, what they took, when the last one of them ended."""
    made = sum(not stage["reused"] for stage in stages)
    seconds = round(sum(stage["seconds"] for stage in stages))
    time = f"{seconds} s" if seconds < 600 else f"{seconds // 60} min" if seconds < 36_000 else f"{seconds / 3600:.1f} h"
    ended = max((stage["ended"] for stage in stages), default="")
    return f"{len(stages)} stages, {made} made in this run and {len(stages) - made} reused · {time} of work in all · ended {ended[:16].replace('T', ' ')} UTC"


def _tally(figures: Mapping[str, Any], judge: str, model: str) -> Mapping[str, Any] | None:
    tally = figures["judgement"].get("judges", {}).get(judge, {}).get(model, {}).get("overall")
    return tally if tally and tally["win_rate"] else None


def _rate(rate: Mapping[str, float]) -> Cell:
    return {"text": share(rate["value"]), "range": f"{share(rate['low'])} to {share(rate['high'])}"}


def _accuracy(own: Mapping[str, Any]) -> Cell:
    """Of multiple choice, where the interval is called so."""
    return cell({"accuracy": own.get("accuracy"), "accuracy_interval": own.get("interval")}, "accuracy")


def _row(label: str, cells: Sequence[Cell]) -> Row:
    return {"label": label, "cells": list(cells)}


def cell(own: Mapping[str, Any], key: str) -> Cell:
    """A figure with its interval where it has one (`KEY_interval`); an empty cell where it was not measured."""
    if own.get(key) is None:
        return {"text": ""}
    found = {"text": written(key, own[key])}
    if interval := own.get(f"{key}_interval"):
        found["range"] = " to ".join(written(key, bound) for bound in interval)
    return found


def written(name: str, value: float) -> str:
    """A figure by its name's kind: a share in per cent, else a number."""
    return share(value) if name.startswith(SHARES) or name.endswith(SHARES) else number(value)


def share(value: float) -> str:
    return f"{100 * value:.1f}%"


def number(value: float) -> str:
    return f"{value:,.3g}" if isinstance(value, float) else f"{value:,}"
