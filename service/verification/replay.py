"""Replay: the log folded again, by the real fold, into a key prefix of its own, and compared with what is live.

For when statistics are gone or cannot be trusted: the new prefix can be made live by setting KEY_PREFIX.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import structlog

from bandit.manifest import Manifest
from service.feedback_log.base import DeadLetter, FeedbackLog, LogReset
from service.fold.judgement import Judge
from service.fold.partition import PartitionFold, RolledBack
from service.fold.process import USER_LIFE_MS
from service.settings import Settings
from service.store.deltas import Limits
from service.store.redis import Store
from service.verification import live
from service.verification.comparison import Comparison, compare_row, compare_totals, sums_of
from service.verification.origin import Origin
from service.verification.verifier import Progress

logger = structlog.get_logger(__name__)
ROUNDS = 5
KEYS_AT_A_TIME = 1000


class ReplayRefused(Exception):  # noqa: N818 - names what happened
    """The log cannot be replayed as asked; the message says what to do."""


class Replayed(NamedTuple):
    """What a replay came to.

    Attributes:
        records: folded just now.
        begins, ends: one a partition, the offsets that the prefix now counts from and up to.
        comparison: of what is live (`live`) with the replay (`expected`), where their watermarks were equal.
        rows_not_compared: whose watermarks were not.
        why_not: why nothing could be compared, or "".
    """

    records: int
    begins: list[int]
    ends: list[int]
    comparison: Comparison
    rows_not_compared: int
    why_not: str


class Replay:
    """Folds a log again."""

    def __init__(
        self,
        settings: Settings,
        log: FeedbackLog,
        live_store: Store,
        into: Store,
        manifest: Callable[[str], Manifest],
        progress: Progress = Progress(),  # noqa: B008 - it cannot change
    ) -> None:
        """Raises ReplayRefused if `into` is what is live, LogUnavailable."""
        if into.keys.prefix == live_store.keys.prefix:
            raise ReplayRefused(f"{into.keys.prefix} is the live prefix: replay into another (--into)")
        self._settings = settings
        self._epoch = log.epoch()
        self._live = live_store
        self._into = into
        self._manifest = manifest
        self._progress = progress
        kept = live.watermarks(live_store, self._epoch, settings.partitions)
        self._log = cast(FeedbackLog, _KeptAlready(log, [min(p) for p in zip(*(w.offsets for w in kept), strict=True)]))
        self._judge = Judge(
            settings.verifying_keys, settings.pseudonym_bytes, self._epoch, settings.partitions, manifest
        )
        self.records = 0

    def run(self, origin: Origin, *, anew: bool = False) -> Replayed:
        """Fold from `origin` to the log's ends as they are now, or go on where an earlier replay stopped; compare.

        Args:
            origin: from where.
            anew: remove what the prefix holds first.

        Raises:
            ReplayRefused: the prefix holds a replay from elsewhere.
            NoOrigin: the log does not reach back to the origin.
            LogReset, LogUnavailable, BundleMissing, StoreError, redis.RedisError: as for every fold.
        """
        if anew:
            _remove(self._into)
        self._into.prepare(self._settings.frozen_facts)
        partitions = range(self._settings.partitions)
        ends = [self._log.bounds(partition)[1] for partition in partitions]
        begins = [self._begin(origin, partition) for partition in partitions]
        folds = [self._fold_of(partition) for partition in partitions]
        self._progress.total(sum(max(0, end - fold.position) for end, fold in zip(ends, folds, strict=True)))
        for fold, end in zip(folds, ends, strict=True):
            self._fold(fold, end)
        self._adopt_active()
        comparison, missed, why_not = self._compare(folds, begins)
        return Replayed(self.records, begins, [fold.position for fold in folds], comparison, missed, why_not)

    def _begin(self, origin: Origin, partition: int) -> int:
        """Where a partition begins: where an earlier replay let it begin, or at the origin."""
        held = live.watermarks(self._into, self._epoch, self._settings.partitions)
        if any(found.earlier for found in held):
            raise ReplayRefused(f"{self._into.keys.prefix} holds statistics of an earlier log: remove them (--anew)")
        begun = held[0].begins[partition]
        if max(found.offsets[partition] for found in held) == 0:
            offset = origin.offset_in(self._log, partition)
            if offset:
                self._into.begin(self._epoch, partition, offset)
            return offset
        if origin.is_earliest or begun in (origin.offset, origin.offset_in(self._log, partition)):
            logger.info("going on with an earlier replay", partition=partition, begun=begun)
            return begun
        raise ReplayRefused(
            f"{self._into.keys.prefix} holds a replay that begins at {begun} in partition {partition}, not where it is"
            " asked for: go on with that one, remove it (--anew), or choose another prefix (--into)"
        )

    def _fold_of(self, partition: int) -> PartitionFold:
        settings = self._settings
        limits = Limits(settings.call_edges, settings.seen_items, settings.recent_items, USER_LIFE_MS)
        fold = PartitionFold(
            partition,
            self._epoch,
            self._log,
            self._into,
            self._judge,
            self._manifest,
            limits,
            settings.window_records,
            settings.most_lag_ms,
        )
        self._start(fold)
        return fold

    def _start(self, fold: PartitionFold) -> None:
        partition = fold.partition
        watermarks = self._into.watermarks(self._epoch, [partition])[partition]
        fold.start(watermarks, self._into.begun(self._epoch, partition))

    def _fold(self, fold: PartitionFold, end: int) -> None:
        while fold.position < end:
            start = fold.position
            records = self._log.read(fold.partition, start, min(end, start + self._settings.batch_records))
            if not records:
                raise LogReset(f"partition {fold.partition}: retention took the records from {start} on meanwhile")
            try:
                fold.fold(records)
            except RolledBack:
                logger.warning("redis went back, reading again", partition=fold.partition)
                self._start(fold)
            self.records += len(records)
            self._progress.judged(len(records))

    def _adopt_active(self) -> None:
        """Take over which bundle an operator made active: that is not in the log."""
        active = cast(dict[Any, Any], self._live.client.hgetall(self._live.keys.active()))
        if active:
            self._into.client.hset(self._into.keys.active(), mapping=active)

    def _compare(self, folds: Sequence[PartitionFold], begins: Sequence[int]) -> tuple[Comparison, int, str]:
        """Compare with what is live where watermarks are equal; the replay is taken on to reach that."""
        nothing = Comparison(0, 0, [], [])
        held = live.watermarks(self._live, self._epoch, len(folds))
        names = sorted({*live.row_names(self._live)[0], *live.row_names(self._into)[0]})
        if any(found.earlier for found in held):
            return nothing, len(names), "what is live rests on logs of earlier epochs as well"
        if not any(max(found.offsets) for found in held):
            return nothing, len(names), "nothing is live"
        if any(found.begins != list(begins) for found in held):
            return nothing, len(names), "what is live began elsewhere, so it should differ"
        comparison, missed = nothing, len(names)
        for _ in range(ROUNDS):
            for fold in folds:
                newest = live.watermarks(self._live, self._epoch, len(folds))
                self._fold(fold, max(found.offsets[fold.partition] for found in newest))
            comparison, missed = self._compare_once(len(folds))
            if not missed:
                break
        return comparison, missed, "watermarks of the others moved on" if missed else ""

    def _compare_once(self, partitions: int) -> tuple[Comparison, int]:
        names = sorted({*live.row_names(self._live)[0], *live.row_names(self._into)[0]})
        edges, rows, missed, differences, totals = 0, 0, 0, [], []
        theirs = live.read(self._live, self._epoch, partitions, names, totals=True)
        mine = live.read(self._into, self._epoch, partitions, names, totals=True)
        for found, replayed in zip(theirs, mine, strict=True):
            if found.watermarks.offsets != replayed.watermarks.offsets:
                missed += len(found.rows)
                continue
            rows += len(found.rows)
            for name, row in found.rows.items():
                compared, difference = compare_row(name, row, sums_of(replayed.rows[name]))
                edges += compared
                differences += [difference] if difference is not None else []
            if found.totals is not None and replayed.totals is not None:
                totals += compare_totals(found.shard, found.totals, replayed.totals)
        return Comparison(edges, rows, differences, totals), missed


class _KeptAlready:
    """A log whose dead letters need not be kept again before where the live fold is."""

    def __init__(self, log: FeedbackLog, kept: Sequence[int]) -> None:
        self._log = log
        self._kept = kept

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def dead_letter(self, letters: Sequence[DeadLetter]) -> None:
        """Keep those that the live fold has not come to."""
        new = [letter for letter in letters if letter.offset >= self._kept[letter.partition]]
        if new:
            self._log.dead_letter(new)


def _remove(store: Store) -> None:
    """Remove all that a prefix holds."""
    doomed: list[bytes] = []
    for key in store.client.scan_iter(f"{store.keys.prefix}:*", count=KEYS_AT_A_TIME):
        doomed.append(key)
        if len(doomed) == KEYS_AT_A_TIME:
            _unlink(store, doomed)
            doomed = []
    _unlink(store, doomed)


def _unlink(store: Store, keys: Sequence[bytes]) -> None:
    pipeline = store.client.pipeline(transaction=False)
    for key in keys:
        pipeline.unlink(key)
    pipeline.execute()
