"""Statistics: what users said on an edge, as plain fixed-point sums (Online Matching eq. 8 and 9).

Weights w, rewards r and examination probabilities e are integers in units of 2⁻¹⁵, so every product is an exact
integer in units of 2⁻³⁰. Integer sums do not depend on order: any batching, replay or interleaving of the same events
ends in the same bits.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SCALE = 1 << 30
FIELDS = 3
EDGE_BYTES = 8 * FIELDS
ROW_DTYPE = np.dtype(">i8")


class Statistics(NamedTuple):
    """Sums per edge in natural units.

    Attributes:
        d: float64[E], Σ w² over impressions: eq. (8).
        n: float64[E], Σ e·w over impressions.
        b: float64[E], Σ w·r over rewards: eq. (9).
    """

    d: NDArray[np.float64]
    n: NDArray[np.float64]
    b: NDArray[np.float64]


def zeros(num_edges: int) -> NDArray[np.int64]:
    """Sums of edges that nobody has seen: int64[E, 3] in units of 2⁻³⁰, columns d, n, b."""
    return np.zeros((num_edges, FIELDS), dtype=np.int64)


def natural(sums: NDArray[np.int64]) -> Statistics:
    """Read int64[E, 3] sums in natural units."""
    d, n, b = (sums[:, field] / SCALE for field in range(FIELDS))
    return Statistics(d, n, b)


def impression(weights: NDArray[np.int64], examination: NDArray[np.int64]) -> NDArray[np.int64]:
    """What impressions add: int64[n, 3] = (w², e·w, 0) for weights and examinations int64[n] in units of 2⁻¹⁵."""
    return np.stack([weights * weights, examination * weights, np.zeros_like(weights)], axis=1)


def reward(weights: NDArray[np.int64], value: int | NDArray[np.int64]) -> NDArray[np.int64]:
    """What rewards add: int64[n, 3] = (0, 0, w·r) for weights int64[n] and rewards in units of 2⁻¹⁵."""
    gain = weights * value
    return np.stack([np.zeros_like(gain), np.zeros_like(gain), gain], axis=1)


def from_row(row: bytes, slots: int) -> NDArray[np.int64]:
    """A cluster's row as Redis holds it (big-endian, may be short or absent at its end) as int64[slots, 3]."""
    sums = np.zeros(slots * FIELDS, dtype=np.int64)
    known = np.frombuffer(row[: slots * EDGE_BYTES], dtype=ROW_DTYPE)
    sums[: len(known)] = known
    return sums.reshape(slots, FIELDS)
