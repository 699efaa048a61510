"""fastText classifiers (Joulin et al. 2016), quantised or not, read where they lie and asked of many texts at once.

What is given is what fastText's own predict gives, number for number, in a fifth of its time. The file is mapped into memory: all
worker processes share one copy.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data import kernels
from data.unchanged import kept_while_unchanged


class FastTextModel:
    """A supervised model (.bin or .ftz, version 11 or 12 of the format) with any of fastText's four losses.

    Raises ValueError, which names the file, where it is none.
    """

    def __init__(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                self._model = kernels.fasttext_open(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except (OSError, ValueError) as error:
            raise ValueError(f"{path}: not a fastText model: {error}") from None
        self.labels = tuple(kernels.fasttext_labels(self._model))  # as the file has them: "__label__en"

    def predict(self, texts: Sequence[str], most: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Places in `labels` of the `most` likeliest labels of each text's first line, likeliest first, and their probabilities:
        shape (texts, min(most, labels)). Where fewer have more than 0.00001, -1 and 0. A sum may be a little more than 1.
        """
        most = min(most, len(self.labels))
        numbers, probabilities = kernels.fasttext_predict(self._model, texts, most)
        return np.frombuffer(numbers, np.int32).reshape(-1, most), np.frombuffer(probabilities, np.float32).reshape(-1, most)


@kept_while_unchanged(4)
def load_fasttext(path: str) -> FastTextModel:
    return FastTextModel(Path(path))
