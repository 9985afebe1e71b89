"""The watch: where every partition's watermarks stood, many times a second, and how soon it went on after a kill."""

import time
from collections.abc import Sequence
from threading import Event, Thread
from typing import NamedTuple

import numpy as np
import redis
from numpy.typing import NDArray

from service.store.connection import StoreError
from service.store.redis import Store

EVERY_S = 0.1


class Sample(NamedTuple):
    """Unix time, and the least watermark of each partition, int64[P]."""

    at: float
    positions: NDArray[np.int64]


class Watch:
    """Samples the watermarks in a thread while Redis answers."""

    def __init__(self, store: Store, epoch: bytes, partitions: int) -> None:
        self.samples: list[Sample] = []
        self._store, self._epoch, self._partitions = store, epoch, range(partitions)
        self._done = Event()
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def folded(self) -> int:
        """Records that all shards have taken, as it stood last."""
        return int(self.samples[-1].positions.sum()) if self.samples else 0

    def stop(self) -> None:
        self._done.set()
        self._thread.join()

    def look(self) -> Sample:
        """Where the watermarks stand. Raises redis.RedisError."""
        return Sample(time.time(), positions(self._store, self._epoch, self._partitions))

    def recovery_s(self, killed_at: float) -> float | None:
        """How long after a kill every partition had passed where it stood before; None for one that never did."""
        before = [sample.positions for sample in self.samples if sample.at <= killed_at]
        if not before:
            return None
        passed = np.zeros(len(before[-1]), dtype=np.bool_)
        for sample in self.samples:
            if sample.at > killed_at:
                passed |= sample.positions > before[-1]
                if passed.all():
                    return sample.at - killed_at
        return None

    def around(self, at: float, partition: int) -> tuple[int, int] | None:
        """The position of a partition as sampled just before and just after a moment."""
        before = [sample for sample in self.samples if sample.at <= at]
        after = next((sample for sample in self.samples if sample.at > at), None)
        if not before or after is None:
            return None
        return int(before[-1].positions[partition]), int(after.positions[partition])

    def _run(self) -> None:
        while not self._done.wait(EVERY_S):
            try:
                self.samples.append(self.look())
            except (redis.RedisError, StoreError, OSError):
                continue


def positions(store: Store, epoch: bytes, partitions: Sequence[int]) -> NDArray[np.int64]:
    """The least watermark of each partition, int64[P]."""
    found = store.watermarks(epoch, partitions)
    return np.array([min(found[partition]) for partition in partitions], dtype=np.int64)
