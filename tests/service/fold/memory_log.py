"""A feedback log in memory whose clock, bounds and consumer group a test moves at will.

`Topic` is what the brokers would hold; a `MemoryLog` is one process's client of it.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from typing import NamedTuple

from service.feedback_log.base import DeadLetter, LogReset, Position, Record, partition_of

Assigned = Callable[[Collection[int]], Mapping[int, int]]
Revoked = Callable[[Collection[int]], None]
Epoch = bytes
Place = tuple[int, int, int]  # partition, offset, index in the record


class Topic:
    """Records, dead letters, and a group whose members share the partitions."""

    def __init__(self, partitions: int, now_ms: int) -> None:
        self.partitions = partitions
        self.now_ms = now_ms
        self.epoch = bytes(15) + b"\1"
        self.starts = [0] * partitions
        self.records: list[list[Record]] = [[] for _ in range(partitions)]
        self.letters: set[tuple[Epoch, Place]] = set()
        self.generation = 0
        self._members: list[MemorySubscription] = []

    def append(self, partition: int, key: bytes, value: bytes) -> Record:
        """Append to a partition, whether it is the key's own or not."""
        record = Record(len(self.records[partition]), self.now_ms, key, value)
        self.records[partition].append(record)
        return record

    def make_anew(self) -> None:
        """Delete the topic and create it again: offsets begin at 0 under another epoch."""
        self.epoch = bytes(15) + bytes([self.epoch[-1] + 1])
        self.starts = [0] * self.partitions
        self.records = [[] for _ in range(self.partitions)]

    def join(self, member: "MemorySubscription") -> None:
        """Share the partitions with one member more."""
        if member not in self._members:
            self._members.append(member)
            self.generation += 1

    def put_out(self, member: "MemorySubscription") -> None:
        """Share the partitions without a member, which may not know."""
        if member in self._members:
            self._members.remove(member)
            self.generation += 1

    def rotate(self) -> None:
        """Deal the partitions out otherwise."""
        self._members = self._members[1:] + self._members[:1]
        self.generation += 1

    def share(self, member: "MemorySubscription") -> set[int]:
        """A member's partitions."""
        at = self._members.index(member)
        return set(range(at, self.partitions, len(self._members)))

    def read_at(self, partition: int) -> list[int]:
        """Where members read a partition: more than one of them, while some do not know of a change yet."""
        found = [member.reads_at(partition) for member in self._members]
        return [position for position in found if position is not None]


class Failure(NamedTuple):
    """What the next call of `call` (poll, read or letters) on a log runs into; dead letters are half kept first."""

    call: str
    error: BaseException


class MemoryLog:
    """A `FeedbackLog`: one client of a topic."""

    def __init__(self, topic: Topic) -> None:
        self.topic = topic
        self.failure: Failure | None = None
        self.subscription: MemorySubscription | None = None

    @property
    def partitions(self) -> int:
        return self.topic.partitions

    def epoch(self) -> bytes:
        return self.topic.epoch

    def append(self, key: bytes, value: bytes) -> Future[Position]:
        done: Future[Position] = Future()
        partition = partition_of(key, self.partitions)
        record = self.topic.append(partition, key, value)
        done.set_result(Position(partition, record.offset, record.append_ms))
        return done

    def bounds(self, partition: int) -> tuple[int, int]:
        return self.topic.starts[partition], len(self.topic.records[partition])

    def ends(self) -> Mapping[int, int]:
        return {partition: len(records) for partition, records in enumerate(self.topic.records)}

    def read(self, partition: int, start: int, stop: int) -> Sequence[Record]:
        if start < stop:
            self.fail("read")
        first = max(start, self.topic.starts[partition])
        return self.topic.records[partition][first:stop][:5]

    def offset_at(self, partition: int, append_ms: int) -> int:
        start, end = self.bounds(partition)
        records = self.topic.records[partition]
        return next((offset for offset in range(start, end) if records[offset].append_ms >= append_ms), end)

    def subscribe(self, assigned: Assigned, revoked: Revoked) -> "MemorySubscription":
        self.subscription = MemorySubscription(self, assigned, revoked)
        return self.subscription

    def dead_letter(self, letters: Sequence[DeadLetter]) -> None:
        failure, self.failure = self.failure, None
        kept = letters if failure is None or failure.call != "letters" else letters[: len(letters) // 2]
        self.topic.letters |= {(self.topic.epoch, letter[:3]) for letter in kept}
        self.failure = failure
        self.fail("letters")

    def close(self) -> None:
        """Nothing waits."""

    def fail(self, call: str) -> None:
        """Run into the failure that waits for this call, once."""
        if self.failure is not None and self.failure.call == call:
            error, self.failure = self.failure.error, None
            raise error


class MemorySubscription:
    """A member of the group. What it fetched before it was put out it still hands over, as a real client does."""

    def __init__(self, log: MemoryLog, assigned: Assigned, revoked: Revoked) -> None:
        self.batch = 1 << 30  # most records a partition that a poll hands over
        self._log, self._topic = log, log.topic
        self._assigned, self._revoked = assigned, revoked
        self._generation = -1
        self._held: set[int] = set()
        self._told = True  # whether the fold knows what it holds
        self._positions: dict[int, int] = {}  # of what is held and not paused
        self._fetched: dict[int, list[Record]] = {}
        self._topic.join(self)

    def fetch(self) -> None:
        """Fetch ahead of the next poll."""
        if self._generation == self._topic.generation:
            self._fetched = self._next(1 << 30)

    def poll(self, timeout_s: float, limit: int) -> Mapping[int, Sequence[Record]]:
        self._log.fail("poll")
        found = {p: records for p, records in self._fetched.items() if records[0].offset == self._positions.get(p)}
        self._fetched = {}
        if not found:
            self._rejoin()
            found = self._next(self.batch)
        found = {partition: records[:limit] for partition, records in found.items()}
        self._positions |= {partition: records[-1].offset + 1 for partition, records in found.items()}
        return found

    def seek(self, partition: int, offset: int) -> None:
        if partition in self._held:
            self._positions[partition] = offset

    def reads_at(self, partition: int) -> int | None:
        """The next offset it would hand over."""
        return self._positions.get(partition)

    def pause(self, partition: int) -> None:
        self._positions.pop(partition, None)

    def close(self) -> None:
        self._topic.put_out(self)
        held, self._held, self._positions = self._held, set(), {}
        if held:
            self._revoked(held)

    def _rejoin(self) -> None:
        """Take part in what the group agreed on meanwhile; what fails on the fold's side is tried again."""
        if self._generation != self._topic.generation:
            self._topic.join(self)
            self._generation = self._topic.generation
            gone, self._held, self._positions = self._held, self._topic.share(self), {}
            self._told = False
            if gone:
                self._revoked(gone)
        if not self._told:
            self._positions |= self._assigned(self._held)
            self._told = True

    def _next(self, limit: int) -> dict[int, list[Record]]:
        found = {}
        for partition, position in self._positions.items():
            start, records = self._topic.starts[partition], self._topic.records[partition]
            if not start <= position <= len(records):
                raise LogReset(f"partition {partition}: position {position} lies outside {start}–{len(records)}")
            if position < len(records):
                found[partition] = records[position : position + limit]
        return found
