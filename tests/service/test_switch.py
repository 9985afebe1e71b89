import asyncio
import gc
import shutil
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bandit import bundle as bundles
from bandit import statistics
from bandit.bundle import Bundle
from service import switch as module
from service.feedback_log import open_log
from service.replica import Replica
from service.settings import Settings
from service.store.keys import Keys
from service.store.redis import Store, connect
from tests.bundles import child_of, small_bundle
from tests.conftest import PARTITIONS
from tests.service.conftest import MakeLoop
from tests.service.inheritance import expected
from tests.service.loop import Loop
from tests.service.servers import PrivateValkey, until
from tests.service.single_pass import Edge, Rules, Sums, single_pass, statistics_in, whole_log

V1, V2, V3 = (f"2026010{day}T000000Z" for day in (1, 2, 3))
FIRST = small_bundle(version=V1)
SECOND = child_of(FIRST, version=V2)
THIRD = child_of(SECOND, 2, version=V3)


@pytest.fixture(autouse=True)
def _watchful(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WATCH_EVERY_S", 0.02)


@pytest.fixture
def valkey(either_redis: str) -> str:
    return either_redis


def publish(loop: Loop, bundle: Bundle) -> None:
    bundles.write(bundle, loop.settings.bundles)


def serves(loop: Loop, version: str) -> bool:
    return bool(loop.recommend()["version"] == version)


def post(loop: Loop, what: str) -> None:
    answer = loop.client.post(f"/v1/bundles{what}")
    assert answer.status_code == 200, answer.text


def readiness(loop: Loop) -> dict[str, Any]:
    told: dict[str, Any] = loop.client.get("/health/ready").json()
    return told


# Which bundle is served


def test_a_newer_bundle_is_taken_up_by_itself(make_loop: MakeLoop) -> None:
    loop = make_loop(FIRST)
    assert serves(loop, V1)
    publish(loop, SECOND)
    until(lambda: serves(loop, V2))
    assert readiness(loop)["dependencies"]["bundle"] == {"ok": True, "version": V2, "inherits": [V1]}
    publish(loop, small_bundle(version="20250101T000000Z"))
    post(loop, ":unpin")
    assert serves(loop, V2)


def test_every_server_follows_what_is_activated(make_loop: MakeLoop, tmp_path: Path) -> None:
    loop = make_loop(FIRST)
    publish(loop, SECOND)
    other = make_loop(None, state_folder=tmp_path / "other")
    for server in (loop, other):
        until(lambda server=server: serves(server, V2))  # type: ignore[misc]
    post(other, f"/{V1}:activate")
    assert serves(other, V1)
    until(lambda: serves(loop, V1))
    assert readiness(loop)["dependencies"]["bundle"] == {"ok": True, "version": V1, "pinned": V1}
    late = make_loop(None, state_folder=tmp_path / "late")
    assert serves(late, V1)
    post(loop, ":unpin")
    for server in (loop, other, late):
        until(lambda server=server: serves(server, V2))  # type: ignore[misc]


def test_a_broken_newer_bundle_is_passed_over(make_loop: MakeLoop) -> None:
    loop = make_loop(FIRST)
    draft = Path(f"{loop.settings.bundles}.draft")
    (Path(bundles.write(SECOND, str(draft))) / bundles.ITEMS).write_bytes(b"damaged")
    (draft / V2).rename(Path(loop.settings.bundles) / V2)
    until(lambda: V2 in loop.serving.bundles.refused)
    assert serves(loop, V1)
    assert readiness(loop)["status"] == "ready"
    publish(loop, small_bundle(version=V3))
    until(lambda: serves(loop, V3))


def test_a_pinned_bundle_that_is_gone_is_named(make_loop: MakeLoop, tmp_path: Path) -> None:
    loop = make_loop(FIRST)
    publish(loop, SECOND)
    until(lambda: serves(loop, V2))
    post(loop, f"/{V1}:activate")
    other = make_loop(None, state_folder=tmp_path / "other")
    shutil.rmtree(Path(loop.settings.bundles) / V1)
    assert serves(loop, V1)
    assert serves(other, V1)
    late = make_loop(None, state_folder=tmp_path / "late")
    assert late.ask().status_code == 503
    told = readiness(late)
    assert told["status"] == "unavailable"
    assert f"has no bundle {V1}" in told["dependencies"]["bundle"]["detail"]
    post(late, ":unpin")
    for server in (late, loop, other):
        until(lambda server=server: serves(server, V2))  # type: ignore[misc]


def test_while_redis_is_away_what_is_served_goes_on(make_loop: MakeLoop, tmp_path: Path) -> None:
    with PrivateValkey(tmp_path / "mortal") as server:
        loop = make_loop(FIRST, redis_url=server.url)
        post(loop, f"/{V1}:activate")
        until(lambda: readiness(loop)["status"] == "ready")
        server.kill()
        publish(loop, SECOND)
        until(lambda: readiness(loop)["status"] == "degraded")
        assert not readiness(loop)["dependencies"]["redis"]["ok"]
        assert serves(loop, V1)
        server.start()
        until(lambda: readiness(loop)["status"] == "ready")
        assert serves(loop, V1)
        post(loop, ":unpin")
        assert serves(loop, V2)


def test_a_bundle_that_cannot_be_brought_level_is_not_served(
    make_loop: MakeLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = make_loop(FIRST)
    until(lambda: readiness(loop)["status"] == "ready")
    with monkeypatch.context() as broken:
        broken.setattr(module, "LEVEL_WITHIN_S", 0)
        broken.setattr(Replica, "_follow", lambda self: self._pause(0.01))
        publish(loop, SECOND)
        until(lambda: readiness(loop)["status"] == "degraded")
        assert readiness(loop)["dependencies"]["bundle"]["detail"] == f"{V2} is not served: Redis is slow"
        answer = loop.client.post(f"/v1/bundles/{V2}:activate")
        assert answer.status_code == 503
        assert serves(loop, V1)
    until(lambda: serves(loop, V2))
    assert readiness(loop)["dependencies"]["bundle"]["ok"]


# How it changes


def replicas() -> int:
    return sum(thread.name == "replica" for thread in threading.enumerate())


def test_of_the_old_bundle_nothing_is_left(make_loop: MakeLoop) -> None:
    loop = make_loop(FIRST)
    recommender = loop.serving.recommender
    assert recommender is not None
    old = [weakref.ref(part) for part in (recommender, recommender.replica, recommender.bundle)]
    del recommender
    publish(loop, SECOND)
    until(lambda: serves(loop, V2) and replicas() == 1)

    def is_gone() -> bool:
        gc.collect()
        return all(part() is None for part in old)

    until(is_gone)


def test_a_request_in_flight_finishes_on_the_bundle_it_began_with(
    make_loop: MakeLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = make_loop(FIRST)
    asked, answered = threading.Event(), threading.Event()

    async def slowly(*_: Any, **__: Any) -> Any:
        asked.set()
        await asyncio.to_thread(answered.wait, 30)
        return np.zeros(0, dtype=np.uint32)

    monkeypatch.setattr(loop.serving.users, "items", slowly)
    with ThreadPoolExecutor(1) as pool:
        in_flight = pool.submit(loop.recommend, user_id="user-0", exclude_seen=True, explain=True)
        assert asked.wait(30)
        publish(loop, SECOND)
        until(lambda: serves(loop, V2) and replicas() == 1)
        answered.set()
        slate = in_flight.result(30)
    assert slate["version"] == V1
    assert loop.send({"type": "impression", "attribution_token": slate["attribution_token"]}) == ["accepted"]


def test_a_context_of_the_old_version_is_a_conflict(make_loop: MakeLoop) -> None:
    loop = make_loop(FIRST)
    context = {"version": V1, "clusters": [1], "weights": [1]}
    loop.recommend(context=context)
    publish(loop, SECOND)
    until(lambda: serves(loop, V2))
    answer = loop.ask(context=context)
    assert answer.status_code == 409
    assert answer.json()["detail"] == f"the context is of version {V1}, served is {V2}: compute it anew"


def test_the_served_version_is_a_metric(make_loop: MakeLoop) -> None:
    loop = make_loop(FIRST)

    def info() -> list[str]:
        lines = loop.client.get("/metrics").text.splitlines()
        return [line for line in lines if line.startswith("om_bundle_info{")]

    assert f'om_bundle_info{{version="{V1}"}} 1.0' in info()
    publish(loop, SECOND)
    until(lambda: serves(loop, V2))
    until(lambda: info() == [f'om_bundle_info{{version="{V2}"}} 1.0'])


# What carries over


def respond(loop: Loop, slate: dict[str, Any]) -> None:
    """The whole slate was shown, its first item was clicked."""
    said = {"attribution_token": slate["attribution_token"]}
    click = {"type": "reward", "item_id": slate["items"][0]["item_id"]} | said
    assert set(loop.send({"type": "impression"} | said, click)) == {"accepted"}


def reference(settings: Settings) -> dict[Edge, Sums]:
    """What the log comes to, by a pass of its own."""
    log = open_log(settings)
    manifests = {bundle.manifest.version: bundle.manifest for bundle in (FIRST, SECOND, THIRD)}
    rules = Rules(
        settings.verifying_keys,
        settings.pseudonym_bytes,
        log.epoch(),
        PARTITIONS,
        settings.window_records,
        lambda version: manifests[version],
    )
    outcome = single_pass(whole_log(log), rules)
    log.close()
    return outcome.statistics


def is_served(loop: Loop, bundle: Bundle, *ancestors: Bundle) -> bool:
    """Whether every item's state is what the log says of the bundle's edges and of their parents."""
    own, inherited = expected(reference(loop.settings), "default", bundle, *ancestors)
    for number, item_id in enumerate(bundle.item_ids):
        edges = bundle.graph.edges_of(number)
        (state,) = loop.item(item_id, view="state")["state"]
        served = statistics.natural(own[edges] + inherited[edges])
        told = [[edge[name] for edge in state["edges"]] for name in ("d", "n", "b")]
        if told != [part.tolist() for part in served] or state["impressions"] != served.n.sum():
            return False
        if ancestors:
            earlier = statistics.natural(inherited[edges])
            told = [[edge["inherited"][name] for edge in state["edges"]] for name in ("d", "n", "b")]
            if told != [part.tolist() for part in earlier] or state["inherited_impressions"] != earlier.n.sum():
                return False
    return True


@pytest.fixture
def learned(make_loop: MakeLoop) -> tuple[Loop, dict[str, Any]]:
    """A loop whose first bundle has learned something, and a slate of it that nobody has reported on."""
    loop = make_loop(FIRST, generations=1)
    late = loop.recommend(user_id="user-0", limit=20)
    for user in range(8):
        respond(loop, loop.recommend(user_id=FIRST.users["user_id"][user].as_py(), limit=10))
    loop.fold()
    return loop, late


def test_learning_carries_over_and_back(learned: tuple[Loop, dict[str, Any]], store: Store) -> None:
    loop, late = learned
    assert is_served(loop, FIRST)
    publish(loop, SECOND)
    until(lambda: serves(loop, V2))
    until(lambda: is_served(loop, SECOND, FIRST))
    respond(loop, late)  # counts for both
    respond(loop, loop.recommend(user_id="user-0", limit=20))
    loop.fold()
    until(lambda: is_served(loop, SECOND, FIRST))
    explained = loop.recommend(user_id="user-0", limit=20, explain=True)["items"]
    told = [item["explanation"] for item in explained if item["explanation"]]
    assert sum(one["inherited"] for one in told) > 0
    assert all(0 <= one["inherited"] <= one["impressions"] for one in told)
    assert any(one["inherited"] < one["impressions"] for one in told)

    post(loop, f"/{V2}:rollback")
    assert serves(loop, V1)
    assert is_served(loop, FIRST)
    publish(loop, THIRD)
    post(loop, ":unpin")
    assert serves(loop, V3)
    assert is_served(loop, THIRD, SECOND)
    assert statistics_in(store.client) == reference(loop.settings)


def test_learning_carries_over_several_generations(learned: tuple[Loop, dict[str, Any]], make_loop: MakeLoop) -> None:
    loop, _ = learned
    publish(loop, SECOND)
    publish(loop, THIRD)
    until(lambda: serves(loop, V3))
    assert is_served(loop, THIRD, SECOND)
    assert not loop.replica.learned.inherited["default"].any()
    deep = make_loop(None, generations=2)
    until(lambda: readiness(deep)["status"] == "ready")
    until(lambda: is_served(deep, THIRD, SECOND, FIRST))
    assert deep.replica.learned.inherited["default"].any()


def test_with_no_generations_a_bundle_begins_from_its_prior(
    learned: tuple[Loop, dict[str, Any]], make_loop: MakeLoop
) -> None:
    loop, _ = learned
    publish(loop, SECOND)
    alone = make_loop(None, generations=0)
    until(lambda: readiness(alone)["status"] == "ready")
    assert serves(alone, V2)
    assert is_served(alone, SECOND)
    assert "inherits" not in readiness(alone)["dependencies"]["bundle"]


def test_an_ancestor_that_is_gone_is_done_without_and_named(
    learned: tuple[Loop, dict[str, Any]], make_loop: MakeLoop
) -> None:
    loop, _ = learned
    shutil.rmtree(Path(loop.settings.bundles) / V1)
    publish(loop, SECOND)
    until(lambda: serves(loop, V2))
    told = readiness(loop)
    assert told["status"] == "ready"
    assert f"what {V1} learned does not count: " in told["dependencies"]["bundle"]["detail"]
    assert is_served(loop, SECOND)


def test_keys_of_the_store_are_apart_by_version(learned: tuple[Loop, dict[str, Any]], valkey: str) -> None:
    loop, late = learned
    publish(loop, SECOND)
    until(lambda: serves(loop, V2))
    respond(loop, late)
    loop.fold()
    store = Store(connect(valkey), Keys("om", loop.settings.shards))
    assert {version for _, version, _, _ in statistics_in(store.client)} == {V1}
    store.close()
