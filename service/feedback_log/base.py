"""The contract that both feedback logs keep.

A log has P partitions; a record's key chooses its partition (murmur2, as Kafka's own clients do), and offsets in a
partition rise by one. Append times come from the log's clock and never run backwards inside a partition. The epoch is
16 bytes that change when the log is made anew: an offset means nothing in another epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from typing import NamedTuple, Protocol

from service.feedback_log.murmur2 import murmur2


class LogUnavailable(Exception):  # noqa: N818 - reads as what happened
    """The log cannot take or give records now; try again."""


class LogReset(Exception):  # noqa: N818
    """The log was made anew, or lost records that were counted on: its epoch or bounds contradict what we hold.

    `partitions` are those of which that is known; none if it is the whole log.
    """

    def __init__(self, why: str, partitions: Collection[int] = ()) -> None:
        super().__init__(why)
        self.partitions = partitions


class Position(NamedTuple):
    """Where a record came to lie: partition, offset, and the log's time of it in Unix ms."""

    partition: int
    offset: int
    append_ms: int


class Record(NamedTuple):
    """A record as read back."""

    offset: int
    append_ms: int
    key: bytes
    value: bytes


class DeadLetter(NamedTuple):
    """An event that cannot be folded: where it lies, its place in its record, why, and the record as it was.

    (epoch, partition, offset, event) name it: a crash may write one twice, so count distinct names.
    """

    partition: int
    offset: int
    event: int
    reason: str
    detail: str
    key: bytes
    value: bytes


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key, the same as Kafka's default partitioner gives."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


class Subscription(Protocol):
    """A reader that shares the log's partitions with its group and follows them in order."""

    def poll(self, timeout_s: float, limit: int) -> Mapping[int, Sequence[Record]]:
        """Wait for records, at most `limit` a partition; {} when none came in time.

        Calls the listeners given to `subscribe` when the assignment changes.

        Raises:
            LogUnavailable: the log cannot be reached.
            LogReset: a position lies outside the log.
        """
        ...

    def seek(self, partition: int, offset: int) -> None:
        """Read on from `offset`; nothing happens where the partition is no longer assigned."""
        ...

    def pause(self, partition: int) -> None:
        """Read nothing of a partition until `seek` says from where on."""
        ...

    def close(self) -> None:
        """Leave the group."""
        ...


class FeedbackLog(Protocol):
    """An ordered, partitioned, durable log."""

    @property
    def partitions(self) -> int:
        """P."""
        ...

    def epoch(self) -> bytes:
        """16 bytes, asked of the log anew. Raises LogUnavailable."""
        ...

    def append(self, key: bytes, value: bytes) -> Future[Position]:
        """Append one record; the future ends when it is durable, or in LogUnavailable.

        While the log is away a future may not end for long, and its record may still be appended later: wait only as
        long as is good for you, and let whoever sent it send it again, which does no harm.
        """
        ...

    def bounds(self, partition: int) -> tuple[int, int]:
        """The first offset kept and the next one to be given. Raises LogUnavailable."""
        ...

    def ends(self) -> Mapping[int, int]:
        """Partition → the next offset to be given. Raises LogUnavailable."""
        ...

    def read(self, partition: int, start: int, stop: int) -> Sequence[Record]:
        """Records with start ≤ offset < stop, at most a few thousand of them from the first; [] past the end."""
        ...

    def offset_at(self, partition: int, append_ms: int) -> int:
        """The first offset kept whose record was appended at that time (Unix ms) or later; the end if none was.

        Raises LogUnavailable.
        """
        ...

    def subscribe(
        self, assigned: Callable[[Collection[int]], Mapping[int, int]], revoked: Callable[[Collection[int]], None]
    ) -> Subscription:
        """Join the group; `assigned` answers where to start each new partition, `revoked` is told what went.

        A partition for which `assigned` has no answer yet stands still until `seek`.
        """
        ...

    def dead_letter(self, letters: Sequence[DeadLetter]) -> None:
        """Keep what cannot be folded; durable when it returns. Raises LogUnavailable."""
        ...

    def close(self) -> None:
        """Finish what was appended, then let go."""
        ...
