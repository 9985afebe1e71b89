"""functions.lua in a real Valkey: what one call adds, and what it refuses."""

import hashlib
import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from bandit.statistics import EDGE_BYTES, SCALE, from_row
from service.store.keys import watermark_field
from service.store.redis import Store
from tests.service.store.calls import (
    FIELD,
    LIMITS,
    MOST,
    NOW_MS,
    SHARD,
    USER,
    blob,
    deltas,
    dump,
    entries,
    fold,
    name,
    of_one_store,
    read,
    row,
    saw,
    user_items,
)

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
    fold(store, deltas([row({0: (5, 6, 1), 1: (2**53 - 1, 0, 0)})]))
    assert read(store, 2) == [[MOST, MOST, MOST], [MOST - 1, 0, 0]]


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
@given(
    st.dictionaries(st.integers(0, 60), st.tuples(*[st.integers(0, MOST)] * 3), max_size=20),
    st.dictionaries(st.integers(0, 60), st.tuples(*[st.integers(0, 2**53 - 1)] * 3), min_size=1, max_size=20),
)
def test_sums_are_exact_however_large_and_their_neighbours_stay(
    store: Store, held: Mapping[int, tuple[int, int, int]], gains: Mapping[int, tuple[int, int, int]]
) -> None:
    store.client.flushall()
    before = [held.get(slot, (0, 0, 0)) for slot in range(max(held, default=-1) + 1)]
    store.client.set(store.keys.row(name()), b"".join(struct.pack(">qqq", *sums) for sums in before))
    assert fold(store, deltas([row(gains)])) == [(True, 1)]
    expected = {
        slot: [min(MOST, a + b) for a, b in zip(held.get(slot, (0, 0, 0)), gains.get(slot, (0, 0, 0)), strict=True)]
        for slot in range(61)
    }
    assert read(store, 61) == list(expected.values())
    ((change,),) = [entry.rows for entry in entries(store)]
    assert dict(zip(change.slots.tolist(), change.sums.tolist(), strict=True)) == {
        slot: expected[slot] for slot in gains
    }


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


def slate(issued_ms: int, *items: int) -> bytes:
    return struct.pack(">QH", issued_ms, len(items)) + struct.pack(f"<{len(items)}I", *items)


def slates_blob(*of_users: Sequence[bytes]) -> bytes:
    return b"".join(struct.pack(">I", len(found)) + b"".join(found) for found in of_users)


def size_blob(*edges: int) -> bytes:
    return struct.pack(f">{len(edges)}I", *edges)


class Call(NamedTuple):
    """The function's arguments, one by one, so that each can be spoilt."""

    expected: Any = 0
    following: Any = 1
    rows: Any = 2
    seen: Any = 1
    answered: Any = 1
    cap: Any = 4
    stream: Any = 100
    life: Any = 1000
    most_seen: Any = 5
    most_answered: Any = 5
    times: bytes = struct.pack(">qI", NOW_MS, 1)
    sizes: bytes = size_blob(2, 1)
    deltas: bytes = blob((0, 1, 1, 1), (3, 1, 0, 0), (1, 1, 1, 1))
    slates: bytes = slates_blob([slate(NOW_MS, 1, 2), slate(NOW_MS, 3)], [slate(NOW_MS, 1)])
    counts: Sequence[Any] = ("folded", 2)
    row_keys: Sequence[str] = ("om:{1}:row:a:v:0:1", "om:{1}:row:a:v:0:5")
    more_keys: Sequence[str] = ("om:{1}:user:00:seen", "om:{1}:user:00:recent")
    more: Sequence[Any] = ()

    def to(self, store: Store) -> list[int]:
        keys = ["om:{1}:watermarks", "om:{1}:changes", "om:{1}:totals", *self.row_keys, *self.more_keys]
        arguments = [FIELD, *self[:14], *self.counts, *self.more]
        return cast(list[int], store.client.fcall("om_fold", len(keys), *keys, *arguments))


def test_the_call_that_is_spoilt_below_is_a_good_one(store: Store) -> None:
    before = dump(store)
    assert Call().to(store) == [1, 1]
    assert len(dump(store)) == len(before) + 7


def spoilt(argument: str, value: Any) -> Call:
    return Call(**{argument: value})


def with_edge(*edges: tuple[int, int, int, int]) -> Call:
    """Its second row is spoilt."""
    return Call(sizes=size_blob(2, len(edges)), deltas=Call().deltas[:56] + blob(*edges))


def with_slates(blob: bytes) -> Call:
    return Call(slates=blob)


GOOD = Call().slates
NUMBERS = ["", "x", "1.5", "-1", "nan", "inf", "9007199254740994", "1e300"]
WHOLE = ("expected", "following", "cap", "stream", "life", "most_seen", "most_answered")


@pytest.mark.parametrize(
    "call",
    [
        *(spoilt(argument, bad) for argument in WHOLE for bad in NUMBERS),
        *(spoilt(argument, bad) for argument in ("rows", "seen", "answered") for bad in [*NUMBERS, "0", "3"]),
        *(Call(counts=("folded", bad)) for bad in NUMBERS),
        Call(following=2, expected=3),
        Call(cap=2),
        Call(cap=0),
        Call(times=b"torn"),
        Call(more=("one more",)),
        Call(counts=("folded",)),
        Call(more_keys=()),
        Call(more_keys=(*Call().more_keys, "om:{1}:user:01:seen")),
        Call(row_keys=("om:{1}:row:a:v:0:1", "om:{1}:totals")),
        Call(row_keys=("om:{1}:row:a:v:0:1", "om:{1}:row:")),
        Call(sizes=size_blob(2)),
        Call(sizes=size_blob(2, 1)[:-1]),
        Call(sizes=size_blob(2, 1, 0)),
        Call(sizes=size_blob(3, 0)),
        Call(sizes=size_blob(2, 2)),
        Call(sizes=size_blob(1, 1)),
        Call(sizes=size_blob(2, 2**32 - 1)),
        Call(deltas=Call().deltas[:-1]),
        Call(deltas=Call().deltas[:-28]),
        Call(deltas=Call().deltas + b"\0"),
        with_edge((1, -1, 0, 0)),
        with_edge((1, 0, -1, 0)),
        with_edge((1, 0, 0, -1)),
        with_edge((1, 0, 0, -(2**63))),
        with_edge((1, 0, 0, 2**53)),
        with_edge((1, 0, 0, 2**53 + 1)),
        with_edge((1, MOST, 0, 0)),
        with_edge((2, 1, 1, 1), (1, 1, 1, 1)),
        with_edge((2, 1, 1, 1), (2, 1, 1, 1)),
        with_edge((2**24, 1, 1, 1)),
        with_edge((2**32 - 1, 1, 1, 1)),
        with_slates(b""),
        with_slates(GOOD[:-1]),
        with_slates(GOOD + b"\0"),
        with_slates(GOOD + slates_blob([])),
        with_slates(GOOD[:5]),
        with_slates(slates_blob([slate(NOW_MS, 1)])),
        with_slates(slates_blob([slate(NOW_MS, 1)], [slate(NOW_MS, 1), slate(2**53, 2)])),
        with_slates(slates_blob([slate(NOW_MS, 1)], [slate(2**64 - 1, 1)])),
        with_slates(struct.pack(">I", 2**32 - 1) + GOOD[4:]),
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
    with pytest.raises(redis.ResponseError, match="more edges"):
        fold(store, deltas(two), limits=LIMITS._replace(edges=2))
    assert dump(store) == before
    assert fold(store, deltas(two), limits=LIMITS._replace(edges=3)) == [(True, 1)]


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


# What rows are at one moment


def test_checksums_are_those_of_the_rows_with_the_number_of_the_last_change(store: Store) -> None:
    assert store.checksums(SHARD, []) == (0, [])
    fold(store, deltas([row({0: (1, 2, 3), 2: (4, 5, 6)}), row({1: (1, 1, 1)}, 5)]))
    fold(store, deltas([row({0: (1, 0, 0)})], expected=1, following=2))
    names = [name(), name(9), name(5)]
    found = store.checksums(SHARD, names)
    assert found is not None
    assert found.sequence == entries(store)[-1].sequence == 2
    rows = store.rows(names)
    assert rows[1] == b""
    assert found.rows == [(len(one), hashlib.sha1(one).hexdigest()) for one in rows]


def test_checksums_write_nothing_and_are_bounded(store: Store) -> None:
    fold(store, deltas([row({0: (1, 2, 3)})]))
    before = dump(store)
    assert store.checksums(SHARD, [name(cluster) for cluster in range(SHARD, 4 * 256, 4)]) is not None
    with pytest.raises(redis.ResponseError, match="OMARGS too many rows"):
        store.checksums(SHARD, [name(cluster) for cluster in range(SHARD, 4 * 257, 4)])
    assert dump(store) == before


def test_a_server_without_the_function_has_no_checksums(store: Store) -> None:
    store.client.function_flush()
    assert store.checksums(SHARD, [name()]) is None
