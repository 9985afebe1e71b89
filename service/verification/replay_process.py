"""The process of `fold --replay-from`: replays, says what came of it, and how to make it live."""

from __future__ import annotations

import signal
import sys
import time
from threading import Event

import orjson
import structlog
from rich.console import Console

from service.bundles import Bundles
from service.feedback_log import open_log
from service.settings import Settings
from service.store.keys import Keys
from service.store.redis import Store, connect
from service.verification import report
from service.verification.origin import NoOrigin, Origin
from service.verification.process import FAILURES, WIDTH, Stopped, end_on_signals, progress
from service.verification.replay import Replay, Replayed, ReplayRefused

logger = structlog.get_logger(__name__)
REFUSALS = (*FAILURES, ReplayRefused, NoOrigin)


def run(settings: Settings, redis_url: str, *, origin: str, prefix: str | None, anew: bool) -> int:
    """Replay from `origin` into a prefix (<KEY_PREFIX>.replay by default); the exit code, 1 if the two differ.

    Raises:
        NoOrigin, ReplayRefused: it cannot be replayed as asked.
        LogReset, LogUnavailable, BundleMissing, StoreError, redis.RedisError: as for every fold.
    """
    begun = time.monotonic()
    start = Origin.parse(origin)
    stopping = Event()
    end_on_signals(stopping)
    server = connect(redis_url)
    live = Store(server, Keys(settings.key_prefix, settings.shards))
    into = Store(server, Keys(prefix or f"{settings.key_prefix}.replay", settings.shards))
    log = None
    try:
        log = open_log(settings)
        with progress(stopping, "folding records again") as told:
            bundles = Bundles(settings.bundles, settings.bundle_wait_s)
            replayed = Replay(settings, log, live, into, bundles.manifest, told).run(start, anew=anew)
    except Stopped:
        logger.warning("stopped; the same command goes on from here", prefix=into.keys.prefix)
        return 128 + signal.SIGTERM
    finally:
        if log is not None:
            log.close()
        into.close()
    _show(Console(width=None if sys.stdout.isatty() else WIDTH), replayed, into.keys.prefix)
    seconds = round(time.monotonic() - begun, 3)
    figures = _figures(replayed) | {"into": into.keys.prefix, "from": origin, "seconds": seconds}
    sys.stdout.write(orjson.dumps(figures).decode() + "\n")
    return 0 if replayed.comparison.equal else 1


def _show(console: Console, replayed: Replayed, prefix: str) -> None:
    console.print(f"{replayed.records} records were folded into {prefix}.")
    if replayed.comparison.rows or not replayed.comparison.equal:
        report.show(console, replayed.comparison, "the replay")
    if replayed.why_not:
        console.print(
            f"{replayed.rows_not_compared} rows were not compared with what is live: {replayed.why_not}."
            f" KEY_PREFIX={prefix} python -m service verify compares them with the log."
        )
    console.print(f"To make it live: end all processes and start them with KEY_PREFIX={prefix}.")


def _figures(replayed: Replayed) -> dict[str, object]:
    offsets = zip(replayed.begins, replayed.ends, strict=True)
    return replayed.comparison.figures() | {
        "records": replayed.records,
        "offsets": {str(partition): [begin, end] for partition, (begin, end) in enumerate(offsets)},
        "rows_not_compared": replayed.rows_not_compared,
        "why_not": replayed.why_not,
    }
