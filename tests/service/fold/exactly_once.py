"""Exactly once: a fold steps until all is folded, and then Redis holds what one pass over the log comes to."""

import time
from collections.abc import Callable
from typing import Any

from service.feedback_log.sqlite import SqliteLog
from service.fold.process import FoldProcess
from service.settings import Settings
from service.store.redis import Store
from tests.conftest import PARTITIONS
from tests.service.fold.logs import MANIFEST
from tests.service.single_pass import Rules, single_pass, statistics_in, whole_log
from tests.service.tokens import KEYS, PSEUDONYM_KEY


def expected(log: SqliteLog, settings: Settings) -> Any:
    rules = Rules(KEYS, PSEUDONYM_KEY, log.epoch(), PARTITIONS, settings.window_records, lambda _: MANIFEST)
    return single_pass(whole_log(log), rules)


def behind(store: Store, log: SqliteLog) -> list[int]:
    """The partitions that some shard has not folded to the end."""
    watermarks = store.watermarks(log.epoch(), range(log.partitions))
    return [number for number, found in watermarks.items() if min(found) < log.bounds(number)[1]]


def step_until(process: FoldProcess, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        process.step()
        assert time.monotonic() < deadline, "stepped in vain"


def finish(process: FoldProcess, store: Store, log: SqliteLog) -> None:
    step_until(process, lambda: not behind(store, log))


def assert_exactly_once(store: Store, log: SqliteLog, settings: Settings) -> None:
    outcome = expected(log, settings)
    assert statistics_in(store.client) == outcome.statistics
    assert store.totals() == outcome.totals
    assert {(letter.partition, letter.offset, letter.event) for letter in SqliteLog.dead_letters(log)} == (
        outcome.dead_letters
    )
