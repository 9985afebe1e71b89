"""Calls of the store, shortly put, and what they left behind."""

import struct
from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from bandit.statistics import from_row
from service.store.changes import Change
from service.store.deltas import Limits, Row, ShardDeltas, UserItems
from service.store.keys import RowName, watermark_field
from service.store.redis import Store

FIELD = watermark_field(b"e" * 16, 5)
LIMITS = Limits(edges=8192, seen_items=3, recent_items=2, user_life_ms=10**13)
MOST = 2**63 - 1
NOW_MS = 1_800_000_000_000
SHARD = 1
USER = (1).to_bytes(8, "little") + b"somebody"
Gains = Mapping[int, tuple[int, int, int]]
# These empty the database themselves.
of_one_store = hypothesis_settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def row(gains: Gains, cluster: int = SHARD, namespace: str = "default") -> Row:
    slots = np.array(sorted(gains), dtype=np.int64)
    sums = np.array([gains[slot] for slot in sorted(gains)], dtype=np.int64).reshape(len(slots), 3)
    return Row(namespace, "v1", cluster, slots, sums)


def name(cluster: int = SHARD, namespace: str = "default") -> RowName:
    return RowName(namespace, "v1", cluster)


def saw(items: Sequence[int], issued_ms: int = NOW_MS, *, rewarded: bool = False, user: bytes = USER) -> UserItems:
    return UserItems(0, user, rewarded, np.array(items, dtype="<u4").tobytes(), issued_ms)


def deltas(
    rows: Sequence[Row] = (),
    users: Sequence[UserItems] = (),
    *,
    expected: int = 0,
    following: int = 1,
    shard: int = SHARD,
    times: Sequence[int] = (),
    totals: Mapping[str, int] | None = None,
) -> ShardDeltas:
    return ShardDeltas(shard, expected, following, rows, users, np.array(times, dtype=np.int64), totals or {})


def fold(store: Store, *asked: ShardDeltas, limits: Limits = LIMITS) -> list[tuple[bool, int]]:
    return store.fold(FIELD, asked, limits)


def read(store: Store, slots: int, of: RowName | None = None) -> list[list[int]]:
    (found,) = store.rows([of or name()])
    return from_row(found, slots).tolist()  # type: ignore[no-any-return]


def entries(store: Store, shard: int = SHARD) -> list[Change]:
    return store.changes({shard: "0-0"}, 1).get(shard, [])


def user_items(store: Store, *, rewarded: bool = False, user: bytes = USER) -> list[tuple[int, float]]:
    found = cast(
        list[tuple[bytes, float]], store.client.zrange(store.keys.user(user, rewarded=rewarded), 0, -1, withscores=True)
    )
    return [(int.from_bytes(item, "little"), issued_ms) for item, issued_ms in found]


def dump(store: Store) -> dict[str, tuple[object, object]]:
    """All that Redis holds, expiry times included."""
    keys = [key.decode() for key in store.client.scan_iter("*", count=1000)]
    return {key: (store.client.dump(key), store.client.pexpiretime(key)) for key in keys}


def blob(*edges: tuple[int, int, int, int]) -> bytes:
    return b"".join(struct.pack(">Iqqq", *edge) for edge in edges)
