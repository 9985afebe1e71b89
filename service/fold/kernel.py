"""The fold's inner loops: a batch's credits spread over the edges they touch, and summed per edge."""

from __future__ import annotations

import numpy as np
from numba import njit, types
from numpy.typing import NDArray

from service.token import HEAD, LENGTHS

HEAD_BYTES = HEAD.size
MOST_ITEMS = 255
MASK_BYTES = 32

_BYTES = types.Array(types.uint8, 1, "C", readonly=True)
_MASKS = types.Array(types.uint8, 2, "C", readonly=True)
_TABLE = types.Array(types.int64, 2, "C", readonly=True)
_COLUMN = types.Array(types.int64, 1, "C", readonly=True)
_FLAGS = types.Array(types.boolean, 1, "C", readonly=True)


@njit(inline="always")
def _number(data: NDArray[np.uint8], at: int, width: int) -> int:
    """A little-endian number."""
    number = 0
    for byte in range(width):
        number |= int(data[at + byte]) << (8 * byte)
    return number


@njit(types.int64(_BYTES, _COLUMN, _MASKS), cache=True, nogil=True)
def count(bodies: NDArray[np.uint8], starts: NDArray[np.int64], shown: NDArray[np.uint8]) -> int:
    """How many entries `spread` writes at most: a context's clusters for each item."""
    entries = 0
    for credit in range(len(starts)):
        items = 0
        for item in range(bodies[starts[credit] + LENGTHS + 1]):
            items += shown[credit, item >> 3] >> (item & 7) & 1
        entries += items * bodies[starts[credit] + LENGTHS]
    return entries


@njit(
    types.int64(_BYTES, _COLUMN, _MASKS, _COLUMN, _COLUMN, _TABLE, types.int64[:, ::1], types.int64[:, ::1]),
    cache=True,
    nogil=True,
)
def spread(
    bodies: NDArray[np.uint8],
    starts: NDArray[np.int64],
    shown: NDArray[np.uint8],
    rewards: NDArray[np.int64],
    groups: NDArray[np.int64],
    examination: NDArray[np.int64],
    edges: NDArray[np.int64],
    sums: NDArray[np.int64],
) -> int:
    """Eq. (8) for impressions, eq. (9) for rewards, over tokens as they are packed (see `service.token`).

    Args:
        bodies: uint8[bytes], tokens' bodies one after another.
        starts: int64[credits], where each credit's token begins.
        shown: uint8[credits, MASK_BYTES], the positions that each credit speaks of, as bits.
        rewards: int64[credits], in units of 2⁻¹⁵; −1 for an impression.
        groups: int64[credits], numbers that go into `edges`.
        examination: int64[groups, MOST_ITEMS], the examination probability of each place in units of 2⁻¹⁵.
        edges: int64[m, 4], written: group, cluster, slot, credit.
        sums: int64[m, 3], written: what the edge gains.

    Returns:
        How many entries were written.
    """
    clusters = np.empty(256, dtype=np.int64)
    weights = np.empty(256, dtype=np.int64)
    entry = 0
    for credit in range(len(starts)):
        lengths = starts[credit] + LENGTHS
        k, n, width = int(bodies[lengths]), int(bodies[lengths + 1]), int(bodies[lengths + 2])
        at = starts[credit] + HEAD_BYTES + bodies[lengths - 3] + bodies[lengths - 2] + bodies[lengths - 1]
        for c in range(k):
            clusters[c] = _number(bodies, at + 4 * c, 4)
            weights[c] = _number(bodies, at + 4 * k + 2 * c, 2)
        reward, group = rewards[credit], groups[credit]
        present = at + 6 * k + 5 * n
        mask_bytes = (k + 7) // 8
        slot_at = present + n * mask_bytes
        for item in range(n):
            counts = shown[credit, item >> 3] >> (item & 7) & 1
            for c in range(k):
                if bodies[present + item * mask_bytes + (c >> 3)] >> (c & 7) & 1:
                    if counts:
                        edges[entry, 0] = group
                        edges[entry, 1] = clusters[c]
                        edges[entry, 2] = _number(bodies, slot_at, width)
                        edges[entry, 3] = credit
                        if reward < 0:
                            sums[entry, 0] = weights[c] * weights[c]
                            sums[entry, 1] = examination[group, item] * weights[c]
                            sums[entry, 2] = 0
                        else:
                            sums[entry, 0] = 0
                            sums[entry, 1] = 0
                            sums[entry, 2] = weights[c] * reward
                        entry += 1
                    slot_at += width
    return entry


@njit(types.int64(_TABLE, _TABLE, _COLUMN, _FLAGS, types.int64[::1], types.int64[:, ::1]), cache=True, nogil=True)
def total(
    edges: NDArray[np.int64],
    sums: NDArray[np.int64],
    order: NDArray[np.int64],
    kept: NDArray[np.bool_],
    first: NDArray[np.int64],
    totals: NDArray[np.int64],
) -> int:
    """Sum the entries where `kept` per edge, following `order`, in which an edge's entries lie side by side.

    Writes one of each edge's entries to `first` (int64[m]) and its sums to `totals` (int64[m, 3]); answers how many
    edges there are.
    """
    found = -1
    last = -1
    for entry in order:
        if not kept[entry]:
            continue
        if (
            last < 0
            or edges[entry, 2] != edges[last, 2]
            or edges[entry, 1] != edges[last, 1]
            or edges[entry, 0] != edges[last, 0]
        ):
            found += 1
            first[found] = entry
            totals[found] = 0
        for field in range(3):
            totals[found, field] += sums[entry, field]
        last = entry
    return found + 1
