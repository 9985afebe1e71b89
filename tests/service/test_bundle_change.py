"""Real processes change their bundle in mid-traffic: no request fails, no event is lost, and learning carries over."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

from bandit import bundle as bundles
from bandit import statistics
from bandit.bundle import Bundle
from service.embedded import valkey
from service.feedback_log.sqlite import SqliteLog
from service.settings import development_secret
from service.store.keys import Keys
from service.store.redis import Store, connect
from tests.bundles import child_of, small_bundle
from tests.conftest import DAY_S, PARTITIONS, SHARDS
from tests.service.inheritance import expected
from tests.service.servers import LocalService, until
from tests.service.single_pass import Rules, single_pass, statistics_in, whole_log
from tests.service.traffic import Traffic, is_folded

ARMS = [{"name": "default"}, {"name": "paper", "policy": "diag_linucb", "namespace": "paper"}]
V1, V2 = "20260101T000000Z", "20260102T000000Z"
FIRST = small_bundle(version=V1)
SECOND = child_of(FIRST, version=V2)


@pytest.fixture
def service(tmp_path: Path) -> LocalService:
    service = LocalService(tmp_path, ARMS=json.dumps(ARMS), SHARDS=str(SHARDS), PARTITIONS=str(PARTITIONS))
    bundles.write(FIRST, str(service.bundles))
    return service


def test_bundles_change_in_mid_traffic(service: LocalService) -> None:
    with service:
        store = Store(connect(valkey.url(service.state)), Keys("om", SHARDS))
        log = SqliteLog(service.state / "feedback.sqlite", PARTITIONS, 7 * DAY_S)
        traffic = Traffic(str(service.client.base_url))
        late = [ask(service) for _ in range(20)]
        with traffic.running():
            traffic.wait_for_progress()
            bundles.write(SECOND, str(service.bundles))
            wait_until_served(traffic, V2)
            for slate in late[:10]:
                respond(service, slate)
            traffic.wait_for_progress()
            assert change(service, f"/{V2}:rollback")["serving"] == V1
            wait_until_served(traffic, V1)
            traffic.wait_for_progress()
            assert change(service, f"/{V2}:activate")["serving"] == V2
            wait_until_served(traffic, V2)
            for slate in late[10:]:
                respond(service, slate)
            traffic.wait_for_progress()
        until(lambda: is_folded(store, log))

        secret = development_secret(service.state).encode()
        manifests = {bundle.manifest.version: bundle.manifest for bundle in (FIRST, SECOND)}
        rules = Rules({1: secret}, secret, log.epoch(), PARTITIONS, 1 << 18, lambda version: manifests[version])
        outcome = single_pass(whole_log(log), rules)
        assert traffic.unserved == []
        assert statistics_in(store.client) == outcome.statistics
        assert store.totals() == outcome.totals
        assert outcome.totals.keys() <= {"folded", "duplicates", "implied"}
        assert {version for _, version, _, _ in outcome.statistics} == {V1, V2}
        for arm in ARMS:
            namespace = arm.get("namespace", "default")
            own, inherited = expected(outcome.statistics, namespace, SECOND, FIRST)
            assert own.any()
            assert inherited.any()
            until(lambda: np.array_equal(served(service, SECOND, namespace), own + inherited))  # noqa: B023
        assert metrics(service)["om_replica_mismatches_total"] == 0
        log.close()
        store.close()


def ask(service: LocalService) -> dict[str, Any]:
    slate: dict[str, Any] = service.client.post("/v1/recommendations", json={"user_id": "user-0", "limit": 10}).json()
    assert slate["version"] == V1
    return slate


def respond(service: LocalService, slate: dict[str, Any]) -> None:
    said = {"attribution_token": slate["attribution_token"]}
    clicks = [{"type": "reward", "item_id": item["item_id"]} | said for item in slate["items"][:2]]
    answer = service.client.post("/v1/events", json=[{"type": "impression"} | said, *clicks])
    assert answer.status_code == 202, answer.text


def change(service: LocalService, what: str) -> dict[str, Any]:
    answer = service.client.post(f"/v1/bundles{what}")
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def wait_until_served(traffic: Traffic, version: str) -> None:
    before = traffic.served.get(version, 0)
    until(lambda: traffic.served.get(version, 0) > before + 20)


def served(service: LocalService, bundle: Bundle, namespace: str) -> Any:
    """Every edge's sums, as the API tells them: int64[E, 3]."""
    sums = statistics.zeros(bundle.graph.num_edges)
    for number, item_id in enumerate(bundle.item_ids):
        answer = service.client.get(f"/v1/items/{quote(item_id, safe='')}", params={"view": "state"}).json()
        assert answer["version"] == bundle.manifest.version
        (state,) = (state for state in answer["state"] if state["namespace"] == namespace)
        told = [[edge[name] * statistics.SCALE for name in ("d", "n", "b")] for edge in state["edges"]]
        sums[bundle.graph.edges_of(number)] = told
    return sums


def metrics(service: LocalService) -> dict[str, float]:
    lines = service.client.get("/metrics").text.splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line.startswith("om_"))}
