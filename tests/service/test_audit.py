import hashlib
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import pytest
from prometheus_client import REGISTRY

from bandit.bundle import Bundle
from bandit.lineage import trace
from service import audit as module
from service.audit import Audit
from service.learned import Learned
from service.replica import Replica
from service.store.changes import RowChange
from service.store.keys import Keys, RowName
from service.store.redis import Checksum, Checksums, Store
from tests.bundles import child_of, small_bundle
from tests.service.learner import Learner
from tests.service.replicas import FACTS, Held, is_level, rereads
from tests.service.servers import until

PARENT = small_bundle(users=5, items=20, clusters=6, width=6, version="1")
BUNDLE = child_of(PARENT, users=5, items=20, clusters=5, width=6, version="2")


class Rows:
    """A store of rows in memory, and what it was asked."""

    def __init__(self) -> None:
        self.keys = Keys("om", 2)
        self.sequence = 7
        self.rows: dict[RowName, bytes] = {}
        self.asked: list[tuple[int, list[RowName]]] = []
        self.is_old = False

    def checksums(self, shard: int, names: Sequence[RowName]) -> Checksums | None:
        self.asked.append((shard, list(names)))
        if self.is_old:
            return None
        rows = [self.rows.get(name, b"") for name in names]
        return Checksums(self.sequence, [Checksum(len(row), hashlib.sha1(row).hexdigest()) for row in rows])


@pytest.fixture
def valkey(either_redis: str) -> str:
    return either_redis


@pytest.fixture
def rows() -> Rows:
    return Rows()


@pytest.fixture
def learned() -> Learned:
    return Learned(BUNDLE, ["default"], trace(BUNDLE.lineage, [PARENT.lineage]))


@pytest.fixture
def audit(rows: Rows, learned: Learned, monkeypatch: pytest.MonkeyPatch) -> Audit:
    monkeypatch.setattr(module, "ROWS_AT_A_TIME", 2)
    return Audit(learned, cast(Store, rows))


def counted(name: str) -> float:
    return REGISTRY.get_sample_value(f"om_replica_{name}_total") or 0


def test_every_row_has_its_turn_again_and_again(audit: Audit, rows: Rows, learned: Learned) -> None:
    everything = {name for shard in (0, 1) for name in learned.names(rows.keys, shard)}
    for _ in range(3):
        rows.asked.clear()
        asked: set[RowName] = set()
        while asked != everything:
            told = audit.ask()
            assert told is not None
            assert audit.differing(*told) == []
            shard, names = rows.asked[-1]
            assert len(names) <= 2
            assert not asked & set(names)
            assert {rows.keys.shard_of_cluster(name.cluster) for name in names} == {shard}
            asked |= set(names)


def asked_about(audit: Audit, rows: Rows, name: RowName) -> tuple[int, int]:
    """Ask until a row has its turn."""
    while True:
        told = audit.ask()
        assert told is not None
        if name in rows.asked[-1][1]:
            return told
        audit.differing(*told)


@pytest.mark.parametrize("version", ["1", "2"])
def test_a_row_that_differs_is_named(audit: Audit, rows: Rows, learned: Learned, version: str) -> None:
    name = RowName("default", version, 3)
    learned.apply(RowChange(name, np.array([1]), np.array([[1, 2, 3]])))
    rows.rows[name] = learned.row(name)[:48]  # a row ends at the last edge that was touched
    checked, mismatches = counted("checked"), counted("mismatches")
    assert audit.differing(*asked_about(audit, rows, name)) == []
    assert counted("checked") > checked
    rows.rows[name] = bytes(48)
    assert audit.differing(*asked_about(audit, rows, name)) == [name]
    assert counted("mismatches") == mismatches + 1


def test_what_is_held_beyond_the_rows_end_differs(audit: Audit, rows: Rows, learned: Learned) -> None:
    name = RowName("default", "2", 0)
    learned.apply(RowChange(name, np.array([2]), np.array([[0, 1, 0]])))
    rows.rows[name] = bytes(48)
    assert audit.differing(*asked_about(audit, rows, name)) == [name]


def test_a_row_longer_than_the_bundles_differs(audit: Audit, rows: Rows, learned: Learned) -> None:
    name = RowName("default", "2", 0)
    rows.rows[name] = learned.row(name) + bytes(24)
    assert audit.differing(*asked_about(audit, rows, name)) == [name]


def test_it_compares_at_the_very_change_it_was_told_of(audit: Audit, rows: Rows) -> None:
    name = RowName("default", "2", 1)
    rows.rows[name] = b"\x01".ljust(24, b"\0")
    shard, sequence = asked_about(audit, rows, name)
    assert audit.differing(shard, sequence - 2) == []
    assert audit.differing(shard, sequence + 1) == []
    assert audit.differing(1 - shard, sequence) == []
    assert not audit.is_due()
    assert audit.differing(shard, sequence) == [name]
    assert audit.differing(shard, sequence) == []


def test_what_was_asked_is_dropped_or_given_up(audit: Audit, rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EVERY_S", 0)
    name = RowName("default", "2", 1)
    rows.rows[name] = b"\x01".ljust(24, b"\0")
    told = asked_about(audit, rows, name)
    assert not audit.is_due()
    audit.drop()
    assert audit.is_due()
    assert audit.differing(*told) == []
    asked_about(audit, rows, name)
    assert not audit.is_due()
    monkeypatch.setattr(module, "PATIENCE_S", 0)
    assert audit.is_due()


def test_a_redis_without_the_function_is_not_asked_all_the_time(audit: Audit, rows: Rows) -> None:
    rows.is_old = True
    assert audit.ask() is None
    assert not audit.is_due()
    more: Any = audit.differing(0, 7)
    assert more == []


# A replica that audits itself


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The audit asks whenever it can, about few rows at a time."""
    monkeypatch.setattr(module, "EVERY_S", 0)
    monkeypatch.setattr(module, "ROWS_AT_A_TIME", 2)


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
