import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from prometheus_client import REGISTRY

from bandit import statistics
from bandit.bundle import Bundle
from bandit.lineage import Generation, trace
from service import audit
from service.experiment import policy_of
from service.learned import Learned
from service.replica import Replica, ReplicaState
from service.settings import Arm
from service.store.changes import Change
from service.store.deltas import Limits, Row, ShardDeltas
from service.store.keys import Keys, RowName
from service.store.redis import Store, connect
from tests.bundles import child_of, small_bundle
from tests.conftest import SHARDS
from tests.service.loop import redis_rows
from tests.service.servers import PrivateValkey, until

FIELD = "epoch:0"
LIMITS = Limits(edges=10_000, seen_items=10, recent_items=10, user_life_ms=1000)
FACTS = {"shards": SHARDS}
ARMS = (
    Arm(name="a"),
    Arm(name="b", policy="popular", namespace="other"),
    Arm(name="c", policy="diag_linucb"),
)


class Held(Store):
    """A store whose news can be held back, so that a replica falls behind."""

    def __init__(self, url: str) -> None:
        super().__init__(connect(url), Keys("om", SHARDS))
        self.open = Event()
        self.open.set()

    def changes(self, after: Mapping[int, str], block_ms: int) -> dict[int, list[Change]]:
        self.open.wait(60)
        return super().changes(after, block_ms)


class Learner:
    """Adds random sums as a fold would, each time to some edges of every shard."""

    def __init__(self, store: Store, bundle: Bundle) -> None:
        self.store, self.bundle = store, bundle
        self.rng = np.random.default_rng(0)

    def learn(self, times: int = 1, namespace: str = "default", version: str | None = None) -> None:
        for _ in range(times):
            self.store.fold(FIELD, [self._deltas(shard, namespace, version) for shard in range(SHARDS)], LIMITS)

    def _deltas(self, shard: int, namespace: str, version: str | None) -> ShardDeltas:
        graph, rows = self.bundle.graph, []
        for cluster in range(shard, graph.num_clusters, SHARDS):
            edges = graph.row(cluster)
            size = edges.stop - edges.start
            slots = np.sort(self.rng.choice(size, self.rng.integers(1, size), replace=False))
            sums = self.rng.integers(1, 1 << 40, size=(len(slots), 3))
            rows.append(Row(namespace, version or self.bundle.manifest.version, cluster, slots, sums))
        found: Any = self.store.client.hget(self.store.keys.watermarks(shard), FIELD)
        now_ms = np.array([time.time_ns() // 1_000_000])
        return ShardDeltas(shard, int(found or 0), int(found or 0) + 1, rows, [], now_ms, {})


@pytest.fixture
def valkey(either_redis: str) -> str:
    return either_redis


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return small_bundle()


@pytest.fixture
def held(valkey: str, store: Store) -> Held:
    return Held(valkey)


@pytest.fixture
def learner(store: Store, bundle: Bundle) -> Learner:
    return Learner(store, bundle)


@pytest.fixture
def follow(bundle: Bundle) -> Iterator[Callable[[Store], Replica]]:
    """Starts replicas."""
    started: list[Replica] = []

    def start(
        store: Store, facts: Mapping[str, int] = FACTS, bundle: Bundle = bundle, generations: Sequence[Generation] = ()
    ) -> Replica:
        started.append(Replica(bundle, ARMS, store, facts, generations))
        started[-1].start()
        return started[-1]

    yield start
    for replica in started:
        replica.stop()


def is_level(replica: Replica, store: Store, bundle: Bundle) -> bool:
    """Whether the replica holds, bit for bit, what Redis holds."""
    return replica.state is ReplicaState.FOLLOWING and all(
        np.array_equal(sums, redis_rows(store, bundle, namespace)) for namespace, sums in replica.learned.own.items()
    )


def rereads() -> float:
    return REGISTRY.get_sample_value("om_replica_rereads_total") or 0


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


# The audit


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The audit asks whenever it can, about few rows at a time."""
    monkeypatch.setattr(audit, "EVERY_S", 0)
    monkeypatch.setattr(audit, "ROWS_AT_A_TIME", 2)


def counted(name: str) -> float:
    return REGISTRY.get_sample_value(f"om_replica_{name}_total") or 0


@pytest.mark.usefixtures("hurried")
def test_while_events_pour_in_every_row_is_what_redis_holds(
    follow: Callable[..., Replica], held: Held, learner: Learner, bundle: Bundle
) -> None:
    replica = follow(held)
    until(lambda: is_level(replica, learner.store, bundle))
    checked, mismatches, before = counted("checked"), counted("mismatches"), rereads()

    def is_proved() -> bool:
        learner.learn()
        return counted("checked") > checked + 200

    until(is_proved)
    assert counted("mismatches") == mismatches
    assert rereads() == before


@pytest.mark.usefixtures("hurried")
def test_a_row_that_somebody_wrote_in_redis_is_found(
    follow: Callable[..., Replica], held: Held, learner: Learner, bundle: Bundle
) -> None:
    learner.learn(2)
    replica = follow(held)
    until(lambda: is_level(replica, learner.store, bundle))
    mismatches, before = counted("mismatches"), rereads()
    name = RowName("default", bundle.manifest.version, 5)
    learner.store.client.setrange(learner.store.keys.row(name), 3, b"\x01")
    assert not is_level(replica, learner.store, bundle)
    until(lambda: is_level(replica, learner.store, bundle))
    until(lambda: counted("mismatches") == mismatches + 1)
    assert rereads() == before + 1


@pytest.mark.usefixtures("hurried")
def test_a_sum_that_changed_in_memory_is_found_and_mended(
    follow: Callable[..., Replica], held: Held, learner: Learner, bundle: Bundle
) -> None:
    learner.learn(2)
    replica = follow(held)
    until(lambda: is_level(replica, learner.store, bundle))
    optimistic = replica.derived["a"].optimistic
    mismatches = counted("mismatches")
    replica.learned.own["default"][7, 1] += 1 << 40
    until(lambda: counted("mismatches") == mismatches + 1)
    until(lambda: is_level(replica, learner.store, bundle))
    until(lambda: np.array_equal(replica.derived["a"].optimistic, optimistic))


@pytest.mark.usefixtures("hurried")
def test_a_redis_that_went_back_and_says_nothing_is_noticed(
    follow: Callable[..., Replica], held: Held, learner: Learner, bundle: Bundle
) -> None:
    learner.learn(3)
    replica = follow(held)
    until(lambda: is_level(replica, learner.store, bundle))
    learner.store.client.flushall()
    learner.store.prepare(FACTS)
    until(lambda: is_level(replica, learner.store, bundle))
    assert not replica.learned.own["default"].any()


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
