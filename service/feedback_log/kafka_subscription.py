"""A fold's place in Kafka's consumer group: which partitions it reads, and from where."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from threading import Lock
from typing import Any

from kafka import ConsumerRebalanceListener, TopicPartition
from kafka.errors import KafkaError, OffsetOutOfRangeError

from service.feedback_log.base import LogReset, LogUnavailable, Record


class KafkaSubscription:
    """A member of the consumer group.

    The client calls its listener on the thread that also sends heartbeats, so the listener only takes notes; where to
    start, which asks Redis and reads the log, is asked in `poll`.
    """

    def __init__(
        self,
        consumer: Any,
        topic: str,
        assigned: Callable[[Collection[int]], Mapping[int, int]],
        revoked: Callable[[Collection[int]], None],
    ) -> None:
        self._consumer = consumer
        self._topic = topic
        self._assigned = assigned
        self._revoked = revoked
        self._notes = _Notes(consumer)
        self._pending: list[tuple[set[int], set[int]]] = []
        self._held: set[int] = set()
        consumer.subscribe([topic], listener=self._notes)

    def poll(self, timeout_s: float, limit: int) -> Mapping[int, Sequence[Record]]:
        """Wait for records; {} also while the brokers are away."""
        # kafka-python forgets a rebalance that a poll's end cuts in two, if it was metadata that asked for it: the
        # brokers then think that this member reads, and it waits for ever.
        coordinator = self._consumer._coordinator
        if coordinator.rejoining:
            coordinator.request_rejoin()
        try:
            found = self._consumer.poll(int(timeout_s * 1000), max_records=limit)
        except OffsetOutOfRangeError as error:
            partitions = [at.partition for at in error.args[0]]
            raise LogReset(f"positions lie outside the log: {error}", partitions) from error
        except KafkaError as error:
            raise LogUnavailable(f"{self._topic}: {error}") from error
        moved = self._rebalanced()  # what came of these is older than where they now start
        return {
            at.partition: [record_of(record) for record in records]
            for at, records in found.items()
            if at.partition not in moved
        }

    def seek(self, partition: int, offset: int) -> None:
        """Read on from `offset`."""
        at = TopicPartition(self._topic, partition)
        if at in self._consumer.assignment():
            self._consumer.seek(at, offset)
            self._consumer.resume(at)

    def pause(self, partition: int) -> None:
        """Read nothing of a partition until `seek`."""
        at = TopicPartition(self._topic, partition)
        if at in self._consumer.assignment():
            self._consumer.pause(at)

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()
        if self._held:
            self._revoked(self._held)
            self._held = set()

    def _rebalanced(self) -> set[int]:
        """Act on the listener's notes; the partitions they speak of. A note that cannot be acted on now is kept."""
        self._pending += self._notes.take()
        moved: set[int] = set().union(*(gone | come for gone, come in self._pending))
        while self._pending:
            gone, come = self._pending[0]
            if gone & self._held:
                self._revoked(gone & self._held)
                self._held -= gone
            if come:
                for partition, offset in self._assigned(come).items():
                    self.seek(partition, offset)
                self._held |= come
            del self._pending[0]
        return moved


class _Notes(ConsumerRebalanceListener):  # type: ignore[misc]
    """Remembers what was revoked and assigned, in order, and keeps new partitions still until they are started."""

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        self._lock = Lock()
        self._notes: list[tuple[set[int], set[int]]] = []

    def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        with self._lock:
            self._notes.append(({at.partition for at in revoked}, set()))

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        for at in assigned:
            # Without a position the client would look for a committed one, and there is none.
            self._consumer.seek(at, 0)
            self._consumer.pause(at)
        with self._lock:
            self._notes.append((set(), {at.partition for at in assigned}))

    def take(self) -> list[tuple[set[int], set[int]]]:
        with self._lock:
            notes, self._notes = self._notes, []
            return [note for note in notes if note[0] or note[1]]


def record_of(record: Any) -> Record:
    """A record as kafka-python answers it."""
    return Record(record.offset, record.timestamp, record.key or b"", record.value or b"")
