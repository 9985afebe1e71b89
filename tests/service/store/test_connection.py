import asyncio
from pathlib import Path

import pytest
import redis

from service.embedded import valkey as embedded_valkey
from service.store.connection import AsyncConnection, Cluster, Connection, StoreError, each_host
from tests.redis_cluster import RedisCluster
from tests.service.servers import PrivateValkey


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("redis://a", ["redis://a"]),
        ("unix:///var/a,b.sock?db=1", ["unix:///var/a,b.sock?db=1"]),
        (
            "rediss://user:p%40,ss@a:1,b:2/0?ssl_ca_certs=x",
            ["rediss://user:p%40,ss@a:1/0?ssl_ca_certs=x", "rediss://user:p%40,ss@b:2/0?ssl_ca_certs=x"],
        ),
        ("redis://a,b,c:3", ["redis://a", "redis://b", "redis://c:3"]),
    ],
)
def test_several_hosts_share_what_else_a_url_says(url: str, hosts: list[str]) -> None:
    assert each_host(url) == hosts


def asked(url: str) -> list[object]:
    """What coroutines find under the keys of eight shards."""

    async def found() -> list[object]:
        connection = AsyncConnection(url)
        try:
            return [await connection.ask("GET", f"{{{shard}}}:name") for shard in range(8)]
        finally:
            await connection.close()

    return asyncio.run(found())


def name_shards(client: redis.Redis) -> list[object]:
    """Put what `asked` should find."""
    names = [f"shard {shard}".encode() for shard in range(8)]
    for shard, name in enumerate(names):
        client.set(f"{{{shard}}}:name", name)
    return list(names)


@pytest.mark.parametrize("protocol", [2, 3])
def test_one_server_is_found(single_valkey: str, protocol: int) -> None:
    connection = Connection(f"{single_valkey}?protocol={protocol}")
    assert type(connection.client) is redis.Redis
    assert connection.client is connection.client
    assert name_shards(connection.client) == asked(f"{single_valkey}?protocol={protocol}")
    connection.close()


@pytest.mark.cluster
@pytest.mark.parametrize("protocol", [2, 3])
def test_a_cluster_is_found_from_any_of_its_nodes(redis_cluster: RedisCluster, protocol: int) -> None:
    for node in redis_cluster.nodes:
        url = f"{node.url}?protocol={protocol}"
        connection = Connection(url)
        assert isinstance(connection.client, Cluster)
        assert len(connection.client.get_primaries()) == 3
        assert name_shards(connection.client) == asked(url)
        connection.close()


@pytest.mark.cluster
def test_a_cluster_is_found_while_the_first_host_is_down(redis_cluster: RedisCluster) -> None:
    url = f"redis://127.0.0.1:1,127.0.0.1:{redis_cluster.nodes[2].port}"
    connection = Connection(url)
    assert isinstance(connection.client, Cluster)
    assert name_shards(connection.client) == asked(url)
    connection.close()


@pytest.mark.cluster
def test_coroutines_follow_a_key_that_moves(redis_cluster: RedisCluster) -> None:
    connection = Connection(redis_cluster.url)
    names = name_shards(connection.client)

    async def found() -> list[object]:
        slow = AsyncConnection(redis_cluster.url)
        seen = [await slow.ask("GET", "{3}:name")]
        home = redis_cluster.holder("{3}:name")
        for target in ((home + 1) % 3, home):
            await asyncio.to_thread(redis_cluster.move, "{3}:name", target)
            seen.append(await slow.ask("GET", "{3}:name"))
        await slow.close()
        return seen

    assert asyncio.run(found()) == [names[3]] * 3
    connection.close()


def test_nothing_is_asked_before_it_is_needed_and_it_is_asked_until_somebody_answers(tmp_path: Path) -> None:
    server = PrivateValkey(tmp_path)
    connection = Connection(embedded_valkey.url(tmp_path))
    with pytest.raises(redis.ConnectionError):
        _ = connection.client
    with server:
        assert connection.client.ping()
        connection.close()


def test_nobody_there_is_told_to_coroutines_too(tmp_path: Path) -> None:
    with pytest.raises(redis.ConnectionError):
        asked(f"unix://{tmp_path}/nobody.sock")


@pytest.mark.parametrize("find", [lambda url: Connection(url).client, asked])
def test_several_hosts_that_are_no_cluster_are_refused(single_tcp: str, find: object) -> None:
    with pytest.raises(StoreError, match="several hosts, but they are not a Redis Cluster: name one"):
        find(f"redis://{single_tcp},{single_tcp}")  # type: ignore[operator]
