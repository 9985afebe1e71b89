"""Faults: what the scheduler does to a deployment of Kafka, Redis, folds and an API."""

import random
import time
from collections import Counter
from collections.abc import Sequence
from threading import Timer

from tests.chaos import world as worlds
from tests.chaos.deployment import SESSION_S, Deployment
from tests.chaos.plan import Round
from tests.chaos.processes import Part, busiest
from tests.chaos.redis_server import is_up
from tests.chaos.rollback import rolled_back
from tests.service.servers import until

# How often, and what dies together.
PLAN: Sequence[tuple[int, Round]] = (
    (3, {"fold": 2, "broker": 1}),
    (3, {"fold": 3, "redis": 1}),
    (3, {"zombie": 2, "redis": 1}),
    (3, {"fold": 2}),
    (2, {"rebalance": 1}),
    (1, {"activate": 1}),
)
CLUSTER_PLAN: Sequence[tuple[int, Round]] = (
    (1, {"fold": 2, "broker": 1}),
    (3, {"fold": 2, "redis": 1}),
    (2, {"zombie": 2, "redis": 1}),
    (1, {"rebalance": 1}),
    (1, {"activate": 1}),
)
ASLEEP_S = SESSION_S + 5.0


class DeploymentFaults:
    """Kills, pauses and moves processes; see `system.Faults`."""

    def __init__(self, deployment: Deployment, seed: int) -> None:
        self.kills: Counter[str] = Counter()
        self.killed_at: list[tuple[str, float]] = []
        self.rolled_back = 0
        self.version = worlds.FIRST
        self._deployment = deployment
        self._chance = random.Random(seed)
        self._wakers: list[Timer] = []
        self._store = deployment.store()

    def happen(self, kind: str, many: int) -> None:
        """One round of the plan."""
        getattr(self, f"_{kind}")(many)

    def calm(self) -> None:
        """Wake who sleeps, and let everybody run. Redis may have forgotten what is active: say it again."""
        for waker in self._wakers:
            waker.join()
        for fold in self._deployment.folds:
            if not fold.running:
                fold.start()
        self._deployment.activate(self.version)

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

    def _fold(self, many: int) -> None:
        for fold in self._chance.sample(self._deployment.folds, many):
            self._note("fold")
            fold.kill()
        for fold in self._deployment.folds:
            if not fold.running:
                fold.start()

    def _zombie(self, many: int) -> None:
        """Pause those that are at work, so that they hold something when they wake in a group that is another."""
        for _ in range(many):
            if len(awake := self._awake()) > 1:
                fold = busiest(awake)
                fold.pause()
                self._note("zombie")
                waker = Timer(ASLEEP_S, fold.resume)
                waker.daemon = True
                waker.start()
                self._wakers.append(waker)

    def _rebalance(self, many: int) -> None:
        """One leaves in order; another comes."""
        for fold in self._chance.sample(self._awake(), many):
            fold.stop()
            time.sleep(1.0)  # the group goes on without it for a while
            fold.start()

    def _broker(self, many: int) -> None:
        self._note("broker")
        self._deployment.kafka.kill()
        self._deployment.kafka.start()

    def _activate(self, many: int) -> None:
        self._deployment.activate(worlds.SECOND)
        self.version = worlds.SECOND

    def _redis(self, many: int) -> None:
        """Kill a server, cut its file, see in a copy how far it went back, start it again."""
        number = self._chance.randrange(len(self._deployment.nodes))
        node, file = self._deployment.nodes[number], self._deployment.files[number]
        self._note("redis")
        copy = node.folder.parent / f"copy-{self.kills['redis']}"
        partitions = self._deployment.settings.partitions
        self.rolled_back += rolled_back(self._store, self._deployment.epoch, partitions, node.kill, file, copy)
        node.start()
        until(lambda: is_up(node))
