"""Values looked up in a sorted array."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def look_up(wanted: NDArray[Any], known: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The place of each of `wanted` in `known`, which rises, and whether it is there; where it is not, the place is another's."""
    if not len(known):
        return np.zeros(len(wanted), dtype=np.int64), np.zeros(len(wanted), dtype=np.bool_)
    at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return at, known[at] == wanted
