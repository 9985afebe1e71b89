"""Faults: what the scheduler does to a deployment of Kafka, Redis, folds and an API."""

import random
import time
from collections import Counter
from threading import Timer

import numpy as np
from numpy.typing import NDArray

from service.store.keys import Keys
from service.store.redis import Store
from tests.chaos import world as worlds
from tests.chaos.deployment import SESSION_S, Deployment
from tests.chaos.processes import Part, busiest
from tests.chaos.redis_server import is_up, read_copy
from tests.service.servers import until

# kind → rounds, and how many at once in each
PLAN = {
    "fold": (9, 3),
    "redis": (6, 1),
    "broker": (3, 1),
    "zombie": (4, 2),
    "rebalance": (4, 1),
    "activate": (1, 1),
}
CLUSTER_PLAN = {
    "fold": (3, 2),
    "redis": (4, 1),
    "broker": (1, 1),
    "zombie": (2, 2),
    "rebalance": (1, 1),
    "activate": (1, 1),
}
ASLEEP_S = SESSION_S + 5.0


class Faults:
    """Does what the plan says; notes what it did and when.

    Attributes:
        kills: how many of each kind.
        killed_at: (kind, Unix time) of every kill.
        rolled_back: how far watermarks went back at Redis's restarts, in records.
    """

    def __init__(self, deployment: Deployment, seed: int) -> None:
        self.kills: Counter[str] = Counter()
        self.killed_at: list[tuple[str, float]] = []
        self.rolled_back = 0
        self.version = worlds.FIRST
        self._deployment = deployment
        self._chance = random.Random(seed)
        self._wakers: list[Timer] = []
        self._store = deployment.store()

    def happen(self, kind: str, count: int) -> None:
        """One round of the plan."""
        getattr(self, f"_{kind}")(count)

    def calm(self) -> None:
        """Wake who sleeps, and let everybody run."""
        for waker in self._wakers:
            waker.join()
        for fold in self._deployment.folds:
            if not fold.running:
                fold.start()

    def look(self) -> None:
        """Note what ended by itself, and start it again."""
        for part in self._deployment.parts:
            part.look()

    def close(self) -> None:
        for waker in self._wakers:
            waker.cancel()
        self._store.close()

    def _note(self, kind: str) -> None:
        self.kills[kind] += 1
        self.killed_at.append((kind, time.time()))

    def _awake(self) -> list[Part]:
        return [fold for fold in self._deployment.folds if fold.running and not fold.paused]

    def _fold(self, count: int) -> None:
        for fold in self._chance.sample(self._deployment.folds, count):
            self._note("fold")
            fold.kill()
        for fold in self._deployment.folds:
            if not fold.running:
                fold.start()

    def _zombie(self, count: int) -> None:
        """Pause those that are at work, so that they hold something when they wake in a group that is another."""
        for _ in range(count):
            if len(awake := self._awake()) > 1:
                fold = busiest(awake)
                fold.pause()
                self._note("zombie")
                waker = Timer(ASLEEP_S, fold.resume)
                waker.daemon = True
                waker.start()
                self._wakers.append(waker)

    def _rebalance(self, count: int) -> None:
        """One leaves in order; another comes."""
        for fold in self._chance.sample(self._awake(), count):
            fold.stop()
            time.sleep(1.0)  # the group goes on without it for a while
            fold.start()

    def _broker(self, count: int) -> None:
        self._note("broker")
        self._deployment.kafka.kill()
        self._deployment.kafka.start()

    def _activate(self, count: int) -> None:
        self._deployment.activate(worlds.SECOND)
        self.version = worlds.SECOND

    def _redis(self, count: int) -> None:
        """Kill a server, cut its file, see in a copy how far it went back, start it again."""
        number = self._chance.randrange(len(self._deployment.nodes))
        node, file = self._deployment.nodes[number], self._deployment.files[number]
        before = self._watermarks(self._store)
        self._note("redis")
        node.kill()
        file.cut()
        copy = read_copy(file, node.folder.parent / f"copy-{self.kills['redis']}")
        try:
            with copy.client() as client:
                settings = self._deployment.settings
                left = Store(client, Keys(settings.key_prefix, settings.shards))
                after = self._watermarks(left)
                here = [shard for shard in range(settings.shards) if client.exists(left.keys.watermarks(shard))]
        finally:
            copy.kill()
        self.rolled_back += int(np.maximum(before - after, 0)[:, here].max(axis=1, initial=0).sum())
        node.start()
        until(lambda: is_up(node))

    def _watermarks(self, store: Store) -> NDArray[np.int64]:
        """Every shard's watermark of every partition, int64[P, S]."""
        deployment = self._deployment
        found = store.watermarks(deployment.epoch, range(deployment.settings.partitions))
        return np.array([found[partition] for partition in range(deployment.settings.partitions)])
