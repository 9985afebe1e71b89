"""Deltas: a batch's credits summed per edge and split by shard, ready to be added in Redis."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bandit import statistics
from bandit.context import UNIT
from bandit.manifest import Manifest
from service.fold.judgement import Credit
from service.pseudonym import NOBODY
from service.store.deltas import Row, UserItems
from service.token import NO_EDGE

CACHED = 4096
NOTHING: NDArray[np.int64] = np.zeros(0, dtype=np.int64)


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


NO_EDGES = Edges([], NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, statistics.zeros(0))


def spread(credited: Sequence[Credit], manifest: Callable[[str], Manifest]) -> Edges:
    """Spread credits over their edges: eq. (8) for impressions, eq. (9) for rewards."""
    groups: dict[tuple[str, str], int] = {}
    alike: dict[tuple[int, bool], list[Credit]] = {}
    for credit in credited:
        groups.setdefault((credit.token.namespace, credit.token.version), len(groups))
        alike.setdefault((len(credit.token.clusters), credit.reward is None), []).append(credit)
    if not alike:
        return NO_EDGES
    parts = [_spread_alike(part, groups, manifest) for part in alike.values()]
    return Edges(list(groups), *(np.concatenate(column) for column in zip(*parts, strict=True)))


def _spread_alike(
    credited: Sequence[Credit], groups: Mapping[tuple[str, str], int], manifest: Callable[[str], Manifest]
) -> tuple[NDArray[np.int64], ...]:
    """Spread credits that are all impressions or all rewards, on contexts of one size: the columns of `Edges`."""
    shown = [_positions(credit.positions, len(credit.token.items)) for credit in credited]
    items = np.array([len(positions) for positions in shown])
    slots = np.concatenate([credit.token.slots[at] for credit, at in zip(credited, shown, strict=True)])
    item, k = np.nonzero(slots != NO_EDGE)
    credit = np.repeat(np.arange(len(credited)), items)[item]
    weights = np.stack([credit.token.weights for credit in credited]).astype(np.int64)[credit, k]
    clusters = np.stack([credit.token.clusters for credit in credited]).astype(np.int64)[credit, k]
    if credited[0].reward is None:
        examined = [_examination(manifest(c.token.version), at) for c, at in zip(credited, shown, strict=True)]
        sums = statistics.impression(weights, np.concatenate(examined)[item])
    else:
        sums = statistics.reward(weights, np.array([c.reward for c in credited])[credit])
    facts = np.array([(groups[c.token.namespace, c.token.version], c.offset, c.append_ms) for c in credited])[credit]
    return facts[:, 0], clusters, slots[item, k].astype(np.int64), facts[:, 1], facts[:, 2], sums


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
    return credit.token.items[_positions(credit.positions, len(credit.token.items))]


@lru_cache(CACHED)
def _positions(mask: int, size: int) -> NDArray[np.int64]:
    """The set bits of a mask over a slate, int64[n]."""
    return np.array([position for position in range(size) if mask >> position & 1], dtype=np.int64)


def _examination(manifest: Manifest, positions: NDArray[np.int64]) -> NDArray[np.int64]:
    if not manifest.examination_table:
        return np.full(len(positions), UNIT)
    return np.array([manifest.examination_units(position) for position in positions.tolist()], dtype=np.int64)
