"""Everything over TLS, with a user and a password: one server and a cluster."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from loadtest.ports import free_ports
from service.store.connection import AsyncConnection, Connection
from service.store.keys import Keys
from service.store.redis import Store, connect
from service.store.users import Users, UsersUnavailable
from tests.certificates import Certificates
from tests.redis_cluster import RedisCluster, RedisNode, Secured
from tests.service.servers import until
from tests.service.store.calls import SHARD, USER, deltas, entries, fold, read, row, saw


@pytest.fixture(params=["server", pytest.param("cluster", marks=pytest.mark.cluster)])
def url(request: pytest.FixtureRequest, secured: Secured, tmp_path: Path) -> Iterator[str]:
    if request.param == "cluster":
        with RedisCluster(tmp_path, secured) as cluster:
            yield cluster.url
        return
    (port,) = free_ports(1)
    node = RedisNode(tmp_path / "node", port, secured)
    node.start()
    until(node.answers)
    yield node.url
    node.kill()


def ask(url: str) -> Any:
    async def asked() -> list[int]:
        users = Users(AsyncConnection(url), Keys("om", 4))
        try:
            return [int(item) for item in await users.items(USER, rewarded=False)]
        finally:
            await users.close()

    return asyncio.run(asked())


def test_the_store_works_over_tls_with_a_password(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.store.users.PATIENCE_S", 30.0)
    store = Store(connect(url), Keys("om", 4))
    store.prepare({"shards": 4})
    assert fold(store, deltas([row({0: (1, 2, 3)})], [saw([7])], following=9), deltas(shard=0)) == [
        (True, 9),
        (True, 1),
    ]
    assert read(store, 1) == [[1, 2, 3]]
    assert [entry.sequence for entry in entries(store)] == [1]
    assert store.tail(SHARD).sequence == 1
    assert store.totals() == {}
    store.close()
    assert ask(url) == [7]


def test_who_is_not_let_in_is_told(url: str, secured: Secured, tmp_path: Path) -> None:
    with pytest.raises(redis.AuthenticationError):
        _ = Connection(url.replace(":let", ":lot")).client
    others = Certificates(tmp_path / "others").authority
    stranger = url.replace(str(secured.certificates.authority), str(others))
    with pytest.raises(redis.ConnectionError, match="certificate verify failed"):
        _ = Connection(stranger).client
    with pytest.raises(UsersUnavailable):
        ask(stranger)
