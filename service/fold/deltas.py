"""Deltas: a batch's credits summed per edge and split by shard, ready to be added in Redis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bandit import statistics
from bandit.manifest import Manifest
from service.fold.judgement import Credit
from service.pseudonym import NOBODY
from service.token import NO_EDGE


class Row(NamedTuple):
    """What one cluster's row gains.

    `slots` int64[n], ascending; `sums` int64[n, 3] in units of 2⁻³⁰, columns d, n, b.
    """

    namespace: str
    version: str
    cluster: int
    slots: NDArray[np.int64]
    sums: NDArray[np.int64]


class UserItems(NamedTuple):
    """Items that a user saw (or, if `rewarded`, answered): pseudonyms uint32[n], and when their slate was served.

    `offset` is the record that says so.
    """

    offset: int
    user: bytes
    rewarded: bool
    items: NDArray[np.uint32]
    issued_ms: int


class Edges(NamedTuple):
    """Credits spread over the edges they touch, one entry an edge and credit.

    Attributes:
        group: int64[m], which of `groups` (namespace, version) the edge is in.
        cluster, slot: int64[m].
        offset, append_ms: int64[m], of the credit's record.
        sums: int64[m, 3], what the edge gains.
    """

    groups: list[tuple[str, str]]
    group: NDArray[np.int64]
    cluster: NDArray[np.int64]
    slot: NDArray[np.int64]
    offset: NDArray[np.int64]
    append_ms: NDArray[np.int64]
    sums: NDArray[np.int64]


def spread(credited: Sequence[Credit], manifest: Callable[[str], Manifest]) -> Edges:
    """Spread credits over their edges: eq. (8) for impressions, eq. (9) for rewards."""
    groups: dict[tuple[str, str], int] = {}
    parts: list[tuple[NDArray[np.int64], ...]] = []
    for credit in credited:
        token = credit.token
        group = groups.setdefault((token.namespace, token.version), len(groups))
        shown = _positions(credit.positions, len(token.items))
        slots = token.slots if shown is None else token.slots[shown]
        at, k = np.nonzero(slots != NO_EDGE)
        weights = token.weights[k]
        if credit.reward is None:
            position = at if shown is None else shown[at]
            examination = _examination(manifest(token.version), len(token.items))
            sums = statistics.impression(weights, examination[position])
        else:
            sums = statistics.reward(weights, credit.reward)
        place = np.tile(np.array((group, credit.offset, credit.append_ms), dtype=np.int64), (len(k), 1))
        parts.append((token.clusters[k].astype(np.int64), slots[at, k].astype(np.int64), place, sums))
    if not parts:
        empty = np.zeros(0, dtype=np.int64)
        return Edges([], empty, empty, empty, empty, empty, np.zeros((0, statistics.FIELDS), dtype=np.int64))
    cluster, slot, place, sums = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Edges(list(groups), place[:, 0], cluster, slot, place[:, 1], place[:, 2], sums)


def rows(edges: Edges, kept: NDArray[np.bool_]) -> list[Row]:
    """Sum the entries where `kept` (bool[m]) per edge, one `Row` for each cluster that is touched."""
    group, cluster, slot = edges.group[kept], edges.cluster[kept], edges.slot[kept]
    sums = edges.sums[kept]
    order = np.lexsort((slot, cluster, group))
    group, cluster, slot = group[order], cluster[order], slot[order]
    if not len(order):
        return []
    new_row = np.r_[True, (np.diff(group) != 0) | (np.diff(cluster) != 0)]
    new_edge = np.r_[True, np.diff(slot) != 0] | new_row
    totals = np.add.reduceat(sums[order], np.flatnonzero(new_edge), axis=0)
    starts = np.flatnonzero(new_row[new_edge])
    group, cluster, slot = group[new_edge], cluster[new_edge], slot[new_edge]
    found = []
    for start, stop in zip(starts, [*starts[1:], len(slot)], strict=True):
        namespace, version = edges.groups[group[start]]
        found.append(Row(namespace, version, int(cluster[start]), slot[start:stop], totals[start:stop]))
    return found


def user_items(credited: Sequence[Credit]) -> list[UserItems]:
    """What users saw and answered; nothing of nobody."""
    return [
        UserItems(credit.offset, credit.token.user, credit.reward is not None, _items(credit), credit.token.issued_ms)
        for credit in credited
        if credit.token.user != NOBODY and credit.reward != 0
    ]


def _items(credit: Credit) -> NDArray[np.uint32]:
    shown = _positions(credit.positions, len(credit.token.items))
    return credit.token.items if shown is None else credit.token.items[shown]


def _positions(mask: int, size: int) -> NDArray[np.int64] | None:
    """The set bits of a mask over a slate, int64[n]; None for all of them."""
    if mask.bit_count() == size:
        return None
    return np.array([position for position in range(size) if mask >> position & 1], dtype=np.int64)


def _examination(manifest: Manifest, size: int) -> NDArray[np.int64]:
    return np.array([manifest.examination_units(position) for position in range(size)], dtype=np.int64)
