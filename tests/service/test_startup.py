"""The API and the fold as real processes, started before there is anything that they could reach."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import pytest

from bandit import bundle
from loadtest.ports import free_ports
from tests.bundles import small_bundle
from tests.kafka_server import KafkaServer
from tests.redis_cluster import RedisNode
from tests.service.servers import environment, until

pytestmark = pytest.mark.kafka
WAIT_S = 60.0


class Parts:
    """`python -m service api` and `fold`, with their logs."""

    def __init__(self, folder: Path, redis_url: str, bootstrap: str) -> None:
        bundles = folder / "bundles"
        bundle.write(small_bundle(), str(bundles))
        self.port, fold_port = free_ports(2)
        self._folder = folder
        self._environment = environment(
            {
                "REDIS_URL": redis_url,
                "KAFKA_BOOTSTRAP_SERVERS": bootstrap,
                "STATE_FOLDER": str(folder / "state"),
                "BUNDLES": str(bundles),
                "PORT": str(self.port),
                "FOLD_PORT": str(fold_port),
                "WINDOW_RECORDS": "1000",
                "LOG_FORMAT": "json",
            }
        )
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.client = httpx2.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=20)

    def start(self) -> None:
        for part in ("api", "fold"):
            with (self._folder / f"{part}.log").open("wb") as log:
                command = [sys.executable, "-m", "service", part]
                self._processes[part] = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)

    def said(self, part: str) -> str:
        """A part's log; it must not have ended."""
        text = (self._folder / f"{part}.log").read_text()
        assert self._processes[part].poll() is None, text
        return text

    def ready(self) -> dict[str, Any]:
        """Readiness; {} while the API does not listen."""
        self.said("api")
        try:
            told: dict[str, Any] = self.client.get("/health/ready").json()
        except httpx2.TransportError:
            return {}
        return told

    def end(self) -> list[int]:
        """Ask both to end; their exit codes."""
        for process in self._processes.values():
            process.terminate()
        return [process.wait(WAIT_S) for process in self._processes.values()]

    def kill(self) -> None:
        self.client.close()
        for process in self._processes.values():
            process.kill()
            process.wait()


@pytest.fixture
def redis_node(tmp_path: Path) -> Iterator[RedisNode]:
    (port,) = free_ports(1)
    node = RedisNode(tmp_path / "redis", port)
    yield node
    node.kill()


@pytest.fixture
def kafka(tmp_path: Path) -> Iterator[KafkaServer]:
    KafkaServer.require()
    server = KafkaServer(tmp_path / "kafka")
    yield server
    server.stop()


@pytest.fixture
def parts(tmp_path: Path, redis_node: RedisNode, kafka: KafkaServer) -> Iterator[Parts]:
    parts = Parts(tmp_path, redis_node.url, kafka.bootstrap)
    yield parts
    parts.kill()


def test_they_wait_for_what_is_not_there_and_come_up_by_themselves(
    parts: Parts, redis_node: RedisNode, kafka: KafkaServer
) -> None:
    parts.start()
    until(lambda: parts.ready().get("status") == "unavailable", WAIT_S)
    assert parts.client.get("/health/live").status_code == 200
    until(lambda: f"{redis_node.port}. Connection refused" in parts.said("fold"), WAIT_S)
    assert "waiting for redis" in parts.said("fold")
    until(lambda: parts.ready()["dependencies"]["redis"].get("detail"), WAIT_S)
    told = parts.ready()["dependencies"]
    assert not told["redis"]["ok"]
    assert not told["feedback_log"]["ok"]
    assert kafka.bootstrap in told["feedback_log"]["detail"]
    assert parts.client.post("/v1/recommendations", json={"user_id": "user-0"}).status_code == 503

    redis_node.start()
    until(lambda: parts.ready()["dependencies"]["redis"]["ok"], WAIT_S)
    until(lambda: kafka.bootstrap in parts.said("fold"), WAIT_S)
    assert "waiting for the feedback log" in parts.said("fold")
    assert parts.ready()["status"] == "unavailable"

    kafka.start()
    until(lambda: parts.ready()["status"] == "ready", WAIT_S)
    slate = parts.client.post("/v1/recommendations", json={"user_id": "user-0", "limit": 2}).json()
    token, item_id = slate["attribution_token"], slate["items"][0]["item_id"]
    clicked = {"type": "reward", "attribution_token": token, "item_id": item_id}
    assert parts.client.post("/v1/events", json=clicked).status_code == 202

    def is_learned() -> bool:
        state = parts.client.get(f"/v1/items/{quote(item_id, safe='')}", params={"view": "state"}).json()["state"][0]
        return bool(state["rewards"] > 0)

    until(is_learned, WAIT_S)
    assert "Traceback" not in parts.said("api") + parts.said("fold")
    assert parts.end() == [-signal.SIGTERM, 0]  # uvicorn ends in order, then passes the signal on
