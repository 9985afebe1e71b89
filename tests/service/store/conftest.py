"""The store's tests run against one Redis and against a Redis Cluster."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import redis

from loadtest.ports import free_ports
from tests.redis_cluster import RedisNode
from tests.service.servers import until


@pytest.fixture(params=["server", pytest.param("cluster", marks=pytest.mark.cluster)])
def valkey(request: pytest.FixtureRequest) -> str:
    """The URL of either."""
    if request.param == "cluster":
        return str(request.getfixturevalue("redis_cluster").url)
    return str(request.getfixturevalue("single_valkey"))


@pytest.fixture
def single_tcp(tmp_path: Path) -> Iterator[str]:
    """Host and port of one server."""
    (port,) = free_ports(1)
    node = RedisNode(tmp_path / "single", port)
    node.start()
    until(lambda: answers(node))
    yield f"127.0.0.1:{port}"
    node.kill()


def answers(node: RedisNode) -> bool:
    with node.client() as client, suppress(redis.ConnectionError):
        return bool(client.ping())
    return False
