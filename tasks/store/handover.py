"""What a run made, handed from the run that made it to the run that waits for it, through the store that both share."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import TypeAdapter

from tasks.stage import Made, Run

_MADE = TypeAdapter(dict[str, Made])


def leave(run: Run, flow_run: str, made: Mapping[str, Made]) -> None:
    run.open_store().write_note(f"runs/{flow_run}", _MADE.dump_python(dict(made), mode="json"))


def take(run: Run, flow_run: str) -> dict[str, Made]:
    """Raises LookupError where the other run wrote into another store."""
    note = run.open_store().read_note(f"runs/{flow_run}")
    if note is None:
        raise LookupError(f"flow run {flow_run} is done, but left nothing in {run.store}: do both workers see the same store?")
    return _MADE.validate_python(note)
