"""Replicas under test: what they serve, the store that they follow, and whether they are level with Redis."""

from collections.abc import Mapping
from threading import Event

import numpy as np
from prometheus_client import REGISTRY

from bandit.bundle import Bundle
from service.replica import Replica, ReplicaState
from service.settings import Arm
from service.store.changes import Change
from service.store.keys import Keys
from service.store.redis import Store, connect
from tests.conftest import SHARDS
from tests.service.loop import redis_rows

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


def is_level(replica: Replica, store: Store, bundle: Bundle) -> bool:
    """Whether the replica holds, bit for bit, what Redis holds."""
    return replica.state is ReplicaState.FOLLOWING and all(
        np.array_equal(sums, redis_rows(store, bundle, namespace)) for namespace, sums in replica.learned.own.items()
    )


def rereads() -> float:
    return REGISTRY.get_sample_value("om_replica_rereads_total") or 0
