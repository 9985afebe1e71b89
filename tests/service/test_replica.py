import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import REGISTRY

from bandit import statistics
from bandit.bundle import Bundle
from bandit.lineage import trace
from service.experiment import policy_of
from service.learned import Learned
from service.replica import Replica, ReplicaState
from service.store.keys import Keys
from service.store.redis import Store, connect
from tests.bundles import child_of
from tests.conftest import SHARDS
from tests.service.learner import Learner
from tests.service.loop import redis_rows
from tests.service.replicas import ARMS, FACTS, Held, is_level, rereads
from tests.service.servers import PrivateValkey, until


@pytest.fixture
def valkey(either_redis: str) -> str:
    return either_redis


def test_it_starts_from_what_redis_holds_and_follows(
    follow: Callable[..., Replica], held: Held, learner: Learner, bundle: Bundle
) -> None:
    learner.learn(3)
    replica = follow(held)
    until(lambda: is_level(replica, learner.store, bundle))
    assert replica.learned.own["default"].any()
    before = rereads()
    for _ in range(5):
        learner.learn(2)
        learner.learn(namespace="other")
        until(lambda: is_level(replica, learner.store, bundle))
    assert rereads() == before


def test_before_it_heard_of_redis_it_serves_the_prior(held: Held, learner: Learner, bundle: Bundle) -> None:
    learner.learn()
    replica = Replica(bundle, ARMS, held, FACTS)
    assert replica.state is ReplicaState.STARTING
    assert not replica.learned.own["default"].any()
    assert replica.derived.keys() == {"a", "b", "c"}
    assert replica.derived["a"].mean.all()


def test_what_is_derived_is_the_policys_of_the_sums(
    follow: Callable[..., Replica], held: Held, learner: Learner, bundle: Bundle
) -> None:
    replica = follow(held)
    until(lambda: replica.state is ReplicaState.FOLLOWING)
    untouched = replica.derived["b"]
    learner.learn()
    until(lambda: is_level(replica, learner.store, bundle))
    learned = statistics.natural(replica.learned.own["default"])
    for arm in (ARMS[0], ARMS[2]):
        expected = policy_of(arm).derive(bundle.graph, learned, bundle.prior)

        def is_derived(name: str = arm.name, optimistic: Any = expected.optimistic, mean: Any = expected.mean) -> bool:
            derived = replica.derived[name]
            return np.array_equal(derived.optimistic, optimistic) and np.array_equal(derived.mean, mean)

        until(is_derived)
    assert replica.derived["b"] is untouched


def test_rows_of_other_versions_and_namespaces_are_not_ours(
    follow: Callable[..., Replica], held: Held, learner: Learner, bundle: Bundle
) -> None:
    learner.learn(version="20250101T000000Z")
    replica = follow(held)
    until(lambda: replica.state is ReplicaState.FOLLOWING)
    learner.learn(version="20270101T000000Z")
    learner.learn(namespace="nobody's")
    learner.learn(namespace="other")
    until(lambda: is_level(replica, learner.store, bundle) and replica.learned.own["other"].any())
    assert not replica.learned.own["default"].any()
    assert replica.learned.own.keys() == {"default", "other"}


def test_a_stream_that_was_trimmed_past_us_is_read_anew(
    follow: Callable[..., Replica], held: Held, learner: Learner, bundle: Bundle
) -> None:
    replica = follow(held)
    until(lambda: is_level(replica, learner.store, bundle))
    before = rereads()
    held.open.clear()
    learner.learn(3)
    for shard in range(SHARDS):
        learner.store.client.xtrim(learner.store.keys.changes(shard), maxlen=1, approximate=False)
    held.open.set()
    until(lambda: is_level(replica, learner.store, bundle))
    assert rereads() >= before + SHARDS


def test_an_entry_that_is_missing_is_noticed(
    follow: Callable[..., Replica], held: Held, learner: Learner, bundle: Bundle
) -> None:
    replica = follow(held)
    until(lambda: is_level(replica, learner.store, bundle))
    held.open.clear()
    learner.learn(3)
    changes = learner.store.keys.changes(1)
    entries: Any = learner.store.client.xrange(changes)
    learner.store.client.xdel(changes, entries[1][0])
    held.open.set()
    until(lambda: is_level(replica, learner.store, bundle))


@pytest.mark.parametrize("again", [1, 5, 9])
def test_a_redis_that_forgot_all_is_read_anew(
    follow: Callable[..., Replica], held: Held, learner: Learner, bundle: Bundle, again: int
) -> None:
    learner.learn(5)
    replica = follow(held)
    until(lambda: is_level(replica, learner.store, bundle))
    learner.store.client.flushall()
    learner.learn(again)
    until(lambda: is_level(replica, learner.store, bundle))


@pytest.mark.parametrize("lost", [1, 4])
def test_a_redis_that_comes_back_older_is_read_anew(
    follow: Callable[..., Replica], bundle: Bundle, tmp_path: Path, lost: int
) -> None:
    with PrivateValkey(tmp_path / "mortal") as server:
        store = Store(connect(server.url), Keys("om", SHARDS))
        store.prepare(FACTS)
        learner = Learner(store, bundle)
        replica = follow(Held(server.url))
        learner.learn(3)
        until(lambda: appended_only(server.folder) > 0)
        server.kill()
        shutil.copytree(server.folder / "appendonlydir", tmp_path / "older")
        server.start()
        learner.learn(lost)
        newer = redis_rows(store, bundle, "default")
        until(lambda: is_level(replica, store, bundle))

        server.kill()
        until(lambda: replica.state is ReplicaState.DEGRADED)
        shutil.rmtree(server.folder / "appendonlydir")
        shutil.copytree(tmp_path / "older", server.folder / "appendonlydir")
        assert np.array_equal(replica.learned.own["default"], newer)  # it goes on with what it knew
        server.start()
        assert not np.array_equal(redis_rows(store, bundle, "default"), newer)
        learner.learn(4)
        until(lambda: is_level(replica, store, bundle))
        store.close()


def appended_only(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("appendonlydir/*.incr.aof"))


def test_while_redis_is_away_it_serves_what_it_knows_and_says_so(
    follow: Callable[..., Replica], bundle: Bundle, tmp_path: Path
) -> None:
    with PrivateValkey(tmp_path / "mortal") as server:
        store = Store(connect(server.url), Keys("om", SHARDS))
        store.prepare(FACTS)
        learner = Learner(store, bundle)
        learner.learn(2)
        replica = follow(Held(server.url))
        until(lambda: is_level(replica, store, bundle))
        known, derived = replica.learned.own["default"].copy(), replica.derived["a"]
        assert replica.error is None

        server.kill()
        until(lambda: replica.state is ReplicaState.DEGRADED)
        assert replica.error
        assert np.array_equal(replica.learned.own["default"], known)
        assert replica.derived["a"] is derived

        server.start()
        learner.learn()
        until(lambda: is_level(replica, store, bundle))
        assert replica.error is None
        store.close()


def test_a_redis_that_is_not_there_at_first_is_waited_for(
    follow: Callable[..., Replica], bundle: Bundle, tmp_path: Path
) -> None:
    server = PrivateValkey(tmp_path / "late")
    replica = follow(Store(connect(server.url), Keys("om", SHARDS)))
    until(lambda: replica.state is ReplicaState.DEGRADED)
    with server:
        store = Store(connect(server.url), Keys("om", SHARDS))
        store.prepare(FACTS)
        Learner(store, bundle).learn()
        until(lambda: is_level(replica, store, bundle))
        store.close()


def test_a_redis_of_other_facts_is_not_followed(follow: Callable[..., Replica], held: Held, learner: Learner) -> None:
    learner.store.freeze(FACTS)
    learner.learn()
    replica = follow(held, {"shards": SHARDS + 1})
    until(lambda: replica.state is ReplicaState.DEGRADED)
    assert replica.error is not None
    assert "shards is 4 there, 5 in the settings" in replica.error
    assert not replica.learned.own["default"].any()


def test_freshness_is_observed_once_an_event_and_shard(
    follow: Callable[..., Replica], held: Held, learner: Learner, bundle: Bundle
) -> None:
    learner.learn(2)  # before our time: nobody waits for it
    replica = follow(held)
    until(lambda: is_level(replica, learner.store, bundle))
    before = REGISTRY.get_sample_value("om_freshness_seconds_count") or 0
    learner.learn(3)
    until(lambda: (REGISTRY.get_sample_value("om_freshness_seconds_count") or 0) >= before + 3 * SHARDS)
    until(lambda: is_level(replica, learner.store, bundle))
    assert REGISTRY.get_sample_value("om_freshness_seconds_count") == before + 3 * SHARDS


def test_impressions_are_those_of_the_edges(
    follow: Callable[..., Replica], held: Held, learner: Learner, bundle: Bundle
) -> None:
    learner.learn()
    replica = follow(held)
    until(lambda: is_level(replica, learner.store, bundle))
    edges = np.array([3, 0, 7])
    expected = replica.learned.own["default"][edges, 1] / 2**30
    own, inherited = replica.impressions("default", edges)
    assert own.tolist() == expected.tolist()
    assert inherited.tolist() == [0, 0, 0]
    assert replica.age_s >= 0


def test_whatever_happens_it_goes_on(
    follow: Callable[..., Replica], held: Held, learner: Learner, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = follow(held)
    until(lambda: is_level(replica, learner.store, bundle))
    with monkeypatch.context() as broken:
        broken.setattr(Learned, "apply", lambda *_: 1 / 0)
        learner.learn()
        until(lambda: replica.state is ReplicaState.DEGRADED)
        assert replica.error is not None
        assert "ZeroDivisionError" in replica.error
    until(lambda: is_level(replica, learner.store, bundle))


# Earlier bundles


def test_learning_of_earlier_bundles_counts_and_goes_on_counting(
    follow: Callable[..., Replica], held: Held, learner: Learner, bundle: Bundle
) -> None:
    child = child_of(bundle)
    generations = trace(child.lineage, [bundle.lineage])
    heirs, parents = generations[0].heirs, bundle.graph.num_edges
    assert 0 < (heirs >= 0).sum() < parents

    def inherits() -> bool:
        inherited = statistics.zeros(child.graph.num_edges)
        inherited[heirs[heirs >= 0]] = redis_rows(learner.store, bundle, "default")[heirs >= 0]
        expected = redis_rows(learner.store, child, "default") + inherited
        derived = policy_of(ARMS[0]).derive(child.graph, statistics.natural(expected), child.prior)
        return bool(inherited.any()) and np.array_equal(replica.derived["a"].optimistic, derived.optimistic)

    learner.learn(2)
    replica = follow(held, bundle=child, generations=generations)
    until(lambda: is_level(replica, learner.store, child) and inherits())
    assert not replica.learned.own["default"].any()
    learner.learn(2)  # late tokens of the earlier version
    Learner(learner.store, child).learn(2)
    learner.learn(namespace="other")
    until(lambda: is_level(replica, learner.store, child) and inherits())
    own, inherited = replica.impressions("default", np.arange(child.graph.num_edges))
    assert own.any()
    assert np.array_equal(own + inherited, statistics.natural(replica.learned.served("default")).n)


def test_it_stops_when_told(held: Held, bundle: Bundle) -> None:
    replica = Replica(bundle, ARMS, held, FACTS)
    replica.start()
    replica.stop()
    assert not any(thread.name == "replica" for thread in threading.enumerate())
