"""A log that fails when a test says so, and what is written to it."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import orjson

from service.feedback_log.base import DeadLetter, LogUnavailable, Record
from service.feedback_log.sqlite import SqliteLog, SqliteSubscription
from service.settings import Settings
from service.token import AttributionToken
from tests.conftest import PARTITIONS
from tests.service.fold.logs import impression, reward
from tests.service.fold.slates import a_slate


class Robbed(SqliteSubscription):
    """Left without partitions when `gone`, as a member of a consumer group is once the topic is deleted.

    It counts polls and records, and leaves the next `left_out` records out.
    """

    gone = False
    polls = 0
    taken = 0
    left_out = 0

    def poll(self, timeout_s: float, limit: int) -> Mapping[int, Sequence[Record]]:
        self.polls += 1
        found = {} if self.gone else dict(super().poll(timeout_s, limit))
        self.taken += sum(map(len, found.values()))
        for number in [number for number, records in found.items() if len(records) > self.left_out > 0]:
            found[number], self.left_out = found[number][self.left_out :], 0
        return found


class Moody(SqliteLog):
    """A log that can be away for reading or for dead letters, and pretend to have been made anew."""

    reads_fail = 0
    letters_fail = 0
    made_anew = False

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings.feedback_database, settings.partitions, settings.log_retention_s)
        self.letters: list[DeadLetter] = []

    def read(self, partition: int, start: int, stop: int) -> Sequence[Record]:
        if self.reads_fail and partition == PARTITIONS - 1 and start < stop:
            self.reads_fail -= 1
            raise LogUnavailable("on purpose")
        return super().read(partition, start, stop)

    def dead_letter(self, letters: Sequence[DeadLetter]) -> None:
        if self.letters_fail:
            self.letters_fail -= 1
            raise LogUnavailable("on purpose")
        self.letters += letters
        super().dead_letter(letters)

    def subscribe(
        self, assigned: Callable[[Collection[int]], Mapping[int, int]], revoked: Callable[[Collection[int]], None]
    ) -> Robbed:
        self.subscription = Robbed(self, assigned, revoked)
        return self.subscription

    def epoch(self) -> bytes:
        return b"made anew".ljust(16) if self.made_anew else super().epoch()


def write(log: SqliteLog, slate: AttributionToken, *said: object) -> None:
    log.append(slate.recommendation_id.encode(), orjson.dumps(said)).result(10)


def slates(log: SqliteLog, count: int, **changes: Any) -> list[AttributionToken]:
    """So many slates of now, spread over the partitions in turn."""
    now_ms = time.time_ns() // 1_000_000
    return [a_slate(number, now_ms, home=number % PARTITIONS, epoch=log.epoch(), **changes) for number in range(count)]


def fill(log: SqliteLog, count: int = 40) -> list[AttributionToken]:
    """Each slate shown and its first item clicked, twice; every fifth record is senseless."""
    made = slates(log, count)
    for number, slate in enumerate(made):
        write(log, slate, impression(slate), reward(slate))
        write(log, slate, *(["senseless"] if number % 5 == 0 else [reward(slate), reward(slate, name="watch")]))
    return made
