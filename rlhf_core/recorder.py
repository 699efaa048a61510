"""metrics.jsonl, samples.jsonl and summary.json of a job, written by rank 0 alone."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any


class Recorder:
    """Appends one line a step. `seconds` counts the training time of all attempts together."""

    def __init__(self, output: Path, is_main: bool) -> None:
        self.output, self.is_main = output, is_main
        self.metrics, self.samples = output / "metrics.jsonl", output / "samples.jsonl"
        self._began, self._before = time.monotonic(), 0.0
        if is_main:
            output.mkdir(parents=True, exist_ok=True)

    @property
    def files(self) -> list[Path]:
        return [self.metrics, self.samples]

    @property
    def seconds(self) -> float:
        return self._before + time.monotonic() - self._began

    def begin(self, checkpoint: Path | None, seconds: float) -> None:
        """Start anew, or with the lines that the checkpoint knows: later ones are gone, they will be written again."""
        self._before, self._began = seconds, time.monotonic()
        if not self.is_main:
            return
        for file in self.files:
            kept = checkpoint / file.name if checkpoint else None
            if kept and kept.exists():
                shutil.copyfile(kept, file)
            else:
                file.unlink(missing_ok=True)

    def write(self, step: int, steps: int, figures: dict[str, float]) -> None:
        if self.is_main:
            line = {"step": step, "steps": steps, "seconds": round(self.seconds, 3)}
            _append(self.metrics, line | {name: _short(value) for name, value in figures.items()})

    def write_samples(self, samples: list[dict[str, Any]]) -> None:
        if self.is_main:
            for sample in samples:
                _append(self.samples, sample)

    def write_summary(self, summary: dict[str, Any]) -> None:
        if self.is_main:
            text = json.dumps(
                {name: _short(value) for name, value in summary.items()}, ensure_ascii=False, indent=2
            )
            (self.output / "summary.json").write_text(text + "\n", encoding="utf-8")


def _append(path: Path, line: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")


def _short(value: Any) -> Any:
    """Seven significant digits: more would be noise, and files stay readable."""
    return float(f"{value:.7g}") if isinstance(value, float) else value
