"""Kill -9 of the fold and of a Valkey that really forgets, in mid-traffic: it goes on by itself, and adds up."""

import json
import shutil
import signal
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import pytest

from bandit import bundle
from service.embedded import valkey
from service.feedback_log.sqlite import SqliteLog
from service.settings import development_secret
from service.store.keys import Keys
from service.store.redis import Store, connect
from tests.bundles import small_bundle
from tests.conftest import DAY_S, PARTITIONS, SHARDS
from tests.service.servers import LocalService, PrivateValkey, until
from tests.service.single_pass import Rules, single_pass, statistics_in, whole_log
from tests.service.traffic import Traffic, is_folded

ARMS = [{"name": "default"}, {"name": "paper", "policy": "diag_linucb", "namespace": "paper"}]
WINDOW = 1 << 18
BUNDLE = small_bundle()


@pytest.fixture
def service(tmp_path: Path) -> LocalService:
    service = LocalService(tmp_path, ARMS=json.dumps(ARMS), SHARDS=str(SHARDS), PARTITIONS=str(PARTITIONS))
    bundle.write(BUNDLE, str(service.bundles))
    return service


def test_whoever_is_killed_it_goes_on_and_adds_up(service: LocalService, tmp_path: Path) -> None:
    with service:
        store = Store(connect(valkey.url(service.state)), Keys("om", SHARDS))
        log = SqliteLog(service.state / "feedback.sqlite", PARTITIONS, 7 * DAY_S)
        traffic = Traffic(str(service.client.base_url))
        with traffic.running():
            for round_ in range(2):
                traffic.wait_for_progress()
                kill(service, "fold")
                log.append(b"nobody's", b"senseless").result(10)
                traffic.wait_for_progress()
                before = watermarks(store, log)
                remembered = kill_and_forget(service, tmp_path / f"copy {round_}", log.epoch())
                assert sum(remembered) < sum(before)
                until(service.is_ready)
        until(lambda: is_folded(store, log))

        rules = Rules(
            keys={1: development_secret(service.state).encode()},
            pseudonym_key=development_secret(service.state).encode(),
            epoch=log.epoch(),
            partitions=PARTITIONS,
            window=WINDOW,
            manifest=lambda _: BUNDLE.manifest,
        )
        outcome = single_pass(whole_log(log), rules)
        assert traffic.unserved == []
        assert traffic.resent > 0
        assert statistics_in(store.client) == outcome.statistics
        assert store.totals() == outcome.totals
        assert outcome.totals["duplicates"] > 0
        assert outcome.totals["dead_lettered"] == 2
        assert len(log.dead_letters()) == 2
        assert len(outcome.statistics) > 100
        until(lambda: served_impressions(service) == expected_impressions(outcome.statistics))
        log.close()
        store.close()


def watermarks(store: Store, log: SqliteLog) -> list[int]:
    return [offset for found in store.watermarks(log.epoch(), range(PARTITIONS)).values() for offset in found]


def kill(service: LocalService, name: str) -> None:
    """Kill a part and wait until another has taken its place."""
    part = service.parts()[name]
    part.kill()
    until(lambda: name in (now := service.parts()) and now[name].pid != part.pid)


def kill_and_forget(service: LocalService, copy: Path, epoch: bytes) -> list[int]:
    """Kill the Valkey and cut the second half of what it wrote, before it is started again.

    Answers the watermarks that are left, as another Valkey reads them from a copy.
    """
    server, supervisor = service.parts()["valkey"], service.process
    assert supervisor is not None
    supervisor.send_signal(signal.SIGSTOP)
    try:
        server.kill()
        until(lambda: server.status() == psutil.STATUS_ZOMBIE)
        for path in service.state.glob("appendonlydir/*.incr.aof"):
            with path.open("r+b") as file:
                file.truncate(path.stat().st_size // 2)
        shutil.copytree(service.state / "appendonlydir", copy / "appendonlydir")
    finally:
        supervisor.send_signal(signal.SIGCONT)
    with PrivateValkey(copy) as reader:
        store = Store(connect(reader.url), Keys("om", SHARDS))
        left = store.watermarks(epoch, range(PARTITIONS))
        store.close()
    until(lambda: "valkey" in service.parts())
    return [offset for found in left.values() for offset in found]


def served_impressions(service: LocalService) -> dict[str, float]:
    """Σ e·w by namespace, as the API tells it of every item."""
    sums = {arm.get("namespace", "default"): 0.0 for arm in ARMS}
    for item_id in BUNDLE.item_ids:
        answer = service.client.get(f"/v1/items/{quote(item_id, safe='')}", params={"view": "state"})
        for state in answer.json()["state"]:
            sums[state["namespace"]] += state["impressions"]
    return sums


def expected_impressions(statistics: Any) -> dict[str, float]:
    sums = {arm.get("namespace", "default"): 0.0 for arm in ARMS}
    for (namespace, *_), (_, n, _) in statistics.items():
        sums[namespace] += n / 2**30
    return sums
