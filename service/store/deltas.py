"""Deltas: what a fold adds to a shard, and the form in which the function in Redis takes it."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bandit.statistics import FIELDS
from service.store.keys import Keys, RowName

# A change stream keeps so many entries, fewer where they are long: a replica that lags further reads the shard again.
STREAM_ENTRIES = 2000
STREAM_EDGES = 400_000
# Binary layouts that functions.lua knows as well.
EDGE_DTYPE = np.dtype([("slot", ">u4"), ("sums", ">i8", (FIELDS,))])
SIZE_DTYPE = np.dtype(">u4")
ITEM_BYTES = 4
SLATES = struct.Struct(">I")  # how many slates of a user follow
SLATE = struct.Struct(">QH")  # when a slate was served, and how many items follow
TIME_DTYPE = np.dtype([("append_ms", ">i8"), ("events", ">u4")])


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
    """Items of one slate that a user saw (or, if `rewarded`, answered), and when it was served.

    `items` are pseudonyms, 4 bytes each, little-endian; `offset` is the record that says so.
    """

    offset: int
    user: bytes
    rewarded: bool
    items: bytes
    issued_ms: int


class ShardDeltas(NamedTuple):
    """What one shard gains from a batch of one partition.

    `times` are the append times (int64[n], Unix ms) of the credits that touch the shard, for the freshness histogram.
    """

    shard: int
    expected: int
    following: int
    rows: Sequence[Row]
    users: Sequence[UserItems]
    times: NDArray[np.int64]
    totals: Mapping[str, int]

    @property
    def increments(self) -> int:
        """How many edges are added to, or users' items, whichever are more: what a call's length goes by."""
        items = sum([len(slate.items) for slate in self.users]) // ITEM_BYTES
        return max(sum([len(row.slots) for row in self.rows]), items)


class Limits(NamedTuple):
    """Bounds that a fold call keeps: edges it may touch, items it keeps per user, and how long (ms).

    Where it can be helped, a call gets no more users' items than edges.
    """

    edges: int
    seen_items: int
    recent_items: int
    user_life_ms: int


def call(keys: Keys, field: str, delta: ShardDeltas, limits: Limits) -> tuple[list[str], list[Any]]:
    """Keys and arguments of the function call that adds `delta` and moves the watermark `field`."""
    seen, answered = _by_user(delta.users, rewarded=False), _by_user(delta.users, rewarded=True)
    names = [
        keys.watermarks(delta.shard),
        keys.changes(delta.shard),
        keys.totals(delta.shard),
        *[keys.row(RowName(row.namespace, row.version, row.cluster)) for row in delta.rows],
        *[keys.user(user, rewarded=False) for user in seen],
        *[keys.user(user, rewarded=True) for user in answered],
    ]
    sizes = np.array([len(row.slots) for row in delta.rows], dtype=SIZE_DTYPE)
    edges = _pack_edges(delta.rows)
    arguments: list[Any] = [
        field,
        delta.expected,
        delta.following,
        len(delta.rows),
        len(seen),
        len(answered),
        limits.edges,
        min(STREAM_ENTRIES, STREAM_EDGES // max(1, len(edges))),
        limits.user_life_ms,
        limits.seen_items,
        limits.recent_items,
        _pack_times(delta.times),
        sizes.tobytes(),
        edges.tobytes(),
        b"".join([_pack_slates(slates) for slates in (*seen.values(), *answered.values())]),
    ]
    for name, count in delta.totals.items():
        arguments += [name, count]
    return names, arguments


def _pack_edges(rows: Sequence[Row]) -> NDArray[np.void]:
    """The edges of all rows, one after another."""
    packed = np.empty(sum(len(row.slots) for row in rows), dtype=EDGE_DTYPE)
    if rows:
        packed["slot"] = np.concatenate([row.slots for row in rows])
        packed["sums"] = np.concatenate([row.sums for row in rows])
    return packed


def _pack_slates(slates: Mapping[bytes, int]) -> bytes:
    """A user's slates."""
    parts = [SLATES.pack(len(slates))]
    for items, issued_ms in slates.items():
        parts += [SLATE.pack(issued_ms, len(items) // ITEM_BYTES), items]
    return b"".join(parts)


def _pack_times(times: NDArray[np.int64]) -> bytes:
    append_ms, events = np.unique(times, return_counts=True)
    packed = np.empty(len(append_ms), dtype=TIME_DTYPE)
    packed["append_ms"], packed["events"] = append_ms, events
    return packed.tobytes()


def _by_user(users: Sequence[UserItems], *, rewarded: bool) -> dict[bytes, dict[bytes, int]]:
    """What each user saw, or answered: the items of a slate and when they were last served so."""
    by_user: dict[bytes, dict[bytes, int]] = {}
    for _, user, answered, items, issued_ms in users:
        if answered == rewarded:
            slates = by_user.setdefault(user, {})
            slates[items] = max(issued_ms, slates.get(items, 0))
    return by_user
