"""The verification's process: one pass, or one every so often, and what it says of them."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event
from types import FrameType

import orjson
import redis
import structlog
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from service import metrics
from service.bundles import BundleMissing, Bundles
from service.feedback_log import open_log
from service.feedback_log.base import FeedbackLog, LogReset, LogUnavailable
from service.fold.process import waiting_for
from service.settings import Settings
from service.store.keys import Keys
from service.store.redis import Store, StoreError, connect
from service.verification import report
from service.verification.archive import Unverifiable
from service.verification.repair import repair
from service.verification.verifier import Pass, Progress, Verifier

logger = structlog.get_logger(__name__)
NICE = 10
WIDTH = 160
SAY_EVERY_S = 10.0
# After a pass that could not be made.
AGAIN_S = 60.0
FAILURES = (Unverifiable, LogReset, LogUnavailable, BundleMissing, StoreError, redis.RedisError)


class Stopped(Exception):  # noqa: N818 - names what happened
    """The process was asked to end."""


class VerificationProcess:
    """Opens the log and the store, and makes passes over them."""

    def __init__(self, settings: Settings, redis_url: str, *, repair: bool = False) -> None:
        self._settings = settings
        self._store = Store(connect(redis_url), Keys(settings.key_prefix, settings.shards))
        self._bundles = Bundles(settings.bundles, settings.bundle_wait_s)
        self._repair = repair
        self._log: FeedbackLog | None = None
        self.stopping = Event()

    def once(self) -> tuple[Pass, dict[str, object], bool]:
        """One pass, repaired if asked for: what it found, in figures, and whether all is well now.

        Raises:
            Stopped: asked to end in between.
            Unverifiable, LogReset, LogUnavailable, BundleMissing, StoreError, redis.RedisError: it cannot be made.
        """
        log = self._open()
        verifier = Verifier(self._settings, log, self._store, self._bundles.manifest)
        with progress(self.stopping) as told:
            found = verifier.verify(told)
        figures = report.figures(found)
        if not self._repair or found.comparison.equal:
            return found, figures, found.comparison.equal
        repaired = repair(verifier, found, self._settings.call_edges)
        with progress(self.stopping) as told:
            after = verifier.verify(told).comparison
        return found, figures | report.repaired_figures(repaired, after), after.equal

    def every(self, seconds: float) -> None:
        """One pass after the other until stopped; what goes wrong is said and tried again.

        Raises:
            StoreError, LogReset: Redis or the log were set up otherwise.
        """
        waiting_for((redis.RedisError, LogUnavailable), self.stopping)(self._open)
        while not self.stopping.is_set():
            pause = seconds
            try:
                found, figures, well = self.once()
                _export(found, well=well)
                (logger.info if well else logger.error)("verified" if well else "what is live differs", **figures)
            except Stopped:
                return
            except FAILURES as error:
                metrics.VERIFY_FAILURES.inc()
                logger.error("not verified", error=str(error), kind=type(error).__name__)
                pause = min(seconds, AGAIN_S)
            self.stopping.wait(pause)

    def _open(self) -> FeedbackLog:
        self._store.prepare(self._settings.frozen_facts)
        if self._log is None:
            self._log = open_log(self._settings)
        return self._log

    def close(self) -> None:
        """Let the log and the store go."""
        if self._log is not None:
            self._log.close()
        self._store.close()


def run(settings: Settings, redis_url: str, *, every_s: float | None, repair: bool) -> int:
    """Verify once and answer the exit code (1: something differs), or for ever, until SIGTERM or SIGINT.

    Raises:
        Unverifiable, LogReset, LogUnavailable, BundleMissing, StoreError, redis.RedisError: one pass was asked for, and
            cannot be made.
    """
    process = VerificationProcess(settings, redis_url, repair=repair)
    end_on_signals(process.stopping)
    try:
        if every_s is not None:
            os.nice(NICE)
            metrics.serve(settings.verify_port, settings.host)
            logger.info("verification started", every_s=every_s)
            process.every(every_s)
            logger.info("verification stopped")
            return 0
        found, figures, well = process.once()
        report.show(Console(width=None if sys.stdout.isatty() else WIDTH), found.comparison)
        sys.stdout.write(orjson.dumps(figures).decode() + "\n")
        return 0 if well else 1
    except Stopped:
        return 128 + signal.SIGTERM
    finally:
        process.close()


def end_on_signals(stopping: Event) -> None:
    """Let SIGTERM and SIGINT set `stopping`."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)


@contextmanager
def progress(stopping: Event, what: str = "judging records") -> Iterator[Progress]:
    """A bar on a terminal, a line now and then elsewhere; raises Stopped in between when the process is to end."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Bar(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as bar:
        task = bar.add_task(what, total=None)
        due = time.monotonic() + SAY_EVERY_S

        def judged(records: int) -> None:
            nonlocal due
            if stopping.is_set():
                raise Stopped
            bar.advance(task, records)
            if bar.disable and time.monotonic() >= due:
                due = time.monotonic() + SAY_EVERY_S
                logger.info(what, records=int(bar.tasks[0].completed), of=bar.tasks[0].total)

        total: Callable[[int], None] = lambda records: bar.update(task, total=records)  # noqa: E731
        yield Progress(total, judged)


def _export(found: Pass, *, well: bool) -> None:
    figures = found.comparison.figures()
    gauges = {
        metrics.VERIFY_EDGES_COMPARED: "edges_compared",
        metrics.VERIFY_EDGES_DIFFERENT: "edges_different",
        metrics.VERIFY_LOST: "lost",
        metrics.VERIFY_COUNTED_TWICE: "counted_twice",
        metrics.VERIFY_TOTALS_DIFFERENT: "totals_different",
    }
    for gauge, name in gauges.items():
        gauge.set(float(str(figures[name])))
    metrics.VERIFY_SECONDS.set(found.seconds)
    if well:
        metrics.VERIFY_LAST_SUCCESS.set_to_current_time()
