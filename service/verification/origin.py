"""Origin: from where a log is to be read again, as people say it: `earliest`, an offset, or a time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple, Self

from service.feedback_log.base import FeedbackLog

# No partition has so many records; from here on a number is a time, in Unix ms (1973 and later).
FIRST_MS = 10**11


class NoOrigin(ValueError):  # noqa: N818 - names what is wrong
    """Nothing that can be read from; the message says what is taken."""


class Origin(NamedTuple):
    """The log's start if both are None."""

    offset: int | None = None
    append_ms: int | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `earliest`, an offset, Unix ms, or an ISO time (in UTC unless it says otherwise). Raises NoOrigin."""
        if text == "earliest":
            return cls()
        if text.isdecimal():
            number = int(text)
            return cls(offset=number) if number < FIRST_MS else cls(append_ms=number)
        try:
            time = datetime.fromisoformat(text)
        except ValueError as error:
            raise NoOrigin(
                f"{text!r} is neither `earliest` nor an offset, a time like 2026-11-24T10:00:00Z, or Unix milliseconds"
            ) from error
        time = time if time.tzinfo else time.replace(tzinfo=UTC)
        return cls(append_ms=round(time.timestamp() * 1000))

    @property
    def is_earliest(self) -> bool:
        """Whether it is the log's start, wherever that is."""
        return self == Origin()

    def offset_in(self, log: FeedbackLog, partition: int) -> int:
        """The offset in a partition; its end where it has nothing from there on.

        Raises:
            NoOrigin: the offset lies before the log's start.
            LogUnavailable: the log cannot be read.
        """
        first, end = log.bounds(partition)
        if self.append_ms is not None:
            return log.offset_at(partition, self.append_ms)
        if self.offset is None:
            return first
        if self.offset < first:
            raise NoOrigin(
                f"partition {partition}: the log begins at {first}, it cannot be read from {self.offset}:"
                " choose a later offset, or `earliest`"
            )
        return min(self.offset, end)
