"""The store against a real Valkey: what replicas read, and what must hold before the first write."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from bandit.statistics import from_row
from service.store.keys import Keys, begin_field, watermark_field
from service.store.redis import Store, StoreError, connect
from tests.service.store.calls import (
    FIELD,
    MOST,
    NOW_MS,
    SHARD,
    blob,
    deltas,
    entries,
    fold,
    name,
    read,
    row,
)

# What replicas read


@pytest.fixture(params=[2, 3], ids=["RESP2", "RESP3"])
def speaking(request: pytest.FixtureRequest, store: Store, valkey: str) -> Iterator[Store]:
    """The same store over both of Redis's protocols: they nest a stream's entries differently."""
    spoken = Store(connect(f"{valkey}?protocol={request.param}"), store.keys)
    yield spoken
    spoken.close()


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
        numbers = [at, at + 1, 1, 0, 0, 9, 100, 1, 5, 5]
        pipeline.fcall("om_fold", 4, *keys, FIELD, *numbers, b"", struct.pack(">I", 1), blob((0, 1, 1, 1)), b"")
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


def test_where_a_partition_began_stands_beside_its_watermark(store: Store) -> None:
    epoch = b"e" * 16
    folded, begun = watermark_field(epoch, 5).encode(), begin_field(epoch, 5).encode()
    fold(store, deltas(shard=SHARD))
    store.begin(epoch, 5, 100)
    store.begin(epoch, 5, 200)
    for shard in range(4):
        found = store.client.hgetall(store.keys.watermarks(shard))
        assert found == ({folded: b"1"} if shard == SHARD else {folded: b"100", begun: b"100"})
    with pytest.raises(redis.ResponseError, match="OMARGS the offset must be a whole number"):
        store.begin(epoch, 5, -1)


def test_a_redis_that_would_forget_is_refused(store: Store) -> None:
    store.client.config_set("maxmemory-policy", "allkeys-lru")
    with pytest.raises(StoreError, match="maxmemory-policy allkeys-lru: it would forget; set it to noeviction"):
        store.prepare({"shards": 4})
    store.client.config_set("maxmemory-policy", "noeviction")
    store.prepare({"shards": 4})


def test_a_redis_that_forbids_config_is_believed(store: Store, valkey: str) -> None:
    everywhere = {"target_nodes": "primaries"} if "," in valkey else {}
    client: Any = store.client
    client.execute_command("ACL SETUSER", "guest", "on", "nopass", "~*", "+@all", "-config", **everywhere)
    guest = Store(connect(f"{valkey}?username=guest&password=any"), Keys("guest", 4))
    guest.prepare({"shards": 4})
    guest.close()
    client.execute_command("ACL DELUSER", "guest", **everywhere)


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
    with pytest.raises(redis.ConnectionError):
        Store(connect(f"unix://{tmp_path}/nobody.sock"), Keys("om", 4)).prepare({})
