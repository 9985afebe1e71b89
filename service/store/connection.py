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
from redis.exceptions import RedisClusterException
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
    """The same for coroutines. One lost connection is tried again, since Redis may have been restarted."""

    def __init__(self, url: str, **options: Any) -> None:
        """`options` are the client's own."""
        self._urls = each_host(url)
        self._options = {"retry": AsyncRetry(NoBackoff(), 1), **REQUEST_PATIENCE, **options}
        self._client: redis.asyncio.Redis | None = None
        self._finding = asyncio.Lock()

    async def client(self) -> redis.asyncio.Redis:
        """The client. Raises StoreError and redis.RedisError; when it does, ask again later."""
        if self._client is None:
            async with self._finding:
                self._client = self._client or await self._find()
        return self._client

    async def close(self) -> None:
        """Let the connections go."""
        if self._client is not None:
            await self._client.aclose()

    async def _find(self) -> redis.asyncio.Redis:
        failure: redis.RedisError | None = None
        for url in self._urls:
            client = redis.asyncio.Redis.from_url(url, **self._options)
            try:
                mode = _mode(await cast(Any, client).execute_command("HELLO"))
            except redis.RedisError as error:
                await client.aclose()
                failure = error
                continue
            if mode != "cluster" and len(self._urls) == 1:
                return client
            await client.aclose()
            if mode != "cluster":
                raise StoreError(NOT_A_CLUSTER)
            found = redis.asyncio.RedisCluster.from_url(
                url,
                startup_nodes=[_node(redis.asyncio.cluster.ClusterNode, one) for one in self._urls],
                **self._options,
            )
            return cast(redis.asyncio.Redis, found)
        raise failure or redis.ConnectionError("no host")


def _some_retries() -> Retry:
    return Retry(ExponentialBackoff(cap=0.2, base=0.01), 3)


def _mode(hello: Any) -> str:
    """`standalone`, `sentinel` or `cluster`. HELLO is free to ask even where INFO is forbidden."""
    pairs = hello.items() if isinstance(hello, dict) else zip(hello[::2], hello[1::2], strict=True)
    (mode,) = (value for name, value in pairs if name in {b"mode", "mode"})
    return mode.decode() if isinstance(mode, bytes) else str(mode)


@in_redis_errors
def _cluster(urls: list[str]) -> Cluster:
    nodes = [_node(ClusterNode, url) for url in urls]
    return Cluster(url=urls[0], startup_nodes=nodes, retry=_some_retries(), health_check_interval=10, **PATIENCE)


def _node(kind: Any, url: str) -> Any:
    parts = urlsplit(url)
    return kind(parts.hostname or "localhost", parts.port or 6379)
