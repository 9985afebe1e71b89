"""One pass of verification: the statistics recomputed from the log, compared with what is live, edge by edge.

First the shards are read, each piece with its own watermarks; then the log is judged up to them. So the fold may go on
meanwhile: what it adds lies beyond the cut.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import structlog

from bandit.manifest import Manifest
from service.feedback_log.base import FeedbackLog
from service.fold.judgement import Judge
from service.settings import Settings
from service.store.redis import Store
from service.verification import live
from service.verification.archive import LOG_START, Archive, Start, Unverifiable
from service.verification.comparison import Comparison, compare_row, compare_totals
from service.verification.live import Cut, Watermarks
from service.verification.recomputation import Recomputation
from service.verification.snapshot import Facts
from service.verification.state import Beginning, all_equal

logger = structlog.get_logger(__name__)
# Tries to read rows that appeared while the others were named.
ROUNDS = 5


class Progress(NamedTuple):
    """Whom to tell how a pass goes: how many records there are to judge, then again and again how many were judged."""

    total: Callable[[int], None] = lambda _: None
    judged: Callable[[int], None] = lambda _: None


class Pass(NamedTuple):
    """What a pass found.

    Attributes:
        comparison: of what is live with what should be.
        recomputation, cut: as they were compared; a repair goes on from them.
        started_from: a snapshot's name or `LOG_START`.
        snapshot: the name of the one that the pass left.
        unread: rows that appeared too late to be compared.
        seconds: it took.
    """

    comparison: Comparison
    recomputation: Recomputation
    cut: Cut
    started_from: str
    snapshot: str
    unread: int
    seconds: float


class Verifier:
    """Makes passes over one log and one prefix."""

    def __init__(self, settings: Settings, log: FeedbackLog, store: Store, manifest: Callable[[str], Manifest]) -> None:
        """`manifest` answers a version's manifest. Raises LogUnavailable."""
        self.epoch = log.epoch()
        self.partitions = settings.partitions
        self.log = log
        self.store = store
        self._window_records = settings.window_records
        self._manifest = manifest
        key = settings.pseudonym_bytes
        self._judge = Judge(settings.verifying_keys, key, self.epoch, settings.partitions, manifest)
        facts = Facts(store.keys.prefix, store.keys.shards, settings.partitions, settings.window_records)
        self.archive = Archive(settings.snapshots_root, facts, key)

    def verify(self, progress: Progress = Progress()) -> Pass:  # noqa: B008 - it cannot change
        """Make one pass.

        Raises:
            Unverifiable: log and statistics do not belong together, or the records in between are gone.
            LogReset: the log lost records while it was read.
            LogUnavailable: it cannot be read.
            BundleMissing: a token names a version that cannot be had.
            redis.RedisError: Redis cannot be reached.
        """
        started = time.monotonic()
        start = self._start()
        cut = self._cut(start)
        recomputation = Recomputation(
            start.state, cut, self.log, self._judge, self._manifest, self._window_records, progress.judged
        )
        progress.total(sum(max(0, cut.most(p) - position) for p, position in enumerate(start.state.positions)))
        unread = self._recompute(recomputation, cut)
        if self.log.epoch() != self.epoch:
            raise Unverifiable("the feedback log was made anew meanwhile: verify again")
        moved = recomputation.records or start.name == LOG_START
        snapshot = self.archive.keep(start.state) if moved else start.name
        comparison = compare(recomputation, cut)
        return Pass(comparison, recomputation, cut, start.name, snapshot, unread, time.monotonic() - started)

    def _cut(self, start: Start) -> Cut:
        """Read all shards, and see that they lie between where the pass starts and the log's end."""
        names, unknown = live.row_names(self.store)
        if unknown:
            logger.warning("keys that are no row's", keys=unknown[:10], number=len(unknown))
        cut = Cut(self.store.keys)
        # The names come first: so a row that has none yet appeared after them, at watermarks that are not lower.
        cut.add(live.read(self.store, self.epoch, self.partitions, {*names, *start.state.rows}, totals=True))
        for partition, position in enumerate(start.state.positions):
            end = self.log.bounds(partition)[1]
            for piece in cut.pieces:
                watermark = piece.watermarks.offsets[partition]
                if watermark > end:
                    raise Unverifiable(
                        f"shard {piece.shard}: the watermark {watermark} of partition {partition} lies beyond the log's"
                        f" end {end}: the log lost records that were folded, or the watermark was altered. Restore the"
                        " log, or replay it into another prefix (python -m service fold --replay-from earliest)"
                    )
                if watermark < position:
                    raise Unverifiable(
                        f"shard {piece.shard}: Redis went back to {watermark} in partition {partition} while it was"
                        " read: verify again when the fold has caught up"
                    )
                if piece.watermarks.begins[partition] != start.state.beginning.offsets[partition, piece.shard]:
                    raise Unverifiable(f"partition {partition} was begun while it was read: verify again")
        return cut

    def _start(self) -> Start:
        watermarks = live.watermarks(self.store, self.epoch, self.partitions)
        firsts = [self.log.bounds(partition)[0] for partition in range(self.partitions)]
        return self.archive.start(_beginning(self.epoch, watermarks), watermarks, firsts)

    def _recompute(self, recomputation: Recomputation, cut: Cut) -> int:
        """Judge up to the cut; then read rows that should have been there and were not named, and judge up to those.

        Answers how many of them could not be read at watermarks that can be compared.
        """
        self._advance(recomputation, cut)
        unread = recomputation.unread()
        for _ in range(ROUNDS):
            if not unread:
                break
            found = list(live.read(self.store, self.epoch, self.partitions, unread))
            cut.add(piece for piece in found if recomputation.takes(piece))
            self._advance(recomputation, cut)
            unread -= cut.rows.keys()
        return len(unread)

    def _advance(self, recomputation: Recomputation, cut: Cut) -> None:
        for partition in range(self.partitions):
            recomputation.advance(partition, cut.most(partition))
            recomputation.rest(partition)


def compare(recomputation: Recomputation, cut: Cut) -> Comparison:
    """Compare all that was read with what was recomputed."""
    edges, differences = 0, []
    for name, piece in cut.rows.items():
        compared, difference = compare_row(name, piece.rows[name], recomputation.row(name))
        edges += compared
        if difference is not None:
            differences.append(difference)
    totals = [
        difference
        for shard, piece in cut.totals.items()
        for difference in compare_totals(shard, piece.totals or {}, recomputation.totals(shard))
    ]
    return Comparison(edges, len(cut.rows), differences, totals)


def _beginning(epoch: bytes, watermarks: list[Watermarks]) -> Beginning:
    """Where counting began. Raises Unverifiable where shards do not agree on earlier logs."""
    if not all_equal([found.earlier for found in watermarks]):
        raise Unverifiable(
            "the shards were left at different watermarks of an earlier log epoch: that log was made anew before all of"
            " it was folded. Replay this log into another prefix (python -m service fold --replay-from earliest)"
        )
    offsets = np.array([found.begins for found in watermarks], dtype=np.int64).T
    return Beginning(epoch, offsets, watermarks[0].earlier)
