"""Who learns in a fold's stead, for tests of what follows Redis."""

import time
from typing import Any

import numpy as np

from bandit.bundle import Bundle
from service.store.deltas import Limits, Row, ShardDeltas
from service.store.redis import Store
from tests.conftest import SHARDS

FIELD = "epoch:0"
LIMITS = Limits(edges=10_000, seen_items=10, recent_items=10, user_life_ms=1000)


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
