"""Files of JSON lines that a job writes record by record, and goes on with after a kill."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def whole_lines(path: Path, group: int = 1) -> list[dict[str, Any]]:
    """What a killed attempt has left, none where there is no file. What it was writing is cut off the file: the last line, and
    the last lines that are no whole group of `group` lines."""
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
    del lines[len(lines) // group * group :]
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return [json.loads(line) for line in lines]
