"""Ranked: every user's best candidates of the graph, and what the ranker says of them; on disk for the report."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from offline.data.timelines import PAD


class Ranked(NamedTuple):
    """Candidates and their logits.

    Attributes:
        candidates: int32[U, K], item numbers, PAD past the end.
        logits: float32[U, K], −∞ for PAD.
    """

    candidates: NDArray[np.int32]
    logits: NDArray[np.float32]

    def scores(self, users: NDArray[np.int32], below: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32[n, J] for users int32[n]: their candidates by the ranker, then the others by `below`, in [0, 1]."""
        scores = np.array(below, dtype=np.float32)
        candidates, logits = self.candidates[users], self.logits[users]
        rows, places = np.nonzero(candidates != PAD)
        order = np.argsort(np.argsort(logits, axis=1, kind="stable"), axis=1, kind="stable")
        scores[rows, candidates[rows, places]] = 2.0 + order[rows, places]
        return scores


def save(ranked: Ranked, path: Path) -> None:
    """Write to a safetensors file."""
    safetensors.numpy.save_file(ranked._asdict(), path)


def load(path: Path) -> Ranked:
    """Read what `save` wrote."""
    return Ranked(**safetensors.numpy.load_file(path))
