"""Redis, as the fold and the replica use it: thin, synchronous, one method a question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any, NamedTuple, cast

import numpy as np
import orjson
import redis
from numpy.typing import NDArray
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from bandit.statistics import FIELDS
from service.fold.deltas import Row, UserItems
from service.store.keys import SEQUENCE, Keys, RowName, watermark_field

LIBRARY = resources.files("service.store").joinpath("functions.lua").read_text()
STREAM_ENTRIES = 2000
ROWS_AT_A_TIME = 256
EDGE_DTYPE = np.dtype([("slot", ">u4"), ("sums", ">i8", (FIELDS,))])
USER_ITEM_DTYPE = np.dtype([("item", "<u4"), ("issued_ms", ">u8")])
TIME_DTYPE = np.dtype([("append_ms", ">i8"), ("events", ">u4")])


class StoreError(Exception):
    """Redis answers, but cannot serve us: the message says what to change."""


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


class RowChange(NamedTuple):
    """New absolute values of some slots of a row: slots int64[n], sums int64[n, 3]."""

    name: RowName
    slots: NDArray[np.int64]
    sums: NDArray[np.int64]


class Change(NamedTuple):
    """An entry of a change stream; `append_ms` and `events` (int64[n]): how many events were accepted when."""

    id: str
    sequence: int
    append_ms: NDArray[np.int64]
    events: NDArray[np.int64]
    rows: list[RowChange]


class Tail(NamedTuple):
    """Where a change stream ends: its last id and how many entries it ever had."""

    id: str
    sequence: int


class Limits(NamedTuple):
    """Bounds that a fold call keeps: edges it may touch, items it keeps per user, and how long (ms)."""

    edges: int
    seen_items: int
    recent_items: int
    user_life_ms: int


def connect(url: str) -> redis.Redis:
    """A client that answers bytes and retries a lost connection a few times before it raises."""
    return redis.Redis.from_url(
        url,
        retry=Retry(ExponentialBackoff(cap=0.2, base=0.01), 3),
        retry_on_error=[redis.ConnectionError, redis.TimeoutError],
        socket_connect_timeout=2,
        socket_timeout=5,
        health_check_interval=10,
    )


class Store:
    """The shards of one prefix in one Redis."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self.client = client
        self.keys = keys

    def prepare(self, frozen: Mapping[str, int]) -> None:
        """Load the function library and check what must hold before the first write.

        Raises:
            StoreError: Redis may evict keys, or was set up with other facts.
            redis.RedisError: it cannot be reached.
        """
        self.client.function_load(LIBRARY, replace=True)
        try:
            policy = cast(dict[str, str], self.client.config_get("maxmemory-policy"))
        except redis.ResponseError:
            policy = {}  # managed services forbid CONFIG
        name = next(iter(policy.values()), "noeviction")
        if _text(name) != "noeviction":
            raise StoreError(f"Redis has maxmemory-policy {_text(name)}: it would forget; set it to noeviction")
        self.freeze(frozen)

    def freeze(self, facts: Mapping[str, int]) -> None:
        """Settle facts that may not change while the statistics live, or check that they are the settled ones.

        Raises:
            StoreError: Redis was set up with others.
        """
        self.client.set(self.keys.frozen(), orjson.dumps(dict(facts)), nx=True)
        found = orjson.loads(cast(bytes, self.client.get(self.keys.frozen())))
        differing = {fact: (found.get(fact), value) for fact, value in facts.items() if found.get(fact) != value}
        if differing:
            told = ", ".join(f"{fact} is {old} there, {new} in the settings" for fact, (old, new) in differing.items())
            raise StoreError(f"{self.keys.frozen()}: {told}; set them back, or choose another KEY_PREFIX")

    def begin(self, epoch: bytes, partition: int, offset: int) -> None:
        """Let a partition that nothing was folded of begin at `offset`."""
        pipeline = self.client.pipeline(transaction=False)
        for shard in range(self.keys.shards):
            pipeline.hsetnx(self.keys.watermarks(shard), watermark_field(epoch, partition), offset)
        pipeline.execute()

    def watermarks(self, epoch: bytes, partitions: Sequence[int]) -> dict[int, list[int]]:
        """Partition → next offset not yet folded, by shard."""
        if not partitions:
            return {}
        fields = [watermark_field(epoch, partition) for partition in partitions]
        pipeline = self.client.pipeline(transaction=False)
        for shard in range(self.keys.shards):
            pipeline.hmget(self.keys.watermarks(shard), fields)
        by_shard = pipeline.execute()
        return {partition: [int(found[at] or 0) for found in by_shard] for at, partition in enumerate(partitions)}

    def fold(self, field: str, deltas: Sequence[ShardDeltas], limits: Limits) -> list[tuple[bool, int]]:
        """Add to each shard if its watermark is as expected; one answer each: whether it added, and its watermark.

        Raises:
            redis.RedisError: some shards may have added, some not; ask for their watermarks.
        """
        calls = [self._fold_arguments(field, delta, limits) for delta in deltas]
        try:
            answers = self._call(calls)
        except redis.ResponseError as error:
            if "Function not found" not in str(error):
                raise
            # A Redis that came back empty has no library either. Calls that were not found have not run.
            self.client.function_load(LIBRARY, replace=True)
            answers = self._call(calls)
        return [(bool(added), int(watermark)) for added, watermark in answers]

    def rows(self, names: Sequence[RowName]) -> list[bytes]:
        """Rows of one shard as they stand; b"" for one that nobody touched."""
        found: list[bytes] = []
        for start in range(0, len(names), ROWS_AT_A_TIME):
            keys = [self.keys.row(name) for name in names[start : start + ROWS_AT_A_TIME]]
            found.extend(row or b"" for row in cast(list[bytes | None], self.client.mget(keys)))
        return found

    def tail(self, shard: int) -> Tail:
        """Where a shard's change stream ends; read it before the rows."""
        pipeline = self.client.pipeline(transaction=True)
        pipeline.hget(self.keys.watermarks(shard), SEQUENCE)
        pipeline.xrevrange(self.keys.changes(shard), count=1)
        sequence, last = pipeline.execute()
        return Tail(_text(last[0][0]) if last else "0-0", int(sequence or 0))

    def changes(self, after: Mapping[int, str], block_ms: int) -> dict[int, list[Change]]:
        """Wait for entries after an id, by shard; {} if none came within `block_ms`."""
        shards = {self.keys.changes(shard): shard for shard in after}
        streams: dict[Any, Any] = {self.keys.changes(shard): last for shard, last in after.items()}
        answer = self.client.xread(streams, block=block_ms)
        pairs = answer.items() if isinstance(answer, dict) else (answer or [])
        return {shards[_text(key)]: [_change(entry) for entry in _entries(entries)] for key, entries in pairs}

    def totals(self) -> dict[str, int]:
        """Events by outcome, summed over the shards."""
        pipeline = self.client.pipeline(transaction=False)
        for shard in range(self.keys.shards):
            pipeline.hgetall(self.keys.totals(shard))
        totals: dict[str, int] = {}
        for found in pipeline.execute():
            for name, count in found.items():
                totals[_text(name)] = totals.get(_text(name), 0) + int(count)
        return totals

    def close(self) -> None:
        """Let the connections go."""
        self.client.close()

    def _call(self, calls: Sequence[tuple[list[str], list[Any]]]) -> list[Any]:
        pipeline = self.client.pipeline(transaction=False)
        for keys, arguments in calls:
            pipeline.fcall("om_fold", len(keys), *keys, *arguments)
        return pipeline.execute()

    def _fold_arguments(self, field: str, delta: ShardDeltas, limits: Limits) -> tuple[list[str], list[Any]]:
        keys = self.keys
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


def _change(entry: tuple[bytes, dict[bytes, bytes]]) -> Change:
    entry_id, fields = entry
    times = np.frombuffer(fields.pop(b"times"), dtype=TIME_DTYPE)
    sequence = int(fields.pop(b"sequence"))
    rows = []
    for name, blob in fields.items():
        edges = np.frombuffer(blob, dtype=EDGE_DTYPE)
        rows.append(
            RowChange(RowName.parse(_text(name)), edges["slot"].astype(np.int64), edges["sums"].astype(np.int64))
        )
    return Change(
        _text(entry_id), sequence, times["append_ms"].astype(np.int64), times["events"].astype(np.int64), rows
    )


def _entries(entries: Any) -> list[tuple[bytes, dict[bytes, bytes]]]:
    # Under RESP3 the client nests a stream's entries once more than under RESP2.
    return entries[0] if entries and isinstance(entries[0], list) else entries


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
