"""A fold of one partition as a test scripts it: its log's clock, its crashes, and when it goes on."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import redis

from service.feedback_log.base import DeadLetter, LogUnavailable
from service.feedback_log.sqlite import SqliteLog
from service.fold.partition import PartitionFold, RolledBack
from service.store.deltas import Limits, ShardDeltas
from service.store.redis import Store
from tests.conftest import DAY_S, PARTITIONS
from tests.service.fold.logs import MANIFEST, a_judge
from tests.service.tokens import EPOCH, VERSION

WINDOW = 6
LIMITS = Limits(edges=10, seen_items=100, recent_items=100, user_life_ms=90 * 86_400_000)


class ScriptedLog(SqliteLog):
    """A log whose clock the test turns, and that cannot keep dead letters while `faint`."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, PARTITIONS, 7 * DAY_S)
        self.faint = False
        self._script = sqlite3.connect(path, isolation_level=None)
        self._script.execute("PRAGMA synchronous = OFF")

    def write(self, home: int, append_ms: int, key: bytes, value: bytes) -> None:
        end = self.bounds(home)[1]
        self._script.execute("BEGIN")
        self._script.execute("INSERT INTO records VALUES (?, ?, ?, ?, ?)", (home, end, append_ms, key, value))
        self._script.execute("UPDATE partitions SET next_offset = ? WHERE partition = ?", (end + 1, home))
        self._script.execute("COMMIT")

    def forget(self, home: int, before: int) -> None:
        self._script.execute("DELETE FROM records WHERE partition = ? AND offset < ?", (home, before))

    def empty(self) -> None:
        self._script.executescript("DELETE FROM records; DELETE FROM dead_letters; UPDATE partitions SET next_offset=0")

    def dead_letter(self, letters: Sequence[DeadLetter]) -> None:
        if self.faint:
            raise LogUnavailable("on purpose")
        super().dead_letter(letters)

    def close(self) -> None:
        self._script.close()
        super().close()


class CrashingStore(Store):
    """While `reached` is set, only these shards' calls still run, and no answer arrives."""

    reached: set[int] | None = None
    calls = 0

    def fold(self, field: str, deltas: Sequence[ShardDeltas], limits: Limits) -> list[tuple[bool, int]]:
        self.calls += 1
        if self.reached is None:
            return super().fold(field, deltas, limits)
        super().fold(field, [delta for delta in deltas if delta.shard in self.reached], limits)
        raise redis.ConnectionError("on purpose")


class Fold:
    """A process that folds one partition: reads on where it stopped, starts anew when it must."""

    def __init__(self, home: int, log: ScriptedLog, store: Store) -> None:
        self.store = CrashingStore(store.client, store.keys)
        self._log = log
        self.fold = PartitionFold(
            home, EPOCH, log, self.store, a_judge(), {VERSION: MANIFEST}.__getitem__, LIMITS, WINDOW
        )
        self.start()

    def start(self) -> None:
        home = self.fold.partition
        self.next = self.fold.start(self.store.watermarks(EPOCH, [home])[home])

    def run(self, size: int) -> None:
        """Fold the next records; whatever goes wrong, start anew."""
        records = self._log.read(self.fold.partition, self.next, self.next + size)
        if not records:
            return
        try:
            self.fold.fold(records)
            self.next = records[-1].offset + 1
        except (RolledBack, redis.ConnectionError, LogUnavailable):
            self.start()

    def finish(self) -> None:
        """Go on until every shard has everything; a check starts it anew where Redis went back."""
        end = self._log.bounds(self.fold.partition)[1]
        while min(self.store.watermarks(EPOCH, [self.fold.partition])[self.fold.partition]) < end:
            if self.next == end:
                self.start()
            self.run(4)
