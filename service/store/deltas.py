"""Deltas: what a fold adds to a shard, and the form in which the function in Redis takes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bandit.statistics import FIELDS
from service.store.keys import Keys, RowName

STREAM_ENTRIES = 2000
# Binary layouts that functions.lua knows as well.
EDGE_DTYPE = np.dtype([("slot", ">u4"), ("sums", ">i8", (FIELDS,))])
USER_ITEM_DTYPE = np.dtype([("item", "<u4"), ("issued_ms", ">u8")])
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
    """Items that a user saw (or, if `rewarded`, answered): pseudonyms uint32[n], and when their slate was served.

    `offset` is the record that says so.
    """

    offset: int
    user: bytes
    rewarded: bool
    items: NDArray[np.uint32]
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


class Limits(NamedTuple):
    """Bounds that a fold call keeps: edges it may touch, items it keeps per user, and how long (ms)."""

    edges: int
    seen_items: int
    recent_items: int
    user_life_ms: int


def call(keys: Keys, field: str, delta: ShardDeltas, limits: Limits) -> tuple[list[str], list[Any]]:
    """Keys and arguments of the function call that adds `delta` and moves the watermark `field`."""
    users = _by_user(delta.users)
    names = [
        keys.watermarks(delta.shard),
        keys.changes(delta.shard),
        keys.totals(delta.shard),
        *(keys.row(RowName(row.namespace, row.version, row.cluster)) for row in delta.rows),
        *(keys.user(user, rewarded=rewarded) for user, rewarded in users),
    ]
    arguments: list[Any] = [
        field,
        delta.expected,
        delta.following,
        len(delta.rows),
        len(users),
        limits.edges,
        STREAM_ENTRIES,
        _pack_times(delta.times),
        limits.user_life_ms,
        len(delta.totals),
    ]
    for name, count in delta.totals.items():
        arguments += [name, count]
    arguments += [_pack_row(row) for row in delta.rows]
    for (_, rewarded), items in users.items():
        arguments += [limits.recent_items if rewarded else limits.seen_items, b"".join(items)]
    return names, arguments


def _pack_row(row: Row) -> bytes:
    packed = np.empty(len(row.slots), dtype=EDGE_DTYPE)
    packed["slot"], packed["sums"] = row.slots, row.sums
    return packed.tobytes()


def _pack_times(times: NDArray[np.int64]) -> bytes:
    append_ms, events = np.unique(times, return_counts=True)
    packed = np.empty(len(append_ms), dtype=TIME_DTYPE)
    packed["append_ms"], packed["events"] = append_ms, events
    return packed.tobytes()


def _by_user(users: Sequence[UserItems]) -> dict[tuple[bytes, bool], list[bytes]]:
    by_user: dict[tuple[bytes, bool], list[bytes]] = {}
    for items in users:
        packed = np.empty(len(items.items), dtype=USER_ITEM_DTYPE)
        packed["item"], packed["issued_ms"] = items.items, items.issued_ms
        by_user.setdefault((items.user, items.rewarded), []).append(packed.tobytes())
    return by_user
