"""The way to Redis: one server or a cluster. Which of them a URL leads to, the server itself says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast
from urllib.parse import urlsplit

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.cluster import ClusterNode, ClusterPipeline
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import MovedError, RedisClusterException
from redis.retry import Retry

Given = ParamSpec("Given")
Answer = TypeVar("Answer")
NOT_A_CLUSTER = "REDIS_URL names several hosts, but they are not a Redis Cluster: name one"
PATIENCE: dict[str, Any] = {"socket_connect_timeout": 2, "socket_timeout": 5}
# Requests wait much shorter; this bounds for how long a question that nobody waits for holds a connection.
REQUEST_PATIENCE: dict[str, Any] = {"socket_connect_timeout": 1, "socket_timeout": 1}


class StoreError(Exception):
    """Redis answers, but cannot serve us: the message says what to change."""


def each_host(url: str) -> list[str]:
    """One URL a host: `redis://user:password@a:1,b:2/0` names two nodes of one cluster."""
    parts = urlsplit(url)
    credentials, at, hosts = parts.netloc.rpartition("@")
    if "," not in hosts:
        return [url]
    return [parts._replace(netloc=credentials + at + host).geturl() for host in hosts.split(",")]


class Connection:
    """A client that answers bytes, found when it is first needed: nothing is asked of Redis before.

    With several hosts, any one that answers is enough to find the others.
    """

    def __init__(self, url: str) -> None:
        self._urls = each_host(url)
        self._client: redis.Redis | None = None

    @property
    def client(self) -> redis.Redis:
        """The client: a lost connection is tried again a few times before it raises.

        Raises:
            StoreError: several hosts that are not a cluster.
            redis.RedisError: none of the hosts can be reached.
        """
        if self._client is None:
            self._client = self._find()
        return self._client

    def close(self) -> None:
        """Let the connections go."""
        if self._client is not None:
            self._client.close()

    def _find(self) -> redis.Redis:
        failure: redis.RedisError | None = None
        for url in self._urls:
            client = redis.Redis.from_url(
                url,
                retry=_some_retries(),
                retry_on_error=[redis.ConnectionError, redis.TimeoutError],
                health_check_interval=10,
                **PATIENCE,
            )
            try:
                mode = _mode(cast(Any, client).execute_command("HELLO"))
            except redis.RedisError as error:
                client.close()
                failure = error
                continue
            if mode != "cluster" and len(self._urls) == 1:
                return client
            client.close()
            if mode != "cluster":
                raise StoreError(NOT_A_CLUSTER)
            return cast(redis.Redis, _cluster(self._urls))  # it has the same commands
        raise failure or redis.ConnectionError("no host")


class Cluster(redis.RedisCluster):
    """A cluster's client that fails as a single server's does: in RedisErrors alone."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Run a command on the server that holds its keys."""
        return in_redis_errors(super().execute_command)(*args, **options)

    def pipeline(self, transaction: Any = None, shard_hint: Any = None) -> ClusterPipeline:
        """Run many commands at once, each on the server that holds its keys."""
        pipeline: ClusterPipeline = super().pipeline(transaction, shard_hint)  # type: ignore[no-untyped-call]
        pipeline.execute = in_redis_errors(pipeline.execute)  # type: ignore[method-assign]
        return pipeline


def in_redis_errors(call: Callable[Given, Answer]) -> Callable[Given, Answer]:
    """Say of a cluster that cannot be reached, or lacks slots, what is said of a server that is away."""

    @wraps(call)
    def called(*args: Given.args, **options: Given.kwargs) -> Answer:
        try:
            return call(*args, **options)
        except RedisClusterException as error:
            raise redis.ConnectionError(str(error)) from error

    return called


class AsyncConnection:
    """The same for coroutines, which ask single questions. A server that is away does not touch what others are asked.

    redis-py's own client of a cluster closes all its connections when one of the servers fails, and leaks some.
    """

    def __init__(self, url: str) -> None:
        self._urls = each_host(url)
        self._clients: dict[str, redis.asyncio.Redis] = {}
        self._holders: list[redis.asyncio.Redis] | None = None  # by slot
        self._finding = asyncio.Lock()

    async def ask(self, command: str, key: str, *arguments: Any) -> Any:
        """Run a command on the server that holds a key.

        Raises:
            StoreError: several hosts that are not a cluster.
            redis.RedisError: nobody answers; the next question looks for the servers anew.
        """
        for moved in (False, True):
            holders = self._holders or await self._find()
            client: Any = holders[key_slot(key.encode())]
            try:
                return await client.execute_command(command, key, *arguments)
            except MovedError:
                self._holders = None
                if moved:
                    raise
            except (redis.ConnectionError, redis.TimeoutError):
                self._holders = None
                raise
        raise AssertionError

    async def close(self) -> None:
        """Let the connections go."""
        for client in self._clients.values():
            await client.aclose()

    async def _find(self) -> list[redis.asyncio.Redis]:
        async with self._finding:
            if self._holders is not None:
                return self._holders
            failure: redis.RedisError | None = None
            for url in self._urls:
                try:
                    self._holders = await self._holders_by(url)
                except redis.RedisError as error:
                    failure = error
                else:
                    return self._holders
            raise failure or redis.ConnectionError("no host")

    async def _holders_by(self, url: str) -> list[redis.asyncio.Redis]:
        """The client of every slot, as the server at `url` knows it."""
        client: Any = self._client(url)
        if _mode(await client.execute_command("HELLO")) != "cluster":
            if len(self._urls) > 1:
                raise StoreError(NOT_A_CLUSTER)
            return [client] * REDIS_CLUSTER_HASH_SLOTS
        holders = [client] * REDIS_CLUSTER_HASH_SLOTS
        for first, last, (host, port, *_), *_ in await client.execute_command("CLUSTER SLOTS"):
            holder = self._client(_at(url, host.decode(), port)) if host else client
            holders[first : last + 1] = [holder] * (last + 1 - first)
        return holders

    def _client(self, url: str) -> redis.asyncio.Redis:
        if url not in self._clients:
            # One lost connection is tried again: the server may have been restarted.
            retry = AsyncRetry(NoBackoff(), 1)
            self._clients[url] = redis.asyncio.Redis.from_url(url, retry=retry, **REQUEST_PATIENCE)
        return self._clients[url]


def _some_retries() -> Retry:
    return Retry(ExponentialBackoff(cap=0.2, base=0.01), 3)


def _mode(hello: Any) -> str:
    """`standalone`, `sentinel` or `cluster`. HELLO is free to ask even where INFO is forbidden."""
    pairs = hello.items() if isinstance(hello, dict) else zip(hello[::2], hello[1::2], strict=True)
    (mode,) = (value for name, value in pairs if name in {b"mode", "mode"})
    return mode.decode() if isinstance(mode, bytes) else str(mode)


@in_redis_errors
def _cluster(urls: list[str]) -> Cluster:
    nodes = [_node(url) for url in urls]
    return Cluster(url=urls[0], startup_nodes=nodes, retry=_some_retries(), health_check_interval=10, **PATIENCE)


def _node(url: str) -> ClusterNode:
    parts = urlsplit(url)
    return ClusterNode(parts.hostname or "localhost", parts.port or 6379)  # type: ignore[no-untyped-call]


def _at(url: str, host: str, port: int) -> str:
    """The same URL for another server."""
    parts = urlsplit(url)
    credentials, at, _ = parts.netloc.rpartition("@")
    name = f"[{host}]" if ":" in host else host
    return parts._replace(netloc=f"{credentials}{at}{name}:{port}").geturl()
