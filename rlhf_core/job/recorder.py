"""metrics.jsonl, samples.jsonl, summary.json and TensorBoard's curves of a job, written by rank 0 alone."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

from rlhf_core.job.errors import BadInput
from rlhf_core.job.watch import Line, looked_at, warnings


class Recorder:
    """Appends one line a step, and says what is wrong with the run as soon as the figures show it.

    `seconds` counts the training time of all attempts together.
    """

    def __init__(self, output: Path, is_main: bool, tensorboard: bool = False) -> None:
        self.output, self.is_main = output, is_main
        self._writer = _tensorboard() if tensorboard and is_main else None
        self._curves: Any = None
        self._lines: list[Line] = []  # what the watch looks at: a run may have millions
        self._warned: set[str] = set()
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
        self._lines = looked_at(_read(self.metrics))

    def write(self, step: int, steps: int, figures: dict[str, float]) -> None:
        if self.is_main:
            line = {"step": step, "steps": steps, "seconds": round(self.seconds, 3)}
            line |= {name: _short(value) for name, value in figures.items()}
            _append(self.metrics, line)
            self._lines = looked_at([*self._lines, line])
            self._warn(step)
            self._draw(step, figures)

    def write_samples(self, samples: list[dict[str, Any]]) -> None:
        if self.is_main:
            for sample in samples:
                _append(self.samples, sample)

    def write_summary(self, summary: dict[str, Any]) -> None:
        """`warnings` are added: those that hold at the end."""
        if self.is_main:
            if self._curves is not None:
                self._curves.close()
            found = list(warnings(self._lines).values())
            summary = {name: _short(value) for name, value in summary.items()}
            summary |= {"warnings": found} if found else {}
            text = json.dumps(summary, ensure_ascii=False, indent=2)
            (self.output / "summary.json").write_text(text + "\n", encoding="utf-8")

    def _draw(self, step: int, figures: dict[str, float]) -> None:
        if self._writer is None:
            return
        if self._curves is None:  # a resumed run writes again what came after its checkpoint
            self._curves = self._writer(str(self.output / "tensorboard"), purge_step=step)
        for name, value in figures.items():
            self._curves.add_scalar(name, value, step)

    def _warn(self, step: int) -> None:
        for kind, text in warnings(self._lines).items():
            if kind not in self._warned:
                self._warned.add(kind)
                print(f"warning: step {step}: {text}", flush=True)


def _tensorboard() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise BadInput("tensorboard: true needs the extra: pip install 'crawl2chat[tensorboard]'") from None
    return SummaryWriter


def _read(path: Path) -> list[dict[str, float]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _append(path: Path, line: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")


def _short(value: Any) -> Any:
    """Seven significant digits: more would be noise, and files stay readable."""
    return float(f"{value:.7g}") if isinstance(value, float) else value
