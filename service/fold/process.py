"""The fold's process: follows its share of the partitions, and goes on whatever dies around it."""

from __future__ import annotations

import signal
import time
from collections.abc import Collection, Mapping, Sequence
from threading import Event
from types import FrameType

import redis
import structlog
from prometheus_client import start_http_server
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_when_event_set, wait_exponential
from tenacity.nap import sleep_using_event

from service import metrics
from service.bundles import BundleMissing, Bundles
from service.feedback_log import open_log
from service.feedback_log.base import FeedbackLog, LogReset, LogUnavailable, Record
from service.fold.judgement import Judge
from service.fold.partition import PartitionFold, RolledBack
from service.settings import Settings
from service.store.deltas import Limits
from service.store.keys import Keys
from service.store.redis import Store, connect

logger = structlog.get_logger(__name__)
POLL_S = 0.2
CHECK_EVERY_S = 1.0
USER_LIFE_MS = 90 * 86_400_000


class FoldProcess:
    """Folds the partitions that the log assigns to it."""

    def __init__(
        self,
        settings: Settings,
        log: FeedbackLog,
        store: Store,
        *,
        begin: bool = False,
        stopping: Event | None = None,
    ) -> None:
        """`begin` lets partitions of which nothing was folded begin at the log's start, even if retention moved it.

        Raises:
            LogUnavailable: the log cannot be reached.
        """
        self._stopping = stopping or Event()
        self._away: str | None = None
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
        self._stopped: dict[int, str] = {}
        self._subscription = log.subscribe(self._assigned, self._revoked)
        self._check_due = 0.0
        self._torn = False

    def stop(self) -> None:
        """Finish the batch in hand, then end `run`."""
        self._stopping.set()

    @property
    def folded(self) -> int:
        """Records before the positions of the partitions in hand."""
        return sum(fold.position for fold in self._folds.values())

    def close(self) -> None:
        """Leave the log's group."""
        self._subscription.close()

    def run(self) -> None:
        """Fold until stopped."""
        while not self._stopping.is_set():
            self.step()
        self.close()
        logger.info("fold stopped")

    def step(self) -> None:
        """Poll once, fold what came, and look after everything when it is time to.

        Where that is cut short, some of what was polled is not folded: all partitions are read again.
        """
        try:
            if self._torn:
                self._restart(list(self._folds))
                self._torn = False
            batches = self._subscription.poll(POLL_S, self._settings.batch_records)
            for partition, records in batches.items():
                self._fold(partition, records)
            if time.monotonic() >= self._check_due:
                self._check()
                self._check_due = time.monotonic() + CHECK_EVERY_S
                self._back()
        except redis.RedisError as error:
            self._say_away("redis", error)
            self._torn = True
            metrics.FOLD_REPLAYS.inc(len(self._folds))
            self._wait_for_redis()
        except LogUnavailable as error:
            self._say_away("the feedback log", error)
            self._torn = True
            self._stopping.wait(POLL_S)
        except LogReset as error:
            # A log that is gone takes its partitions with it: without any in hand, all of them wait for an operator.
            for partition in list(self._folds) or set(range(self._settings.partitions)) - self._stopped.keys():
                self._stop_partition(partition, error)
            self._stopping.wait(POLL_S)

    def _say_away(self, what: str, error: Exception) -> None:
        """Once an outage, not once a try."""
        if what != self._away:
            logger.warning(f"{what} is away", error=str(error))
        self._away = what

    def _back(self) -> None:
        if self._away is not None:
            logger.info(f"{self._away} is back")
        self._away = None

    def _fold(self, partition: int, records: Sequence[Record]) -> None:
        fold = self._folds.get(partition)
        if fold is None:
            return
        fenced = fold.fenced
        try:
            with metrics.FOLD_BATCH_SECONDS.time():
                fold.fold(records)
        except RolledBack as error:
            logger.warning("redis went back, reading again", partition=partition, offset=error.offset)
            metrics.FOLD_REPLAYS.inc()
            self._restart([partition])
        except (BundleMissing, LogReset) as error:
            self._stop_partition(partition, error)
        metrics.FOLD_FENCED.inc(fold.fenced - fenced)

    def _assigned(self, partitions: Collection[int]) -> Mapping[int, int]:
        logger.info("partitions assigned", partitions=sorted(partitions))
        return self._start(sorted(partitions))

    def _revoked(self, partitions: Collection[int]) -> None:
        logger.info("partitions revoked", partitions=sorted(partitions))
        for partition in partitions:
            self._folds.pop(partition, None)
            self._stopped.pop(partition, None)
            metrics.FOLD_STOPPED.labels(partition).set(0)

    def _start(self, partitions: Sequence[int]) -> dict[int, int]:
        """Make the partitions' folds anew from Redis and the log; where each reads on."""
        starts, folds = {}, {}
        for partition, watermarks in self._store.watermarks(self._epoch, partitions).items():
            fold = PartitionFold(
                partition,
                self._epoch,
                self._log,
                self._store,
                self._judge,
                self._bundles.manifest,
                self._limits,
                self._settings.window_records,
            )
            try:
                self._confirm_epoch()
                if self._begin and max(watermarks) == 0:
                    offset = self._log.bounds(partition)[0]
                    self._store.begin(self._epoch, partition, offset)
                    logger.warning("beginning at the log's start", partition=partition, offset=offset)
                    watermarks = [offset] * len(watermarks)  # noqa: PLW2901 - they are that now
                starts[partition] = fold.start(watermarks)
                folds[partition] = fold
            except (LogReset, BundleMissing) as error:
                # The position that a stopped partition is left at is never read from, but must lie in the log.
                starts[partition] = self._log.bounds(partition)[1]
                self._stop_partition(partition, error)
        self._folds |= folds
        return starts

    def _restart(self, partitions: Sequence[int]) -> None:
        for partition, offset in self._start(partitions).items():
            self._subscription.seek(partition, offset)

    def _stop_partition(self, partition: int, error: Exception) -> None:
        logger.error("partition stopped until the fold is restarted", partition=partition, error=str(error))
        self._folds.pop(partition, None)
        self._stopped[partition] = str(error)
        metrics.FOLD_STOPPED.labels(partition).set(1)

    def _check(self) -> None:
        """Notice a Redis that went back while nothing came, and a log that was made anew; export what is behind."""
        if self._folds or not self._stopped:
            self._confirm_epoch()
        rolled_back = []
        for partition, watermarks in self._store.watermarks(self._epoch, list(self._folds)).items():
            fold = self._folds[partition]
            if any(found < held for found, held in zip(watermarks, fold.watermarks, strict=True)):
                rolled_back.append(partition)
            metrics.FOLD_LAG.labels(partition).set(self._log.bounds(partition)[1] - fold.position)
        if rolled_back:
            logger.warning("redis went back, reading again", partitions=rolled_back)
            metrics.FOLD_REPLAYS.inc(len(rolled_back))
            self._restart(rolled_back)
        for outcome, count in self._store.totals().items():
            metrics.EVENTS_FOLDED.labels(outcome).set(count)

    def _confirm_epoch(self) -> None:
        if self._log.epoch() != self._epoch:
            raise LogReset(
                "the feedback log was made anew: its epoch changed. Restart the fold to go on with the new one"
            )

    def _wait_for_redis(self) -> None:
        waiting_for(redis.RedisError, self._stopping, say=False)(self._store.prepare, self._settings.frozen_facts)


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


def run(settings: Settings, redis_url: str, *, begin: bool = False) -> None:
    """Run a fold until SIGTERM or SIGINT; wait, saying so, for what is not up yet.

    Raises:
        StoreError: Redis cannot serve us as it is set up.
        LogReset: the log was made with another number of partitions.
    """
    stopping = Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    if settings.fold_port:
        start_http_server(settings.fold_port, settings.host)
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
