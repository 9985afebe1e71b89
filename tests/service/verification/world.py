"""A small world for tests of verification: a SQLite log of any content, folded batch by batch into a real Valkey."""

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import orjson

from service.feedback_log.sqlite import SqliteLog
from service.fold.judgement import Judge
from service.fold.partition import PartitionFold
from service.settings import Settings
from service.store.deltas import Limits
from service.store.keys import Keys, RowName
from service.store.redis import Store
from service.token import NO_EDGE, AttributionToken
from service.verification.verifier import Pass, Verifier
from tests.conftest import DAY_S, PARTITIONS, SHARDS
from tests.service.fold.logs import MANIFEST, impression, reward
from tests.service.fold.slates import ITEMS, a_slate
from tests.service.single_pass import Outcome, Rules, single_pass, statistics_in, whole_log
from tests.service.tokens import ISSUED_MS, KEYS, PSEUDONYM_KEY, VERSION

WINDOW = 6
APART_MS = 61_000
LIMITS = Limits(edges=8192, seen_items=100, recent_items=100, user_life_ms=90 * 86_400_000)


class World:
    """A log, a store, the fold between them, and verification over both."""

    def __init__(self, folder: Path, store: Store, settings: Callable[..., Settings], window: int = WINDOW) -> None:
        self.folder = folder
        self.store = store
        self.window = window
        self.settings = settings(
            state_folder=folder,
            shards=SHARDS,
            partitions=PARTITIONS,
            window_records=window,
            token_keys={key_id: key.decode() for key_id, key in KEYS.items()},
            pseudonym_key=PSEUDONYM_KEY.decode(),
            bundle_wait_s=0,
        )
        self.bundles = {VERSION: MANIFEST}
        self.written = 0
        self.open()

    def open(self) -> None:
        self.log = SqliteLog(self.folder / "feedback.sqlite", PARTITIONS, 7 * DAY_S)
        self.epoch = self.log.epoch()
        self._script = sqlite3.connect(self.folder / "feedback.sqlite", isolation_level=None, check_same_thread=False)
        self._script.execute("PRAGMA synchronous = OFF")

    def close(self) -> None:
        self._script.close()
        self.log.close()

    def make_log_anew(self) -> None:
        self.close()
        for path in self.folder.glob("feedback.sqlite*"):
            path.unlink()
        self.open()

    # The log

    def write(self, home: int, append_ms: int, key: bytes, value: bytes) -> None:
        end = self.log.bounds(home)[1]
        self._script.execute("BEGIN IMMEDIATE")
        self._script.execute("INSERT INTO records VALUES (?, ?, ?, ?, ?)", (home, end, append_ms, key, value))
        self._script.execute("UPDATE partitions SET next_offset = ? WHERE partition = ?", (end + 1, home))
        self._script.execute("COMMIT")

    def slate(self, number: int, home: int) -> AttributionToken:
        return a_slate(number, ISSUED_MS + APART_MS * number, home=home, epoch=self.epoch)

    def say(self, slate: AttributionToken, home: int, *events: object, now_ms: int | None = None) -> None:
        self.write(home, now_ms or slate.issued_ms + 500, slate.recommendation_id.encode(), orjson.dumps(events))

    def write_some(self, records: int, seed: int = 0) -> None:
        """Slates shown and clicked, some said twice, some late, some nonsense, over all partitions."""
        rng = np.random.default_rng(seed)
        for _ in range(records):
            self.written += 1
            home = int(rng.integers(PARTITIONS))
            slate = self.slate(max(0, self.written - int(rng.integers(4))), home)
            events: list[object] = [
                impression(slate),
                reward(slate),
                reward(slate, item_id=ITEMS[len(slate.items) - 1]),
            ]
            said = [events[at] for at in rng.permutation(3)[: rng.integers(1, 4)]]
            now_ms = ISSUED_MS + APART_MS * self.written + 500
            self.say(slate, home, *said, *(["nonsense"] if rng.random() < 0.1 else []), now_ms=now_ms)

    def forget(self, home: int, before: int) -> None:
        self._script.execute("DELETE FROM records WHERE partition = ? AND offset < ?", (home, before))

    # The fold

    def fold_one(self, home: int, until: int | None = None, size: int = 5, store: Store | None = None) -> None:
        store = store or self.store
        judge = Judge(KEYS, PSEUDONYM_KEY, self.epoch, PARTITIONS, self.bundles.__getitem__)
        fold = PartitionFold(home, self.epoch, self.log, store, judge, self.bundles.__getitem__, LIMITS, self.window)
        position = fold.start(store.watermarks(self.epoch, [home])[home])
        end = self.log.bounds(home)[1] if until is None else until
        while records := self.log.read(home, position, min(end, position + size)):
            fold.fold(records)
            position = records[-1].offset + 1

    def fold(self) -> None:
        for home in range(PARTITIONS):
            self.fold_one(home)

    # Verification

    def verifier(self, prefix: str | None = None) -> Verifier:
        store = self.store if prefix is None else Store(self.store.client, Keys(prefix, SHARDS))
        return Verifier(self.settings, self.log, store, self.bundles.__getitem__)

    def verify(self) -> Pass:
        return self.verifier().verify()

    # The reference

    def outcome(self) -> Outcome:
        rules = Rules(KEYS, PSEUDONYM_KEY, self.epoch, PARTITIONS, self.window, self.bundles.__getitem__)
        return single_pass(whole_log(self.log), rules)

    def is_right(self) -> bool:
        """Whether Redis holds what the independent pass says."""
        outcome = self.outcome()
        return statistics_in(self.store.client) == outcome.statistics and self.store.totals() == outcome.totals


def edge_of(slate: AttributionToken) -> tuple[RowName, int]:
    """An edge that a slate credits."""
    at, k = np.argwhere(slate.slots != NO_EDGE)[0]
    return RowName(slate.namespace, slate.version, int(slate.clusters[k])), int(slate.slots[at, k])


def touched(world: World) -> Sequence[tuple[RowName, int]]:
    """Edges that hold something."""
    return [
        (RowName(namespace, version, cluster), slot)
        for namespace, version, cluster, slot in statistics_in(world.store.client)
    ]


def figures(found: Pass) -> dict[str, object]:
    return found.comparison.figures()


def bump(world: World, by: int, field: int = 1) -> tuple[RowName, int]:
    """Alter one sum of an edge that holds something."""
    name, slot = touched(world)[0]
    bits = world.store.client.bitfield(world.store.keys.row(name))
    bits.incrby("i64", f"#{3 * slot + field}", by).execute()
    return name, slot
