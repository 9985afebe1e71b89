"""Redis, as the fold and the replica use it: thin, synchronous, one method a question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any, NamedTuple, cast

import orjson
import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from service.store import changes, deltas
from service.store.changes import Change, Tail
from service.store.deltas import Limits, ShardDeltas
from service.store.keys import SEQUENCE, Keys, RowName, begin_field, watermark_field

LIBRARY = resources.files("service.store").joinpath("functions.lua").read_text()
ROWS_AT_A_TIME = 256


class StoreError(Exception):
    """Redis answers, but cannot serve us: the message says what to change."""


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


class Checksum(NamedTuple):
    """Of a row as it stands: its length in bytes, 0 for one that nobody touched, and the SHA-1 of it in hex."""

    length: int
    sha1: str


class Checksums(NamedTuple):
    """Of some rows of a shard at one moment, and the number of the shard's last change."""

    sequence: int
    rows: list[Checksum]


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
        """Let a partition that nothing was folded of begin at `offset`, and note that it did."""
        fields = watermark_field(epoch, partition), begin_field(epoch, partition)
        pipeline = self.client.pipeline(transaction=False)
        for shard in range(self.keys.shards):
            pipeline.fcall("om_begin", 1, self.keys.watermarks(shard), *fields, str(offset))
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

    def fold(self, field: str, shards: Sequence[ShardDeltas], limits: Limits) -> list[tuple[bool, int]]:
        """Add to each shard if its watermark is as expected; one answer each: whether it added, and its watermark.

        Raises:
            redis.RedisError: some shards may have added, some not; ask for their watermarks.
        """
        calls = [deltas.call(self.keys, field, delta, limits) for delta in shards]
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
        return {shards[_text(key)]: [changes.decode(entry) for entry in _entries(entries)] for key, entries in pairs}

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

    def checksums(self, shard: int, names: Sequence[RowName]) -> Checksums | None:
        """Checksums of rows of one shard, at most 256; None where the server lacks the function."""
        keys = [self.keys.watermarks(shard), *(self.keys.row(name) for name in names)]
        try:
            answer = cast(list[Any], self.client.fcall_ro("om_checksum", len(keys), *keys))
        except redis.ResponseError as error:
            if "Function not found" in str(error):
                return None  # a fold loads it
            raise
        pairs = zip(answer[1::2], answer[2::2], strict=True)
        return Checksums(int(answer[0]), [Checksum(int(length), _text(sha1)) for length, sha1 in pairs])

    def _call(self, calls: Sequence[tuple[list[str], list[Any]]]) -> list[Any]:
        pipeline = self.client.pipeline(transaction=False)
        for keys, arguments in calls:
            pipeline.fcall("om_fold", len(keys), *keys, *arguments)
        return pipeline.execute()


def _entries(entries: Any) -> list[tuple[bytes, dict[bytes, bytes]]]:
    # Under RESP3 the client nests a stream's entries once more than under RESP2.
    return entries[0] if entries and isinstance(entries[0], list) else entries


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
