"""Deltas: a batch's credits summed per edge and split by shard, ready to be added in Redis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bandit import statistics
from bandit.manifest import Manifest
from service.fold import kernel
from service.fold.judgement import Credit
from service.pseudonym import NOBODY
from service.store.deltas import ITEM_BYTES, Row, UserItems

MOST_KEY = 1 << 63
GROUP, CLUSTER, SLOT, CREDIT = range(4)


class Edges(NamedTuple):
    """Credits spread over the edges they touch, one entry an edge and credit.

    Attributes:
        groups: (namespace, version) pairs.
        columns: int64[m, 4]: group, cluster, slot and credit of each entry, in the order of the credits.
        sums: int64[m, 3], what the edge gains.
        order: int64[m], the entries sorted by group, cluster and slot.
        offsets, times: int64[credits], offset and append time (Unix ms) of each credit's record.
    """

    groups: list[tuple[str, str]]
    columns: NDArray[np.int64]
    sums: NDArray[np.int64]
    order: NDArray[np.int64]
    offsets: NDArray[np.int64]
    times: NDArray[np.int64]

    @property
    def group(self) -> NDArray[np.int64]:
        """Which of `groups` an entry is in."""
        return self.columns[:, GROUP]

    @property
    def cluster(self) -> NDArray[np.int64]:
        """An entry's cluster."""
        return self.columns[:, CLUSTER]

    @property
    def slot(self) -> NDArray[np.int64]:
        """An entry's slot in its cluster's row."""
        return self.columns[:, SLOT]

    @property
    def credit(self) -> NDArray[np.int64]:
        """Which credit an entry comes from."""
        return self.columns[:, CREDIT]

    @property
    def offset(self) -> NDArray[np.int64]:
        """The offset of an entry's record."""
        return self.offsets[self.credit]


def spread(credited: Sequence[Credit], manifest: Callable[[str], Manifest]) -> Edges:
    """Spread credits over their edges: eq. (8) for impressions, eq. (9) for rewards."""
    groups: dict[tuple[str, str], int] = {}
    numbers = [groups.setdefault((token.namespace, token.version), len(groups)) for _, _, token, _, _ in credited]
    bodies = [credit.token.body for credit in credited]
    masks = b"".join([credit.positions.to_bytes(kernel.MASK_BYTES, "little") for credit in credited])
    tokens = (
        np.frombuffer(b"".join(bodies), dtype=np.uint8),
        np.cumsum(_column([0, *map(len, bodies)]))[:-1],
        np.frombuffer(masks, dtype=np.uint8).reshape(-1, kernel.MASK_BYTES),
    )
    rewards = _column([-1 if credit.reward is None else credit.reward for credit in credited])
    examination = _column([_examination(manifest(version)) for _, version in groups]).reshape(-1, kernel.MOST_ITEMS)
    most = kernel.count(*tokens)
    columns, sums = np.empty((most, 4), dtype=np.int64), np.empty((most, statistics.FIELDS), dtype=np.int64)
    written = kernel.spread(*tokens, rewards, _column(numbers), examination, columns, sums)
    columns, sums = columns[:written], sums[:written]
    offsets, times = (_column([credit[field] for credit in credited]) for field in (0, 1))
    return Edges(list(groups), columns, sums, _order(columns), offsets, times)


def rows(edges: Edges, kept: NDArray[np.bool_]) -> list[Row]:
    """Sum the entries where `kept` (bool[m]) per edge, one `Row` for each cluster that is touched."""
    first, totals = np.empty(len(kept), dtype=np.int64), np.empty((len(kept), statistics.FIELDS), dtype=np.int64)
    found = kernel.total(edges.columns, edges.sums, edges.order, kept, first, totals)
    if not found:
        return []
    columns = edges.columns[first[:found]]
    slots = np.ascontiguousarray(columns[:, SLOT])
    starts = np.flatnonzero(np.diff(columns[:, :SLOT], axis=0, prepend=-1).any(axis=1))
    made = []
    for row, start, stop in zip(columns[starts].tolist(), starts.tolist(), [*starts[1:].tolist(), found], strict=True):
        (namespace, version), cluster = edges.groups[row[GROUP]], row[CLUSTER]
        made.append(Row(namespace, version, cluster, slots[start:stop], totals[start:stop]))
    return made


def user_items(credited: Sequence[Credit]) -> list[UserItems]:
    """What users saw and answered; nothing of nobody."""
    return [
        UserItems(offset, token.user, reward is not None, _items(token.items, positions), token.issued_ms)
        for offset, _, token, positions, reward in credited
        if token.user != NOBODY and reward != 0
    ]


def _items(items: bytes, positions: int) -> bytes:
    """The items at the set bits of a mask."""
    if positions.bit_count() == len(items) // ITEM_BYTES:
        return items
    return b"".join([items[at * ITEM_BYTES : (at + 1) * ITEM_BYTES] for at in _set_bits(positions)])


@lru_cache(4096)
def _set_bits(mask: int) -> list[int]:
    return [position for position in range(mask.bit_length()) if mask >> position & 1]


def _order(columns: NDArray[np.int64]) -> NDArray[np.int64]:
    """The entries sorted by group, cluster and slot."""
    if not len(columns):
        return np.zeros(0, dtype=np.int64)
    groups, clusters, slots = (columns[:, :3].max(axis=0) + 1).tolist()
    if groups * clusters * slots >= MOST_KEY:
        return np.lexsort((columns[:, 2], columns[:, 1], columns[:, 0]))
    return np.argsort((columns[:, 0] * clusters + columns[:, 1]) * slots + columns[:, 2])


def _examination(manifest: Manifest) -> list[int]:
    return [manifest.examination_units(position) for position in range(kernel.MOST_ITEMS)]


def _column(numbers: Sequence[Any]) -> NDArray[np.int64]:
    return np.array(numbers, dtype=np.int64)
