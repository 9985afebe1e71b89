"""What tests share: a Valkey, a Redis Cluster, a store in either, settings that no environment reaches, a log."""

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import redis

from service.embedded import valkey as embedded_valkey
from service.feedback_log.sqlite import SqliteLog
from service.settings import Settings
from service.store.keys import Keys
from service.store.redis import Store, connect
from tests.redis_cluster import RedisCluster

# Tests never time things: a busy machine must not fail one.
hypothesis.settings.register_profile("untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("untimed")

SHARDS = 4
PARTITIONS = 4
READY_S = 20.0
DAY_S = 86_400


# redis-py's cluster client leaves a socket behind now and then when it looks for nodes anew: whichever test runs when
# that is collected would fail.
LEFT_SOCKET = "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where tests use a Redis Cluster, a socket that is left open is nobody's fault."""
    if any(item.get_closest_marker("cluster") for item in items):
        for item in items:
            item.add_marker(pytest.mark.filterwarnings(LEFT_SOCKET))


@pytest.fixture(scope="session")
def single_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real Valkey, started as the embedded service starts it."""
    folder = tmp_path_factory.mktemp("valkey")
    # Who waits until something is on disk waits for a second where it is written every second.
    command = [*embedded_valkey.command(folder), "--appendfsync", "always"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            _wait_until_ready(server, folder)
            yield embedded_valkey.url(folder)
        finally:
            server.terminate()


@pytest.fixture
def valkey(single_valkey: str) -> str:
    """The URL of the Redis that a test runs on: folders may name another."""
    return single_valkey


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    """Three masters; who kills one starts it again."""
    with RedisCluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def store(valkey: str) -> Iterator[Store]:
    """A store of four shards in an empty Valkey that has the functions; no facts are frozen yet."""
    store = Store(connect(valkey), Keys("om", SHARDS))
    store.client.flushall()
    store.client.config_set("maxmemory-policy", "noeviction")
    store.prepare({})
    store.client.delete(store.keys.frozen())
    yield store
    store.close()


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Settings]:
    """Makes settings from the defaults and what is named, whatever the environment says; folders are temporary."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)

    def make(**changes: Any) -> Settings:
        folders: dict[str, Any] = {"state_folder": tmp_path / "state", "bundles": str(tmp_path / "bundles")}
        return Settings(_env_file=None, **folders | changes)

    return make


@pytest.fixture
def sqlite_log(tmp_path: Path) -> Iterator[SqliteLog]:
    """An empty log of four partitions that keeps a week."""
    log = SqliteLog(tmp_path / "feedback.sqlite", PARTITIONS, 7 * DAY_S)
    yield log
    log.close()


def _wait_until_ready(server: "subprocess.Popen[bytes]", folder: Path) -> None:
    deadline = time.monotonic() + READY_S
    with redis.Redis.from_url(embedded_valkey.url(folder)) as client:
        while True:
            try:
                client.ping()
                return
            except redis.ConnectionError:
                if server.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((folder / "valkey.log").read_text(errors="replace")) from None
                time.sleep(0.02)
