"""The replica: a server's own copy of the statistics, kept fresh by the shards' change streams.

Entries hold absolute values, so one that is applied twice does no harm, and a shard may be read while it changes: its
stream's end is noted first, its rows are read, then the stream is followed from there. Entries are numbered; a gap, or
a number that comes again, means that the stream was trimmed past us or that Redis went back: the shard is read anew.
An audit compares rows with Redis's checksums in turn; a shard that differs is read anew as well.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from enum import StrEnum
from threading import Event, Thread

import numpy as np
import redis
import structlog
from numpy.typing import NDArray
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_when_event_set, wait_exponential

from bandit import statistics
from bandit.bundle import Bundle
from bandit.lineage import Generation
from bandit.policies.base import Derived
from bandit.statistics import Statistics
from service import metrics
from service.audit import Audit
from service.experiment import policy_of
from service.learned import Learned
from service.settings import Arm
from service.store.changes import Change, Tail
from service.store.redis import Store, StoreError

logger = structlog.get_logger(__name__)
BLOCK_MS = 200
# Deriving takes at most a fifth of a core, however large the graph is.
PAUSE_PER_DERIVE = 4
WORTH_A_PAUSE_S = 0.001


class ReplicaState(StrEnum):
    """How well the copy stands."""

    STARTING = "starting"
    FOLLOWING = "following"
    DEGRADED = "degraded"


class Replica:
    """Sums and derived scores of one bundle, for every arm.

    Attributes:
        learned: the sums, its own and inherited.
        derived: what each arm's policy makes of them, by arm.
        state, error: how well it stands, and what ails it.
        level: set once all rows have been read.
    """

    def __init__(
        self,
        bundle: Bundle,
        arms: Sequence[Arm],
        store: Store,
        frozen: Mapping[str, int],
        generations: Sequence[Generation] = (),
    ) -> None:
        """Derive from the prior alone; `start` brings the statistics.

        Args:
            bundle: what is served.
            arms: who chooses, and whose statistics are followed.
            store: the replica's own from now on.
            frozen: facts that Redis must agree on.
            generations: the bundle's ancestors whose learning counts, parent first.
        """
        self.state = ReplicaState.STARTING
        self.error: str | None = None
        self.level = Event()
        self._frozen = frozen
        self._bundle = bundle
        self._arms = tuple(arms)
        self._store = store
        self._heard = time.monotonic()
        self._tails: dict[int, Tail] = {}
        self._stopping = Event()
        self._thread = Thread(target=self._run, name="replica", daemon=True)
        self.learned = Learned(bundle, (arm.namespace for arm in arms), generations)
        self._audit = Audit(self.learned, store)
        self.derived: dict[str, Derived] = {}
        self._derive(set(self.learned.own))

    def start(self) -> None:
        """Follow Redis in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and let Redis go."""
        self._stopping.set()
        self._thread.join()
        self._store.close()

    @property
    def age_s(self) -> float:
        """Seconds since Redis last answered."""
        return time.monotonic() - self._heard

    def _run(self) -> None:
        """Follow until stopped; nothing that happens ends the thread."""
        retrying = Retrying(
            retry=retry_if_exception_type(Exception),
            wait=wait_exponential(multiplier=0.05, max=1),
            stop=stop_when_event_set(self._stopping),
            sleep=self._pause,
            before_sleep=self._lost,
            retry_error_callback=lambda _: None,
        )
        while not self._stopping.is_set():
            retrying(self._follow)

    def _lost(self, attempt: RetryCallState) -> None:
        self.state = ReplicaState.DEGRADED
        metrics.REPLICA_AGE_SECONDS.set(self.age_s)
        failure = attempt.outcome.exception() if attempt.outcome else None
        if isinstance(failure, redis.RedisError | StoreError):
            self.error = str(failure)
            logger.warning("serving what is known: redis cannot be followed", error=self.error, age_s=round(self.age_s))
        else:
            self.error = f"unexpected: {failure!r}"
            self._audit.drop()
            self._tails.clear()
            logger.error("serving what is known: reading everything anew", exc_info=failure)

    def _follow(self) -> None:
        """Read what is missing, then apply entries once; called over and over."""
        missing = [shard for shard in range(self._store.keys.shards) if shard not in self._tails]
        if missing:
            self._store.freeze(self._frozen)
            for shard in missing:
                self._read(shard)
            self._derive(set(self.learned.own))
            self._is_well()
            self.level.set()
            logger.info("shards read", shards=len(missing), version=self.learned.version)
        changes = self._store.changes({shard: tail.id for shard, tail in self._tails.items()}, BLOCK_MS)
        self._is_well()
        dirty: set[str] = set()
        applied: list[Change] = []
        for shard, entries in changes.items():
            for entry in entries:
                if entry.sequence != self._tails[shard].sequence + 1:
                    self._distrust(shard, "a change stream has a gap")
                    break
                dirty |= {row.name.namespace for row in entry.rows if self.learned.apply(row)}
                applied.append(entry)
                self._tails[shard] = Tail(entry.id, entry.sequence)
                if not self._compare(shard):
                    break
        if dirty:
            seconds = self._derive(dirty)
            self._observe(applied)
            if seconds > WORTH_A_PAUSE_S:
                self._pause(PAUSE_PER_DERIVE * seconds)
        if self._audit.is_due():
            self._ask()

    def _is_well(self) -> None:
        self._heard = time.monotonic()
        self.state, self.error = ReplicaState.FOLLOWING, None
        metrics.REPLICA_AGE_SECONDS.set(0)

    def _pause(self, seconds: float) -> None:
        self._stopping.wait(seconds)

    def _read(self, shard: int) -> None:
        """Read all rows of a shard."""
        tail = self._store.tail(shard)
        names = self.learned.names(self._store.keys, shard)
        for name, row in zip(names, self._store.rows(names), strict=True):
            self.learned.read(name, row)
        self._tails[shard] = tail

    def _ask(self) -> None:
        """Let the audit ask about its next rows; what was applied may be what it was told of already."""
        asked = self._audit.ask()
        if asked is not None and asked[0] in self._tails:
            shard, sequence = asked
            if sequence < self._tails[shard].sequence:
                self._distrust(shard, "redis went back")
            else:
                self._compare(shard)

    def _compare(self, shard: int) -> bool:
        """Whether a shard's rows are what Redis holds, as far as the audit asked for them at this very change."""
        different = self._audit.differing(shard, self._tails[shard].sequence)
        if different:
            self._distrust(shard, "rows are not what redis holds", rows=[str(name) for name in different])
        return not different

    def _distrust(self, shard: int, reason: str, **more: object) -> None:
        logger.warning("reading a shard anew", shard=shard, reason=reason, **more)
        metrics.REPLICA_REREADS.inc()
        self._audit.drop()
        del self._tails[shard]

    def _derive(self, namespaces: set[str]) -> float:
        """Derive the arms of these namespaces anew and publish them at once; answers the seconds it took."""
        started = time.monotonic()
        fresh = dict(self.derived)
        for namespace in namespaces:
            learned = statistics.natural(self.learned.served(namespace))
            for arm in self._arms:
                if arm.namespace == namespace:
                    with metrics.REPLICA_DERIVE_SECONDS.time():
                        fresh[arm.name] = policy_of(arm).derive(self._bundle.graph, learned, self._bundle.prior)
        # Requests read the attribute once: they see the old scores or the new ones, never a mixture.
        self.derived = fresh
        return time.monotonic() - started

    def _observe(self, applied: Sequence[Change]) -> None:
        now_ms = time.time_ns() / 1e6
        for entry in applied:
            for append_ms, events in zip(entry.append_ms.tolist(), entry.events.tolist(), strict=True):
                seconds = max(0.0, now_ms - append_ms) / 1000
                for _ in range(events):
                    metrics.FRESHNESS_SECONDS.observe(seconds)

    def statistics(self, namespace: str, edges: NDArray[np.int64]) -> Statistics:
        """What edges (int64[n]) are served by, their own sums and those of their ancestors: float64[n] each."""
        sums, inherited = self.learned.own[namespace][edges], self.learned.inherited.get(namespace)
        return statistics.natural(sums if inherited is None else sums + inherited[edges])

    def impressions(self, namespace: str, edges: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Σ e·w that each edge (int64[n]) has seen under this bundle, and under its ancestors: float64[n] each."""
        own = statistics.natural(self.learned.own[namespace][edges]).n
        inherited = self.learned.inherited.get(namespace)
        return own, np.zeros_like(own) if inherited is None else statistics.natural(inherited[edges]).n
