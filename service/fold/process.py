"""The fold's process: follows its share of the partitions, and goes on whatever dies around it."""

from __future__ import annotations

import gc
import signal
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from threading import Event
from types import FrameType
from typing import NamedTuple

import redis
import structlog
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_when_event_set, wait_exponential
from tenacity.nap import sleep_using_event

from service import metrics
from service.bundles import BundleMissing, Bundles
from service.feedback_log import open_log
from service.feedback_log.base import FeedbackLog, LogReset, LogUnavailable, Record
from service.fold import progress
from service.fold.judgement import Judge
from service.fold.partition import Batch, PartitionFold, RolledBack, Skipped
from service.settings import Settings
from service.store.deltas import Limits
from service.store.keys import Keys
from service.store.redis import Store, connect

logger = structlog.get_logger(__name__)
POLL_S = 0.2
CHECK_EVERY_S = 1.0
START_S = 0.5
MOST_PAUSE_S = 2.0
LET_GO_S = 10.0
# Batches are a hundred thousand live objects and the windows are millions, none of them in cycles: to look for some as
# often as Python does by default took a fifth of the fold's time.
GARBAGE_THRESHOLDS = 50_000, 20, 100
USER_LIFE_MS = 90 * 86_400_000


class Flight(NamedTuple):
    """A batch that is being added to Redis."""

    partition: int
    done: Future[None]


class FoldProcess:
    """Folds the partitions that the log assigns to it.

    A partition that is held is running, waits to be started (anew) in `_waiting`, or is stopped until an operator has
    looked at it. At most one batch is being added while the next one is judged; nothing else is kept in memory. While
    Redis or the log is away all partitions wait and none is read, but the log is polled, so that the fold stays in its
    group.
    """

    def __init__(
        self,
        settings: Settings,
        log: FeedbackLog,
        store: Store,
        *,
        begin: bool = False,
        stopping: Event | None = None,
        adding: Executor | None = None,
    ) -> None:
        """`begin` lets partitions of which nothing was folded begin at the log's start, even if retention moved it.

        `adding` runs what adds batches to Redis, one after another; by default a thread.

        Raises:
            LogUnavailable: the log cannot be reached.
        """
        self._stopping = stopping or Event()
        self._begin = begin
        self._settings = settings
        self._log = log
        self._store = store
        self._bundles = Bundles(settings.bundles, settings.bundle_wait_s)
        self._limits = Limits(settings.call_edges, settings.seen_items, settings.recent_items, USER_LIFE_MS)
        self._epoch = log.epoch()
        self._judge = Judge(
            settings.verifying_keys,
            settings.pseudonym_bytes,
            self._epoch,
            settings.partitions,
            self._bundles.manifest,
        )
        self._folds: dict[int, PartitionFold] = {}
        # Who gets a partition back at once need not fill its window again.
        self._let_go: dict[int, PartitionFold] = {}
        self._let_go_until = 0.0
        self._waiting: set[int] = set()
        self._stopped: dict[int, str] = {}
        self._adding = adding or ThreadPoolExecutor(1, "adding")
        self._flight: Flight | None = None
        self._away: set[str] = set()
        self._pause_s = 0.0
        self._try_due = 0.0
        self._check_due = 0.0
        self._subscription = log.subscribe(self._assigned, self._revoked)

    def stop(self) -> None:
        """Finish the batches in hand, then end `run`."""
        self._stopping.set()

    @property
    def partitions(self) -> set[int]:
        """Those in hand that are not stopped."""
        return set(self._folds)

    @property
    def folded(self) -> int:
        """Records before the positions of the partitions in hand."""
        return sum(fold.position for fold in self._folds.values())

    def close(self) -> None:
        """Finish the batch in hand and leave the log's group, so that others take over at once."""
        with suppress(redis.RedisError):
            self._land()
        self._subscription.close()
        self._adding.shutdown()

    def run(self) -> None:
        """Fold until stopped."""
        try:
            while not self._stopping.is_set():
                self.step()
        finally:
            self.close()
        logger.info("fold stopped")

    def step(self) -> None:
        """Poll once, fold what came, start what waits, and look after everything when it is time to."""
        try:
            timeout_s = 0.0 if self._waiting and not self._away else POLL_S
            for partition, records in self._subscription.poll(timeout_s, self._settings.batch_records).items():
                self._fold(partition, records)
            if self._flight is not None and self._flight.done.done():
                self._land()
            self._start_waiting()
            if time.monotonic() >= self._check_due:
                self._check()
                self._check_due = time.monotonic() + CHECK_EVERY_S
        except redis.RedisError as error:
            self._leave_off("redis", error)
        except LogUnavailable as error:
            self._leave_off("the feedback log", error)
        except LogReset as error:
            # A log that is gone takes its partitions with it: without any in hand, all of them wait for an operator.
            self._stop_partitions(error.partitions or list(self._folds) or range(self._settings.partitions), error)

    def _assigned(self, partitions: Collection[int]) -> Mapping[int, int]:
        """They stand still until they are started."""
        logger.info("partitions assigned", partitions=sorted(partitions))
        for partition in partitions:
            known = self._let_go.pop(partition) if partition in self._let_go else None
            self._folds[partition] = known or self._new(partition)
        self._waiting |= set(partitions)
        return {}

    def _revoked(self, partitions: Collection[int]) -> None:
        logger.info("partitions revoked", partitions=sorted(partitions))
        with suppress(redis.RedisError):
            self._land()
        self._waiting -= set(partitions)
        self._let_go_until = time.monotonic() + LET_GO_S
        for partition in partitions:
            if partition in self._folds:
                self._let_go[partition] = self._folds.pop(partition)
            self._stopped.pop(partition, None)
            progress.forget(partition)

    def _new(self, partition: int) -> PartitionFold:
        return PartitionFold(
            partition,
            self._epoch,
            self._log,
            self._store,
            self._judge,
            self._bundles.manifest,
            self._limits,
            self._settings.window_records,
            self._settings.most_lag_ms,
        )

    def _start_waiting(self) -> None:
        """Start partitions that wait, but poll again before long; where something is away, try again in a while."""
        began = time.monotonic()
        if not self._waiting or began < self._try_due:
            return
        self._land()
        if self._away:
            self._store.prepare(self._settings.frozen_facts)  # a Redis that came back empty lacks the functions
        self._confirm_epoch()
        for partition, watermarks in self._store.watermarks(self._epoch, sorted(self._waiting)).items():
            try:
                self._start(self._folds[partition], watermarks)
            except (LogReset, BundleMissing) as error:
                self._stop_partitions([partition], error)
            if time.monotonic() - began > START_S:
                break
        self._back()

    def _start(self, fold: PartitionFold, watermarks: Sequence[int]) -> None:
        partition = fold.partition
        begun = self._store.begun(self._epoch, partition)
        if self._begin and max(watermarks) == 0:
            offset = self._log.bounds(partition)[0]
            self._store.begin(self._epoch, partition, offset)
            logger.warning("beginning at the log's start", partition=partition, offset=offset)
            watermarks = [offset] * len(watermarks)
            begun = offset
        lost = max(held - found for held, found in zip(fold.reached, watermarks, strict=True))
        if lost > 0:
            logger.warning("rolled back", partition=partition, offsets=lost, held=fold.reached, found=list(watermarks))
        self._subscription.seek(partition, fold.start(watermarks, begun))
        self._waiting.discard(partition)

    def _restart(self, partition: int) -> None:
        """Let a partition stand still until it is started anew."""
        metrics.FOLD_REPLAYS.inc()
        self._subscription.pause(partition)
        self._waiting.add(partition)

    def _fold(self, partition: int, records: Sequence[Record]) -> None:
        """Judge records while the batch before is added, then let them be added."""
        if partition not in self._folds or partition in self._waiting:
            return
        try:
            batch = self._folds[partition].judge(records)
        except Skipped as error:
            logger.error("records were left out, reading again", error=str(error))
            self._land()
            self._restart(partition)
            return
        except (BundleMissing, LogReset) as error:
            self._land()
            self._stop_partitions([partition], error)
            return
        self._land()
        # What was judged after a batch that came to nothing is void.
        if partition not in self._waiting:
            self._flight = Flight(partition, self._adding.submit(self._add, self._folds[partition], batch))

    def _add(self, fold: PartitionFold, batch: Batch) -> None:
        fenced = fold.fenced
        try:
            with metrics.FOLD_BATCH_SECONDS.time():
                fold.add(batch)
        finally:
            metrics.FOLD_FENCED.inc(fold.fenced - fenced)
        metrics.FOLD_RECORDS.inc(len(batch.offsets))

    def _land(self) -> None:
        """Wait for the batch that is being added. Raises RedisError if that failed."""
        flight, self._flight = self._flight, None
        if flight is None:
            return
        try:
            flight.done.result()
        except RolledBack:
            if flight.partition in self._folds:
                self._restart(flight.partition)

    def _leave_off(self, what: str, error: Exception) -> None:
        """Let everything stand still, and try again in a while; say so once an outage."""
        if what not in self._away:
            logger.warning(f"{what} is away", error=str(error))
        self._away.add(what)
        self._pause_s = min(MOST_PAUSE_S, 2 * self._pause_s or POLL_S)
        self._try_due = time.monotonic() + self._pause_s
        with suppress(redis.RedisError):
            self._land()
        for partition in self._folds.keys() - self._waiting:
            self._restart(partition)

    def _back(self) -> None:
        for what in self._away:
            logger.info(f"{what} is back")
        self._away, self._pause_s = set(), 0.0

    def _stop_partitions(self, partitions: Collection[int], error: Exception) -> None:
        """Leave partitions alone until the fold is restarted."""
        for partition in set(partitions) - self._stopped.keys():
            logger.error("partition stopped until the fold is restarted", partition=partition, error=str(error))
            if self._folds.pop(partition, None):
                self._subscription.pause(partition)
            self._waiting.discard(partition)
            self._stopped[partition] = str(error)
            metrics.FOLD_STOPPED.labels(partition).set(1)

    def _check(self) -> None:
        """Say how far it is; notice a Redis that went back while nothing came, and a log that was made anew."""
        if time.monotonic() > self._let_go_until:
            self._let_go = {}
        progress.export(self._folds.values(), self._log.ends())
        if self._away:
            return
        if self._folds or not self._stopped:
            self._confirm_epoch()
        # The one that is being added to learns it by itself.
        adding = {self._flight.partition} if self._flight else set()
        running = self._folds.keys() - self._waiting - adding
        for partition, watermarks in self._store.watermarks(self._epoch, sorted(running)).items():
            held = self._folds[partition].watermarks
            if any(found < before for found, before in zip(watermarks, held, strict=True)):
                self._restart(partition)
        progress.export_totals(self._store.totals())

    def _confirm_epoch(self) -> None:
        if self._log.epoch() != self._epoch:
            raise LogReset(
                "the feedback log was made anew: its epoch changed. Restart the fold to go on with the new one"
            )


def waiting_for(
    errors: type[Exception] | tuple[type[Exception], ...], stopping: Event, *, say: bool = True
) -> Retrying:
    """Tries again, with growing pauses, while these errors come; gives up without one when stopping."""
    return Retrying(
        retry=retry_if_exception_type(errors),
        wait=wait_exponential(multiplier=0.05, max=2),
        stop=stop_when_event_set(stopping),
        sleep=sleep_using_event(stopping),
        before_sleep=_say_waiting if say else None,
        retry_error_callback=lambda _: None,
    )


def _say_waiting(attempt: RetryCallState) -> None:
    """Ever more seldom: at the first try, the second, the fourth and so on."""
    tries, error = attempt.attempt_number, attempt.outcome and attempt.outcome.exception()
    if tries & (tries - 1) == 0:
        what = "redis" if isinstance(error, redis.RedisError) else "the feedback log"
        logger.warning(f"waiting for {what}", error=str(error), tries=tries)


def collect_garbage_seldom() -> None:
    """For the process of a fold; set for all of it."""
    gc.set_threshold(*GARBAGE_THRESHOLDS)


def run(settings: Settings, redis_url: str, *, begin: bool = False) -> None:
    """Run a fold until SIGTERM or SIGINT; wait, saying so, for what is not up yet.

    Raises:
        StoreError: Redis cannot serve us as it is set up.
        LogReset: the log was made with another number of partitions.
    """
    stopping = Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopping.set()

    collect_garbage_seldom()
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    metrics.serve(settings.fold_port, settings.host)
    store = Store(connect(redis_url), Keys(settings.key_prefix, settings.shards))
    waiting = waiting_for((redis.RedisError, LogUnavailable), stopping)
    waiting(store.prepare, settings.frozen_facts)
    log: FeedbackLog | None = None if stopping.is_set() else waiting(open_log, settings)
    if log is not None:
        logger.info("fold started", log=type(log).__name__)
        process: FoldProcess | None = waiting(FoldProcess, settings, log, store, begin=begin, stopping=stopping)
        if process is not None:
            process.run()
        log.close()
    store.close()
