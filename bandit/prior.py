"""The prior: what the offline model believed before anyone said anything; part of the bundle."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BASE_RATE = 0.05
KNOWN_STRENGTH = 30.0
FRESH_STRENGTH = 1.0


class Prior(NamedTuple):
    """A belief per edge and how strongly it is held per item.

    Attributes:
        probability: float32[E], m: the prior probability of a reward on the edge. BASE_RATE everywhere, and
            `informed` false, where the offline job had only a graph.
        strength: float32[J], A: expected clicks that the item's prior is worth; KNOWN_STRENGTH for an item the
            offline model knew, FRESH_STRENGTH for a fresh one.
        informed: whether `probability` comes from an offline model.
    """

    probability: NDArray[np.float32]
    strength: NDArray[np.float32]
    informed: bool


def from_softmax(softmax: NDArray[np.floating], indptr: NDArray[np.int64]) -> NDArray[np.float32]:
    """Prior probabilities where only purchases or views are known.

    m = clip(0.05 · p(j|c) / its row's mean, .005, .5), with p the towers' softmax over the row.

    Args:
        softmax: float[E], p(j|c) per edge, not negative.
        indptr: int64[C + 1], the graph's rows.

    Returns:
        float32[E].
    """
    counts = np.diff(indptr)
    rows = np.repeat(np.arange(len(counts)), counts)
    totals = np.bincount(rows, weights=softmax, minlength=len(counts))
    totals[totals == 0] = 1.0
    return np.clip(BASE_RATE * (softmax / totals[rows] * counts[rows]), 0.005, 0.5).astype(np.float32)
