"""Redis, as the fold and the replica use it: thin, synchronous, one method a question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any, NamedTuple, cast

import orjson
import redis
from redis.cluster import ClusterNode
from redis.exceptions import MovedError

from service.store import changes, deltas
from service.store.changes import Change, Tail
from service.store.connection import Cluster, Connection, StoreError, in_redis_errors
from service.store.deltas import Limits, ShardDeltas
from service.store.keys import SEQUENCE, Keys, RowName, begin_field, watermark_field
from service.store.streams import Streams

__all__ = ["Store", "StoreError", "connect"]
LIBRARY = resources.files("service.store").joinpath("functions.lua").read_text()
ROWS_AT_A_TIME = 256
ON_DISK_WITHIN_MS = 3000  # with `appendfsync everysec` it takes a second or two


def connect(url: str) -> Connection:
    """The way to the Redis or the Redis Cluster at a URL; nothing is asked of it yet."""
    return Connection(url)


class Checksum(NamedTuple):
    """Of a row as it stands: its length in bytes, 0 for one that nobody touched, and the SHA-1 of it in hex."""

    length: int
    sha1: str


class Checksums(NamedTuple):
    """Of some rows of a shard at one moment, and the number of the shard's last change."""

    sequence: int
    rows: list[Checksum]


class Store:
    """The shards of one prefix, in one Redis or spread over the masters of a cluster."""

    def __init__(self, server: Connection | redis.Redis, keys: Keys) -> None:
        self.keys = keys
        self._server = server
        self._streams: Streams | None = None

    @property
    def client(self) -> redis.Redis:
        """The client, a cluster's or a single server's: both have the same commands. Raises as Connection says."""
        return self._server.client if isinstance(self._server, Connection) else self._server

    def prepare(self, frozen: Mapping[str, int]) -> None:
        """Load the function library and check what must hold before the first write.

        Raises:
            StoreError: Redis may evict keys, or was set up with other facts.
            redis.RedisError: it cannot be reached.
        """
        for server in self._masters():
            server.function_load(LIBRARY, replace=True)
            try:
                policy = cast(dict[str, str], server.config_get("maxmemory-policy"))
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

    def begun(self, epoch: bytes, partition: int) -> int:
        """The offset at which counting a partition began; no shard began later."""
        pipeline = self.client.pipeline(transaction=False)
        for shard in range(self.keys.shards):
            pipeline.hget(self.keys.watermarks(shard), begin_field(epoch, partition))
        return max(int(found or 0) for found in pipeline.execute())

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
        calls = [(delta.shard, *deltas.call(self.keys, field, delta, limits)) for delta in shards]
        answers = self._call(calls)
        # A server that came back empty, or is new in a cluster, has no library: calls that were not found have not run.
        missed = [at for at, answer in enumerate(answers) if "Function not found" in str(answer)]
        if missed:
            for server in self._masters():
                server.function_load(LIBRARY, replace=True)
            for at, answer in zip(missed, self._call([calls[at] for at in missed]), strict=True):
                answers[at] = answer
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
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
        if not isinstance(self.client, Cluster):
            return self._read(self.client, after, block_ms)
        if self._streams is None:
            self._streams = Streams(self.keys.shards, self._read_shard)
        return self._streams.changes(after, block_ms)

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

    def write_through(self, key: str, *command: str) -> Any:
        """Run a command that writes a key, and wait until the append-only file holds it on disk.

        A server without such a file, or before Redis 7.2, answers at once.
        """
        client = self.client
        where: dict[str, Any] = {}
        if isinstance(client, Cluster):
            where["target_nodes"] = in_redis_errors(client.get_node_from_key)(key)
        pipeline: Any = client.pipeline(transaction=False)
        pipeline.execute_command(*command, **where)
        pipeline.execute_command("WAITAOF", 1, 0, ON_DISK_WITHIN_MS, **where)
        answer, _ = pipeline.execute(raise_on_error=False)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        """Let the connections go."""
        if self._streams is not None:
            self._streams.close()
        self._server.close()

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

    def _masters(self) -> Sequence[redis.Redis]:
        """The servers that hold shards, as they are now."""
        client = self.client
        if not isinstance(client, Cluster):
            return [client]
        in_redis_errors(client.nodes_manager.initialize)()
        return [client.get_redis_connection(node) for node in client.get_primaries()]

    def _call(self, calls: Sequence[tuple[int, list[str], list[Any]]]) -> list[Any]:
        """Answers of the function, or the errors in their places."""
        client = self.client
        pipeline: Any = client.pipeline(transaction=False)
        for shard, keys, arguments in calls:
            # Where a call goes is said: the client would send all of it twice to ask which of it are keys.
            where: dict[str, Any] = {"target_nodes": self._node(client, shard)} if isinstance(client, Cluster) else {}
            pipeline.execute_command("FCALL", "om_fold", len(keys), *keys, *arguments, **where)
        answers: list[Any] = pipeline.execute(raise_on_error=False)
        return answers

    def _node(self, cluster: Cluster, shard: int) -> ClusterNode:
        node: ClusterNode = in_redis_errors(cluster.get_node_from_key)(self.keys.watermarks(shard))
        return node

    def _read_shard(self, shard: int, last: str, block_ms: int) -> list[Change]:
        """What a cluster's shard tells after an id."""
        cluster = cast(Cluster, self.client)
        try:
            server = cluster.get_redis_connection(self._node(cluster, shard))
            return self._read(server, {shard: last}, block_ms).get(shard, [])
        except MovedError as moved:
            in_redis_errors(cluster.nodes_manager.move_slot)(moved)
            return []
        except (redis.ConnectionError, redis.TimeoutError):
            in_redis_errors(cluster.nodes_manager.initialize)()  # another may hold its shards now
            raise

    def _read(self, server: redis.Redis, after: Mapping[int, str], block_ms: int) -> dict[int, list[Change]]:
        shards = {self.keys.changes(shard): shard for shard in after}
        streams: dict[Any, Any] = {self.keys.changes(shard): last for shard, last in after.items()}
        answer = server.xread(streams, block=block_ms)
        pairs = answer.items() if isinstance(answer, dict) else (answer or [])
        return {shards[_text(key)]: [changes.decode(entry) for entry in _entries(entries)] for key, entries in pairs}


def _entries(entries: Any) -> list[tuple[bytes, dict[bytes, bytes]]]:
    # Under RESP3 the client nests a stream's entries once more than under RESP2.
    return entries[0] if entries and isinstance(entries[0], list) else entries


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
