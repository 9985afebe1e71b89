"""The embedded service: its parts, and all of it as the real processes that a user starts."""

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import psutil
import pytest
import redis

from bandit import bundle
from loadtest.ports import free_ports
from service.embedded import service as embedded
from service.embedded import valkey
from service.settings import Settings, development_secret
from tests.bundles import small_bundle
from tests.service.servers import LocalService, PrivateValkey, until


def test_without_a_redis_a_valkey_is_one_of_the_parts(settings: Callable[..., Settings]) -> None:
    chosen = settings()
    assert [child.name for child in embedded.children(chosen)] == ["valkey", "fold", "api", "verify"]
    assert embedded.redis_url(chosen) == valkey.url(chosen.state_folder)


def test_with_a_redis_there_is_none(settings: Callable[..., Settings]) -> None:
    chosen = settings(redis_url="redis://elsewhere", verify_every_s=0)
    assert [child.name for child in embedded.children(chosen)] == ["fold", "api"]
    assert embedded.redis_url(chosen) == "redis://elsewhere"


def test_default_secrets_give_way_to_the_folders_own(settings: Callable[..., Settings]) -> None:
    chosen = embedded.with_secret(settings())
    secret = development_secret(chosen.state_folder)
    assert not chosen.has_default_secrets
    assert chosen.verifying_keys == {1: secret.encode()}
    assert chosen.pseudonym_bytes == secret.encode()
    assert embedded.with_secret(settings()) == chosen
    own = settings(token_keys={1: "ours"}, pseudonym_key="ours, too")
    assert embedded.with_secret(own) is own


def test_an_orphaned_valkey_is_ended(settings: Callable[..., Settings]) -> None:
    chosen = settings()
    with PrivateValkey(chosen.state_folder) as orphan:
        embedded.end_orphan(chosen)
        assert not orphan.answers()
    embedded.end_orphan(chosen)  # none is left


def test_an_orphan_that_reads_its_file_is_waited_for(settings: Callable[..., Settings]) -> None:
    chosen = settings()
    with PrivateValkey(chosen.state_folder) as orphan, redis.Redis.from_url(orphan.url) as client:
        pipeline = client.pipeline(transaction=False)
        for number in range(5000):
            pipeline.set(f"key {number}", number)
        pipeline.execute()
    slow = [*valkey.command(chosen.state_folder), "--key-load-delay", "200"]
    with subprocess.Popen(slow, stdout=subprocess.DEVNULL) as loading, redis.Redis.from_url(orphan.url) as client:
        until(lambda: is_loading(client))
        embedded.end_orphan(chosen)
        assert loading.wait(20) == 0


def is_loading(client: redis.Redis) -> bool:
    try:
        client.ping()
    except redis.exceptions.BusyLoadingError:
        return True
    except redis.ConnectionError:
        pass
    return False


def test_one_that_does_not_end_is_not_joined_by_another(
    settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = settings()
    monkeypatch.setattr(embedded, "PATIENCE_S", 0)
    with pytest.raises(embedded.AlreadyRunning, match="end it by hand"):
        embedded.end_orphan(chosen)


@pytest.fixture
def service(tmp_path: Path) -> LocalService:
    """Not started yet; a bundle is published."""
    service = LocalService(tmp_path)
    bundle.write(small_bundle(), str(service.bundles))
    return service


def learn(service: LocalService, item_id: str) -> None:
    """Let one item be shown and clicked."""
    others = [other for other in small_bundle().item_ids if other != item_id]
    asked = {"user_id": "user-0", "limit": 1, "exclude_item_ids": others}
    slate = service.client.post("/v1/recommendations", json=asked).json()
    assert [item["item_id"] for item in slate["items"]] == [item_id]
    said = {"attribution_token": slate["attribution_token"]}
    events = [{"type": "impression"} | said, {"type": "reward", "item_id": item_id} | said]
    assert service.client.post("/v1/events", json=events).status_code == 202


def state(service: LocalService, item_id: str) -> Any:
    answer = service.client.get(f"/v1/items/{quote(item_id, safe='')}", params={"view": "state"})
    assert answer.status_code == 200, answer.text
    return answer.json()["state"][0]


def test_the_whole_service_learns_ends_in_order_and_remembers(service: LocalService) -> None:
    item_id = "item?3#%2F"
    with service:
        parts = service.parts()
        assert parts.keys() == {"valkey", "fold", "api"}
        learn(service, item_id)
        until(lambda: state(service, item_id)["rewards"] > 0)
        learned = state(service, item_id)
        assert learned["impressions"] == learned["rewards"]
        until(lambda: service.fold_metrics().get('om_events_folded{outcome="folded"}') == 2)

        other = subprocess.run(service.command, env=service.environment, capture_output=True, check=False, timeout=30)
        assert other.returncode == 2
        assert b"a service is running on" in other.stderr

        assert service.stop() == 0
        assert not any(part.is_running() for part in parts.values())

        service.start()
        assert state(service, item_id) == learned
        learn(service, item_id)
        until(lambda: state(service, item_id)["rewards"] == 2 * learned["rewards"])


def test_verification_finds_nothing_wrong_in_what_it_learned(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    service = LocalService(tmp_path, VERIFY_EVERY_S="1", VERIFY_PORT=str(port))
    bundle.write(small_bundle(), str(service.bundles))

    def metrics() -> dict[str, float]:
        lines = httpx2.get(f"http://127.0.0.1:{port}/metrics").text.splitlines()
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[:1] != "#")}

    with service:
        learn(service, "item-0")
        until(lambda: "verify" in service.parts())
        until(lambda: metrics()["om_verify_edges_compared"] > 0, 60)
        assert metrics()["om_verify_edges_different"] == 0
        assert metrics()["om_verify_last_success_timestamp"] > 0
        assert service.parts()["verify"].nice() >= 10

        told = subprocess.run(
            [*service.command, "verify"],
            env=service.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert told.returncode == 0, told.stderr
        figures = json.loads(told.stdout.splitlines()[-1])
        assert figures["edges_compared"] > 0
        assert figures["edges_different"] == 0
        assert (service.state / "snapshots" / figures["snapshot"]).exists()
        assert service.stop() == 0


def test_a_supervisor_that_is_killed_leaves_nothing_that_hurts(service: LocalService) -> None:
    with service:
        learn(service, "item-0")
        until(lambda: state(service, "item-0")["rewards"] > 0)
        learned = state(service, "item-0")
        parts = service.parts()
        assert service.process is not None
        service.process.send_signal(signal.SIGKILL)
        service.process.wait()
        psutil.wait_procs([parts["fold"], parts["api"]], timeout=30)
        assert not parts["fold"].is_running()
        assert not parts["api"].is_running()

        service.start()
        assert not parts["valkey"].is_running()
        assert state(service, "item-0") == learned
