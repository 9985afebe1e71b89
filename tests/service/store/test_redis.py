"""The store against a real Valkey: what one function call adds, what it refuses, and what others read of it."""

import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import pytest
import redis
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from bandit.statistics import EDGE_BYTES, SCALE, from_row
from service.store.changes import Change
from service.store.deltas import Limits, Row, ShardDeltas, UserItems
from service.store.keys import Keys, RowName, watermark_field
from service.store.redis import Store, StoreError, connect

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
    return UserItems(0, user, rewarded, np.array(items, dtype=np.uint32), issued_ms)


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
    keys = [key.decode() for key in cast(list[bytes], store.client.keys("*"))]
    return {key: (store.client.dump(key), store.client.pexpiretime(key)) for key in keys}


# What one call adds


def test_a_call_adds_and_moves_the_watermark(store: Store) -> None:
    assert fold(store, deltas([row({0: (1, 2, 3), 2: (4, 5, 6)})], following=7)) == [(True, 7)]
    assert fold(store, deltas([row({1: (1, 1, 1), 2: (10, 0, 0)})], expected=7, following=8)) == [(True, 8)]
    assert read(store, 4) == [[1, 2, 3], [1, 1, 1], [14, 5, 6], [0, 0, 0]]
    assert store.watermarks(bytes.fromhex(FIELD.split(":")[0]), [5]) == {5: [0, 8, 0, 0]}


def test_a_row_is_24_big_endian_bytes_an_edge(store: Store) -> None:
    fold(store, deltas([row({1: (SCALE, 2, 3)})]))
    assert store.rows([name()]) == [bytes(EDGE_BYTES) + struct.pack(">qqq", SCALE, 2, 3)]


def test_rows_of_namespaces_and_clusters_are_apart(store: Store) -> None:
    rows = [row({0: (n, 0, 0)}, cluster, space) for n, (cluster, space) in enumerate([(1, "a"), (5, "a"), (1, "b")], 1)]
    fold(store, deltas(rows))
    assert [read(store, 1, of)[0][0] for of in (name(1, "a"), name(5, "a"), name(1, "b"))] == [1, 2, 3]


def test_a_batch_without_credits_moves_the_watermark_alone(store: Store) -> None:
    assert fold(store, deltas(following=500)) == [(True, 500)]
    assert fold(store, deltas(expected=500, following=500)) == [(True, 500)]
    assert entries(store) == []


def test_shards_and_partitions_have_watermarks_of_their_own(store: Store) -> None:
    epoch = b"e" * 16
    answers = fold(store, deltas(following=3, shard=0), deltas(following=9, shard=2))
    assert answers == [(True, 3), (True, 9)]
    store.fold(watermark_field(epoch, 1), [deltas(following=4, shard=0)], LIMITS)
    assert store.watermarks(epoch, [5, 1, 0]) == {5: [3, 0, 9, 0], 1: [4, 0, 0, 0], 0: [0, 0, 0, 0]}
    assert store.watermarks(b"f" * 16, [5]) == {5: [0, 0, 0, 0]}
    assert store.watermarks(epoch, []) == {}


def test_totals_are_counted_with_the_watermark_and_added_over_shards(store: Store) -> None:
    fold(store, deltas(totals={"folded": 3, "late": 1}))
    fold(store, deltas(expected=1, following=2, totals={"folded": 4}), deltas(shard=2, totals={"folded": 10}))
    assert store.totals() == {"folded": 17, "late": 1}
    assert fold(store, deltas(totals={"folded": 100})) == [(False, 2)]
    assert store.totals() == {"folded": 17, "late": 1}


def test_sums_stop_at_the_largest_integer(store: Store) -> None:
    store.client.set(store.keys.row(name()), struct.pack(">qqqq", MOST - 5, MOST - 5, MOST, MOST - 2**53))
    fold(store, deltas([row({0: (5, 6, 1), 1: (2**53, 0, 0)})]))
    assert read(store, 2) == [[MOST, MOST, MOST], [MOST, 0, 0]]


def test_the_longest_row_and_the_most_rows_fit_into_one_call(store: Store) -> None:
    """More arguments than Lua's stack takes: they are passed on in portions."""
    long = row({slot: (slot + 1, 1, 2**40 + slot) for slot in range(8192)})
    assert fold(store, deltas([long])) == [(True, 1)]
    assert read(store, 8192) == [[slot + 1, 1, 2**40 + slot] for slot in range(8192)]

    clusters = [SHARD + store.keys.shards * n for n in range(8192)]
    many = [row({0: (cluster, 0, 0)}, cluster, "many") for cluster in clusters]
    assert fold(store, deltas(many, expected=1, following=2, times=[NOW_MS])) == [(True, 2)]
    assert [
        from_row(found, 1)[0, 0] for found in store.rows([name(cluster, "many") for cluster in clusters])
    ] == clusters
    first, *rest = entries(store)
    changed = [change.name.cluster for entry in rest for change in entry.rows]
    assert changed == clusters
    assert [entry.sequence for entry in (first, *rest)] == list(range(1, len(rest) + 2))
    # Heard once, with the last of it.
    assert [entry.events.tolist() for entry in rest] == [[]] * (len(rest) - 1) + [[1]]


@of_one_store
@given(st.data())
def test_any_order_and_batching_of_calls_ends_in_the_same_bits(store: Store, data: st.DataObject) -> None:
    amounts = st.integers(0, 2**40)
    gains = data.draw(
        st.lists(st.dictionaries(st.integers(0, 6), st.tuples(amounts, amounts, amounts), min_size=1), max_size=6)
    )
    found = []
    for order in (gains, data.draw(st.permutations(gains))):
        store.client.flushall()
        for at, gain in enumerate(order):
            assert fold(store, deltas([row(gain)], expected=at, following=at + 1)) == [(True, at + 1)]
        found.append(store.rows([name()]))
    assert found[0] == found[1]
    assert read(store, 7) == [
        [sum(gain.get(slot, (0, 0, 0))[field] for gain in gains) for field in range(3)] for slot in range(7)
    ]


# What it refuses


@pytest.mark.parametrize("expected", [0, 6, 8])
def test_a_call_that_expects_another_watermark_learns_it_and_writes_nothing(store: Store, expected: int) -> None:
    fold(store, deltas([row({0: (1, 1, 1)})], [saw([1])], following=7, totals={"folded": 1}))
    before = dump(store)
    late = deltas(
        [row({0: (9, 9, 9)}), row({1: (9, 9, 9)}, 5)], [saw([2])], expected=expected, following=9, totals={"folded": 1}
    )
    assert fold(store, late) == [(False, 7)]
    assert dump(store) == before


def test_shards_answer_each_for_itself(store: Store) -> None:
    fold(store, deltas(following=4, shard=2))
    answers = fold(store, deltas([row({0: (1, 1, 1)})]), deltas([row({0: (1, 1, 1)}, 2)], shard=2))
    assert answers == [(True, 1), (False, 4)]
    assert store.rows([name(2)]) == [b""]


def blob(*edges: tuple[int, int, int, int]) -> bytes:
    return b"".join(struct.pack(">Iqqq", *edge) for edge in edges)


def user_blob(*items: tuple[int, int]) -> bytes:
    return b"".join(struct.pack("<I", item) + struct.pack(">Q", issued_ms) for item, issued_ms in items)


class Call(NamedTuple):
    """The function's arguments, one by one, so that each can be spoilt."""

    expected: Any = 0
    following: Any = 1
    rows: Any = 2
    users: Any = 1
    cap: Any = 4
    stream: Any = 100
    times: bytes = struct.pack(">qI", NOW_MS, 1)
    life: Any = 1000
    totals: Any = 1
    counts: Sequence[Any] = ("folded", 2)
    blobs: Sequence[bytes] = (blob((0, 1, 1, 1), (3, 1, 0, 0)), blob((1, 1, 1, 1)))
    user: Sequence[Any] = (5, user_blob((1, NOW_MS), (2, NOW_MS)))
    row_keys: Sequence[str] = ("om:{1}:row:a:v:0:1", "om:{1}:row:a:v:0:5")
    more_keys: Sequence[str] = ("om:{1}:user:00:seen",)
    more: Sequence[Any] = ()

    def to(self, store: Store) -> list[int]:
        keys = ["om:{1}:watermarks", "om:{1}:changes", "om:{1}:totals", *self.row_keys, *self.more_keys]
        head = [FIELD, *self[:9]]
        return cast(
            list[int],
            store.client.fcall("om_fold", len(keys), *keys, *head, *self.counts, *self.blobs, *self.user, *self.more),
        )


def test_the_call_that_is_spoilt_below_is_a_good_one(store: Store) -> None:
    before = dump(store)
    assert Call().to(store) == [1, 1]
    assert len(dump(store)) == len(before) + 6


def spoilt(argument: str, value: Any) -> Call:
    return Call(**{argument: value})


GOOD = Call().blobs[1]
NUMBERS = ["", "x", "1.5", "-1", "nan", "inf", "9007199254740994", "1e300"]


@pytest.mark.parametrize(
    "call",
    [
        *(spoilt(argument, bad) for argument in ("expected", "following", "cap", "stream", "life") for bad in NUMBERS),
        *(spoilt(argument, bad) for argument in ("rows", "users", "totals") for bad in [*NUMBERS, "0", "3"]),
        *(Call(counts=("folded", bad)) for bad in NUMBERS),
        *(Call(user=(bad, user_blob((1, NOW_MS)))) for bad in NUMBERS),
        Call(following=2, expected=3),
        Call(cap=2),
        Call(cap=0),
        Call(times=b"torn"),
        Call(more=("one more",)),
        Call(user=()),
        Call(counts=()),
        Call(more_keys=()),
        Call(more_keys=("om:{1}:user:00:seen", "om:{1}:user:01:seen")),
        Call(row_keys=("om:{1}:row:a:v:0:1", "om:{1}:totals")),
        Call(row_keys=("om:{1}:row:a:v:0:1", "om:{1}:row:")),
        Call(blobs=(GOOD, b"")),
        Call(blobs=(GOOD, GOOD[:-1])),
        Call(blobs=(GOOD, GOOD + b"\0")),
        Call(blobs=(GOOD, blob((1, -1, 0, 0)))),
        Call(blobs=(GOOD, blob((1, 0, -1, 0)))),
        Call(blobs=(GOOD, blob((1, 0, 0, -1)))),
        Call(blobs=(GOOD, blob((1, 0, 0, -(2**63))))),
        Call(blobs=(GOOD, blob((1, 0, 0, 2**53 + 2)))),
        Call(blobs=(GOOD, blob((1, MOST, 0, 0)))),
        Call(blobs=(GOOD, blob((2, 1, 1, 1), (1, 1, 1, 1)))),
        Call(blobs=(GOOD, blob((2, 1, 1, 1), (2, 1, 1, 1)))),
        Call(blobs=(GOOD, blob((2**24, 1, 1, 1)))),
        Call(blobs=(GOOD, blob((2**32 - 1, 1, 1, 1)))),
        Call(user=(5, b"")),
        Call(user=(5, user_blob((1, NOW_MS))[:-1])),
        Call(user=(5, user_blob((1, NOW_MS), (2, 2**53 + 2)))),
        Call(user=(5, user_blob((1, 2**64 - 1)))),
    ],
)
def test_a_malformed_call_is_refused_before_the_first_write(store: Store, call: Call) -> None:
    before = dump(store)
    with pytest.raises(redis.ResponseError, match="OMARGS"):
        call.to(store)
    assert dump(store) == before
    Call(expected=0, following=1).to(store)
    after = dump(store)
    with pytest.raises(redis.ResponseError, match="OMARGS"):
        call.to(store)
    assert dump(store) == after


def test_more_edges_than_a_call_may_touch_are_refused(store: Store) -> None:
    two = [row({0: (1, 1, 1), 1: (1, 1, 1)}), row({0: (1, 1, 1)}, 5)]
    before = dump(store)
    with pytest.raises(redis.ResponseError, match="too long"):
        fold(store, deltas(two), limits=LIMITS._replace(edges=2))
    assert dump(store) == before
    assert fold(store, deltas(two), limits=LIMITS._replace(edges=3)) == [(True, 1)]


# What replicas read


@pytest.fixture(params=[2, 3], ids=["RESP2", "RESP3"])
def speaking(request: pytest.FixtureRequest, store: Store, valkey: str) -> Iterator[Store]:
    """The same store over both of Redis's protocols: they nest a stream's entries differently."""
    client = redis.Redis.from_url(valkey, protocol=request.param)
    yield Store(client, store.keys)
    client.close()


def test_entries_hold_the_absolute_values_of_the_touched_edges(speaking: Store) -> None:
    fold(
        speaking,
        deltas([row({0: (1, 2, 3), 5: (1, 1, 1)}), row({2: (7, 0, 0)}, 5)], times=[NOW_MS, NOW_MS + 1, NOW_MS]),
    )
    fold(speaking, deltas([row({5: (10, 20, 30), 6: (0, 0, 0)})], expected=1, following=2))
    first, second = entries(speaking)
    assert [(change.name, change.slots.tolist(), change.sums.tolist()) for change in first.rows] == [
        (name(), [0, 5], [[1, 2, 3], [1, 1, 1]]),
        (name(5), [2], [[7, 0, 0]]),
    ]
    assert [(change.name, change.slots.tolist(), change.sums.tolist()) for change in second.rows] == [
        (name(), [5, 6], [[11, 21, 31], [0, 0, 0]])
    ]
    assert (first.append_ms.tolist(), first.events.tolist()) == ([NOW_MS, NOW_MS + 1], [2, 1])
    assert second.events.tolist() == []
    assert (first.sequence, second.sequence) == (1, 2)


def test_entries_are_exact_where_luas_numbers_are_not(speaking: Store) -> None:
    odd = 2**53 + 1
    speaking.client.set(speaking.keys.row(name()), struct.pack(">qqq", odd, MOST - 2, 2**62 + 1))
    fold(speaking, deltas([row({0: (2, 1, 2)})]))
    (entry,) = entries(speaking)
    assert entry.rows[0].sums.tolist() == [[odd + 2, MOST - 1, 2**62 + 3]]
    assert read(speaking, 1) == entry.rows[0].sums.tolist()


def test_an_edge_that_gained_nothing_and_was_never_touched_is_zero(store: Store) -> None:
    fold(store, deltas([row({0: (1, 0, 0), 9: (0, 0, 0)})]))
    (entry,) = entries(store)
    assert entry.rows[0].sums.tolist() == [[1, 0, 0], [0, 0, 0]]


def test_a_stream_is_followed_from_its_tail(speaking: Store) -> None:
    assert speaking.tail(SHARD) == ("0-0", 0)
    fold(speaking, deltas([row({0: (1, 1, 1)})]))
    tail = speaking.tail(SHARD)
    assert tail == (entries(speaking)[-1].id, 1)
    assert speaking.changes({SHARD: tail.id, 0: "0-0"}, 1) == {}
    fold(speaking, deltas([row({0: (1, 1, 1)})], expected=1, following=2))
    assert [entry.sequence for entry in speaking.changes({SHARD: tail.id, 0: "0-0"}, 1)[SHARD]] == [2]


def test_a_stream_keeps_counting_when_it_is_trimmed(store: Store) -> None:
    for at in range(3):
        fold(store, deltas([row({0: (1, 1, 1)})], expected=at, following=at + 1))
    store.client.xtrim(store.keys.changes(SHARD), maxlen=1, approximate=False)
    assert [entry.sequence for entry in entries(store)] == [3]
    assert store.tail(SHARD).sequence == 3


def test_a_stream_does_not_grow_without_end(store: Store) -> None:
    keys = ["om:{1}:watermarks", "om:{1}:changes", "om:{1}:totals", "om:{1}:row:a:v:0:1"]
    pipeline = store.client.pipeline(transaction=False)
    for at in range(1000):
        pipeline.fcall("om_fold", 4, *keys, FIELD, at, at + 1, 1, 0, 9, 100, b"", 1, 0, GOOD)
    pipeline.execute()
    assert store.client.xlen(store.keys.changes(SHARD)) <= 300
    assert store.tail(SHARD).sequence == 1000


def test_rows_are_answered_in_order_however_many_there_are(store: Store) -> None:
    clusters = [SHARD + store.keys.shards * n for n in range(600)]
    fold(store, deltas([row({0: (cluster, 0, 0)}, cluster) for cluster in clusters[::2]]))
    found = store.rows([name(cluster) for cluster in clusters])
    assert [int(from_row(one, 1)[0, 0]) for one in found[::2]] == clusters[::2]
    assert found[1::2] == [b""] * 300
    assert store.rows([]) == []


# What users saw and answered


def test_seen_and_answered_items_are_kept_apart(store: Store) -> None:
    fold(store, deltas(users=[saw([1, 2], NOW_MS), saw([2], NOW_MS + 1, rewarded=True)]))
    assert user_items(store) == [(1, NOW_MS), (2, NOW_MS)]
    assert user_items(store, rewarded=True) == [(2, NOW_MS + 1)]


def test_the_newest_time_of_an_item_stands(store: Store) -> None:
    for at, issued_ms in enumerate([NOW_MS, NOW_MS + 5, NOW_MS + 2]):
        fold(store, deltas(users=[saw([1], issued_ms)], expected=at, following=at + 1))
    assert user_items(store) == [(1, NOW_MS + 5)]


def test_only_the_newest_items_are_kept(store: Store) -> None:
    shown = [saw([item], NOW_MS + item) for item in (4, 1, 3, 2)]
    answered = [saw([item], NOW_MS + item, rewarded=True) for item in (4, 1, 3, 2)]
    fold(store, deltas(users=[*shown, *answered]))
    assert [item for item, _ in user_items(store)] == [2, 3, 4]
    assert [item for item, _ in user_items(store, rewarded=True)] == [3, 4]


def test_a_user_of_whom_nothing_shall_be_kept_leaves_nothing(store: Store) -> None:
    assert fold(store, deltas(users=[saw([1])]), limits=LIMITS._replace(seen_items=0)) == [(True, 1)]
    assert user_items(store) == []


def test_as_many_items_as_there_are_fit_into_one_call(store: Store) -> None:
    fold(store, deltas(users=[saw(range(200), NOW_MS + n) for n in range(40)]), limits=LIMITS._replace(seen_items=150))
    assert len(user_items(store)) == 150


def test_a_user_is_forgotten_a_while_after_the_newest_slate(store: Store) -> None:
    key = store.keys.user(USER, rewarded=False)
    for at, issued_ms in enumerate([NOW_MS, NOW_MS + 5, NOW_MS + 2]):
        fold(store, deltas(users=[saw([at], issued_ms)], expected=at, following=at + 1))
    assert store.client.pexpiretime(key) == NOW_MS + 5 + LIMITS.user_life_ms


shown_items = st.lists(
    st.tuples(st.lists(st.integers(0, 6), min_size=1, max_size=4, unique=True), st.integers(NOW_MS, NOW_MS + 5)),
    max_size=8,
)


@of_one_store
@given(shown_items, st.data())
def test_users_items_do_not_depend_on_order_or_batching(
    store: Store, shown: list[tuple[list[int], int]], data: st.DataObject
) -> None:
    found = []
    for batches in ([shown], [[one] for one in data.draw(st.permutations(shown))]):
        store.client.flushall()
        for at, batch in enumerate(batches):
            items = [saw(seen, issued_ms) for seen, issued_ms in batch]
            assert fold(store, deltas(users=items, expected=at, following=at + 1)) == [(True, at + 1)]
        found.append(user_items(store))
    assert found[0] == found[1]
    newest: dict[int, int] = {}
    for seen, issued_ms in shown:
        for item in seen:
            newest[item] = max(newest.get(item, 0), issued_ms)
    by_time = sorted((issued_ms, item.to_bytes(4, "little"), item) for item, issued_ms in newest.items())
    assert found[0] == [(item, issued_ms) for issued_ms, _, item in by_time[-LIMITS.seen_items :]]


# What must hold before the first write


def test_facts_are_frozen_by_the_first_who_prepares(store: Store) -> None:
    other = Store(store.client, Keys("other", 4))
    other.prepare({"shards": 4, "partitions": 8})
    other.prepare({"shards": 4, "partitions": 8})
    with pytest.raises(StoreError, match="other:frozen: partitions is 8 there, 16 in the settings; set them back"):
        other.prepare({"shards": 4, "partitions": 16})
    with pytest.raises(StoreError, match="shards is 4 there, 2 in the settings, partitions is 8"):
        other.prepare({"shards": 2, "partitions": 1})
    with pytest.raises(StoreError, match="window_records is None there, 5 in"):
        other.prepare({"shards": 4, "partitions": 8, "window_records": 5})
    other.prepare({"shards": 4, "partitions": 8})
    Store(store.client, Keys("third", 2)).prepare({"shards": 2})


def test_a_partition_may_begin_at_the_logs_start_once(store: Store) -> None:
    epoch = b"e" * 16
    store.begin(epoch, 5, 100)
    assert store.watermarks(epoch, [5, 6]) == {5: [100] * 4, 6: [0] * 4}
    fold(store, deltas(expected=100, following=103))
    store.begin(epoch, 5, 200)
    assert store.watermarks(epoch, [5]) == {5: [100, 103, 100, 100]}


def test_a_redis_that_would_forget_is_refused(store: Store) -> None:
    store.client.config_set("maxmemory-policy", "allkeys-lru")
    with pytest.raises(StoreError, match="maxmemory-policy allkeys-lru: it would forget; set it to noeviction"):
        store.prepare({"shards": 4})
    store.client.config_set("maxmemory-policy", "noeviction")
    store.prepare({"shards": 4})


def test_a_redis_that_forbids_config_is_believed(store: Store, valkey: str) -> None:
    store.client.acl_setuser("guest", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-config"])
    with redis.Redis.from_url(valkey, username="guest", password="any") as guest:
        Store(guest, Keys("guest", 4)).prepare({"shards": 4})
    store.client.acl_deluser("guest")


def test_a_redis_that_lost_the_library_gets_it_again(store: Store) -> None:
    store.client.function_flush()
    answers = fold(store, deltas([row({0: (1, 1, 1)})], following=3), deltas(shard=2, following=3))
    assert answers == [(True, 3), (True, 3)]
    assert read(store, 1) == [[1, 1, 1]]


def test_another_version_of_the_library_is_replaced(store: Store) -> None:
    store.client.function_load(
        "#!lua name=om\nredis.register_function('om_fold', function() return {1, 99} end)", replace=True
    )
    store.prepare({"shards": 4})
    assert fold(store, deltas(following=3)) == [(True, 3)]


def test_a_redis_that_is_not_there_is_told_of_at_once(tmp_path: Path) -> None:
    with connect(f"unix://{tmp_path}/nobody.sock") as client, pytest.raises(redis.ConnectionError):
        Store(client, Keys("om", 4)).prepare({})
