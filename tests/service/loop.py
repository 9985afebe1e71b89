"""The loop in one process: the API over a real Valkey and the SQLite log, and a fold that runs when a test says so."""

from typing import Any, Self
from urllib.parse import quote

import httpx2
import numpy as np
from numpy.typing import NDArray
from starlette.testclient import TestClient

from bandit import bundle, statistics
from bandit.bundle import Bundle
from service.app import create_app
from service.feedback_log import open_log
from service.feedback_log.base import FeedbackLog
from service.fold.process import FoldProcess
from service.replica import Replica, ReplicaState
from service.serving import Serving
from service.settings import Settings
from service.store.keys import Keys, RowName
from service.store.redis import Store, connect
from tests.service.servers import until


class Loop:
    """A client of the API; `fold` lets everything that was appended be learned."""

    def __init__(self, settings: Settings, redis_url: str, served: Bundle | None) -> None:
        """Publish `served`, if any, and make the API; entering starts it."""
        self.settings = settings
        self._served = served
        self._store = Store(connect(redis_url), Keys(settings.key_prefix, settings.shards))
        self.client = TestClient(create_app(settings, redis_url), raise_server_exceptions=False)
        if served is not None:
            bundle.write(served, settings.bundles)

    def __enter__(self) -> Self:
        self.client.__enter__()
        return self

    def __exit__(self, *failure: Any) -> None:
        self.client.__exit__(*failure)
        self._store.close()

    @property
    def serving(self) -> Serving:
        serving: Serving = self.client.app.state.serving  # type: ignore[attr-defined]
        return serving

    @property
    def bundle(self) -> Bundle:
        """What is served, or will be."""
        if self.serving.recommender is not None:
            return self.serving.recommender.bundle
        assert self._served is not None
        return self._served

    @property
    def replica(self) -> Replica:
        assert self.serving.recommender is not None
        return self.serving.recommender.replica

    def ask(self, **asked: Any) -> httpx2.Response:
        """Whatever the API answers to a request for a slate."""
        return self.client.post("/v1/recommendations", json=asked)

    def recommend(self, **asked: Any) -> dict[str, Any]:
        """A slate that must be served."""
        answer = self.ask(**asked)
        assert answer.status_code == 200, answer.text
        slate: dict[str, Any] = answer.json()
        return slate

    def send(self, *events: Any) -> list[str]:
        """Send events and answer their verdicts."""
        return [told["verdict"] for told in self.client.post("/v1/events", json=list(events)).json()["events"]]

    def item(self, item_id: str, **query: str) -> dict[str, Any]:
        """An item that must be there."""
        # The test client decodes a path twice; a real server does it once (see test_service.py).
        answer = self.client.get(f"/v1/items/{quote(quote(item_id, safe=''))}", params=query)
        assert answer.status_code == 200, answer.text
        item: dict[str, Any] = answer.json()
        return item

    def fold(self) -> None:
        """Fold all that was appended, and wait until the API has learned it."""
        self._store.prepare(self.settings.frozen_facts)
        log = open_log(self.settings)
        process = FoldProcess(self.settings, log, self._store)
        while self._behind(log):
            process.step()
        process.close()
        log.close()
        until(self.is_level)

    def is_level(self) -> bool:
        """Whether the replica holds what Redis holds, of the bundle and of its ancestors."""
        if self.replica.state is not ReplicaState.FOLLOWING:
            return False
        learned, keys = self.replica.learned, self._store.keys
        for shard in range(keys.shards):
            names = learned.names(keys, shard)
            for name, row in zip(names, self._store.rows(names), strict=True):
                if learned.row(name) != row.ljust(len(learned.row(name)), b"\0"):
                    return False
        return True

    def rows(self, namespace: str) -> NDArray[np.int64]:
        """What Redis holds of every edge of the bundle."""
        return redis_rows(self._store, self.bundle, namespace)

    def _behind(self, log: FeedbackLog) -> bool:
        watermarks = self._store.watermarks(log.epoch(), range(log.partitions))
        return any(min(found) < log.bounds(partition)[1] for partition, found in watermarks.items())


def redis_rows(store: Store, served: Bundle, namespace: str) -> NDArray[np.int64]:
    """Every edge's sums as Redis holds them: int64[E, 3]."""
    graph, version = served.graph, served.manifest.version
    sums = statistics.zeros(graph.num_edges)
    for cluster in range(graph.num_clusters):
        edges = graph.row(cluster)
        (row,) = store.rows([RowName(namespace, version, cluster)])
        sums[edges] = statistics.from_row(row, edges.stop - edges.start)
    return sums
