"""The feedback log in Apache Kafka: for clusters.

The topic is created with LogAppendTime, so that append times are the brokers'. Its topic id, which changes when a topic
is made anew, is the epoch.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from threading import Lock
from typing import Any

import structlog
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaConnectionError, KafkaError, OffsetOutOfRangeError, TopicAlreadyExistsError
from kafka.net.compat import KafkaNetClient

from service.feedback_log.base import DeadLetter, LogReset, LogUnavailable, Position, Record, partition_of
from service.feedback_log.kafka_subscription import KafkaSubscription, record_of
from service.settings import Settings

logger = structlog.get_logger(__name__)
PATIENCE_MS = 4000
MOST_OUTSTANDING = 20_000
READ_RECORDS = 5000
METADATA_AGE_MS = 3000
HEARTBEAT_MS = 500
FETCH_BYTES = 4 << 20


class _Failures(logging.Handler):
    """Why the last connection failed, password or certificate: kafka-python tells it to its log alone."""

    last = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the error that a line about a connection tells of."""
        if "onnection" not in record.msg or not isinstance(record.args, tuple):
            return
        for told in record.args:
            # Brokers also simply hang up on somebody whom they have turned away: why is what they said before that.
            if isinstance(told, Exception) and not (self.last and isinstance(told, KafkaConnectionError)):
                self.last = f" ({told})"


_failures = _Failures(logging.WARNING)
_connections = logging.getLogger("kafka.net.manager")
_connections.addHandler(_failures)
_connections.setLevel(logging.WARNING)
_connections.propagate = False


class KafkaLog:
    """A `FeedbackLog` in a topic, with its dead letters in another."""

    def __init__(self, settings: Settings) -> None:
        """Reach the cluster and create the topics that are missing.

        Raises:
            LogUnavailable: no broker answers.
            LogReset: the topic has another number of partitions, or other time stamps than the log's own.
        """
        self.partitions = settings.partitions
        self._topic = settings.kafka_topic
        self._dead_letter_topic = settings.kafka_dead_letter_topic
        self._group = settings.kafka_group
        self._session_ms = int(settings.kafka_session_s * 1000)
        self._clients: list[Any] = []
        self._connection = {
            "bootstrap_servers": settings.kafka_bootstrap_servers,
            "request_timeout_ms": PATIENCE_MS,
            "reconnect_backoff_max_ms": 1000,
            "bootstrap_timeout_ms": PATIENCE_MS,
            **_security(settings),
        }
        self._outstanding: deque[tuple[float, Future[Position]]] = deque()
        self._reading = Lock()
        try:
            self._admin = self._client(KafkaAdminClient)
            self._create(settings)
            # A batch that runs into its delivery timeout leaves an idempotent producer stuck: there must be none. Who
            # waits for an append bounds the wait instead.
            self._producer = self._client(
                KafkaProducer, acks="all", enable_idempotence=True, delivery_timeout_ms=10**9, max_block_ms=1000
            )
            self._producer.partitions_for(self._topic)
            self._reader = self._client(KafkaConsumer, auto_offset_reset="none", enable_auto_commit=False)
        except KafkaError as error:
            self.close()
            raise LogUnavailable(f"{settings.kafka_bootstrap_servers}: {error}{_failures.last}") from error
        except LogReset:
            self.close()
            raise

    def epoch(self) -> bytes:
        """The topic's id."""
        topic_id = self._describe()["topic_id"]
        if topic_id is None:
            raise LogUnavailable(f"there is no topic {self._topic}")
        return uuid.UUID(str(topic_id)).bytes

    def append(self, key: bytes, value: bytes) -> Future[Position]:
        """Append one record; refused at once while earlier ones wait for longer than they should."""
        done: Future[Position] = Future()
        if self._overdue():
            done.set_exception(LogUnavailable("Kafka does not acknowledge"))
            return done
        if self._producer._metadata.partitions_for_topic(self._topic) is None:
            # Sending would wait until the topic is known; who appends must not be held up.
            self._producer._metadata.request_update()
            done.set_exception(LogUnavailable(f"the brokers do not know the topic {self._topic}"))
            return done
        try:
            sent = self._producer.send(self._topic, value, key, partition=partition_of(key, self.partitions))
        except KafkaError as error:
            done.set_exception(LogUnavailable(str(error)))
            return done
        self._outstanding.append((time.monotonic(), done))
        sent.add_callback(lambda told: done.set_result(Position(told.partition, told.offset, told.timestamp)))
        sent.add_errback(lambda error: done.set_exception(LogUnavailable(str(error))))
        return done

    def bounds(self, partition: int) -> tuple[int, int]:
        """The first offset kept and the next one to be given."""
        at = TopicPartition(self._topic, partition)
        with self._reading:
            return self._bounds(at)

    def ends(self) -> Mapping[int, int]:
        """Partition → the next offset to be given."""
        partitions = [TopicPartition(self._topic, partition) for partition in range(self.partitions)]
        with self._reading:
            try:
                found = self._reader.end_offsets(partitions, timeout_ms=PATIENCE_MS)
            except KafkaError as error:
                raise LogUnavailable(f"{self._topic}: {error}") from error
        return {at.partition: end for at, end in found.items()}

    def read(self, partition: int, start: int, stop: int) -> Sequence[Record]:
        """Records with start ≤ offset < stop, at most 5,000 from the first."""
        at = TopicPartition(self._topic, partition)
        with self._reading:
            stop = min(stop, self._bounds(at)[1])
            if start >= stop:
                return []
            if self._reader.assignment() != {at}:
                self._reader.assign([at])
            self._reader.seek(at, start)
            found = self._poll_reader(at)
            return [record_of(record) for record in found if record.offset < stop]

    def offset_at(self, partition: int, append_ms: int) -> int:
        """The first offset kept that was appended at that time or later; the end if none was."""
        at = TopicPartition(self._topic, partition)
        with self._reading:
            try:
                found = self._reader.offsets_for_times({at: max(0, append_ms)}, timeout_ms=PATIENCE_MS)[at]
            except KafkaError as error:
                raise LogUnavailable(f"{self._topic}: {error}") from error
            return int(self._bounds(at)[1] if found is None else found.offset)

    def subscribe(
        self, assigned: Callable[[Collection[int]], Mapping[int, int]], revoked: Callable[[Collection[int]], None]
    ) -> KafkaSubscription:
        """Join the consumer group, which shares the partitions among its folds. Raises LogUnavailable."""
        try:
            consumer = self._client(
                KafkaConsumer,
                group_id=self._group,
                auto_offset_reset="none",
                enable_auto_commit=False,
                max_poll_records=READ_RECORDS,
                # Large batches where there is a backlog.
                max_partition_fetch_bytes=FETCH_BYTES,
                fetch_max_wait_ms=50,
                # How long a killed fold's partitions lie idle, and those of one that left or came.
                session_timeout_ms=self._session_ms,
                heartbeat_interval_ms=HEARTBEAT_MS,
                # Who joins before a new topic is known everywhere is assigned nothing, until it is looked for again.
                metadata_max_age_ms=METADATA_AGE_MS,
            )
        except KafkaError as error:
            raise LogUnavailable(f"{self._connection['bootstrap_servers']}: {error}{_failures.last}") from error
        return KafkaSubscription(consumer, self._topic, assigned, revoked)

    def dead_letter(self, letters: Sequence[DeadLetter]) -> None:
        """Keep what cannot be folded: keyed by its place, with the reason in the headers and the record as value."""
        epoch = self.epoch().hex()
        try:
            sent = [
                self._producer.send(
                    self._dead_letter_topic,
                    letter.value,
                    f"{epoch}:{letter.partition}:{letter.offset}:{letter.event}".encode(),
                    headers=[("reason", letter.reason.encode()), ("detail", letter.detail.encode())],
                )
                for letter in letters
            ]
            for future in sent:
                future.get(timeout=PATIENCE_MS / 1000)
        except KafkaError as error:
            raise LogUnavailable(f"{self._dead_letter_topic}: {error}") from error

    def close(self) -> None:
        """Send what waits, then let go."""
        for client in reversed(self._clients):
            try:
                client.close(**({"timeout": PATIENCE_MS / 1000} if isinstance(client, KafkaProducer) else {}))
            except KafkaError as error:
                logger.warning("a Kafka client did not close in time", error=str(error))
        self._clients.clear()

    def _client(self, kind: type[Any], **settings: Any) -> Any:
        networks: list[KafkaNetClient] = []
        _failures.last = ""

        def network(**config: Any) -> KafkaNetClient:
            networks.append(KafkaNetClient(**config))
            return networks[0]

        try:
            client = kind(kafka_client=network, **self._connection, **settings)
        except KafkaError:
            # A client that cannot connect leaves a thread and its sockets behind: who waits for brokers would drown.
            for left in networks:
                left.close()
            raise
        self._clients.append(client)
        return client

    def _create(self, settings: Settings) -> None:
        common = {"replication_factor": settings.kafka_replication}
        retention = {"retention.ms": str(settings.log_retention_s * 1000)}
        wanted = {
            self._topic: {
                **common,
                "num_partitions": self.partitions,
                "configs": {**retention, "message.timestamp.type": "LogAppendTime"},
            },
            self._dead_letter_topic: {**common, "num_partitions": 1, "configs": retention},
        }
        present = set(self._admin.list_topics())
        missing = {name: topic for name, topic in wanted.items() if name not in present}
        if missing:
            with suppress(TopicAlreadyExistsError):  # another process was faster
                self._admin.create_topics(missing, wait_for_metadata=True)
        partitions = len(self._describe()["partitions"])
        if partitions != self.partitions:
            raise LogReset(
                f"topic {self._topic} has {partitions} partitions, PARTITIONS says {self.partitions}: set it to that"
            )

    def _describe(self) -> dict[str, Any]:
        try:
            described: dict[str, Any] = self._admin.describe_topics([self._topic])[0]
        except KafkaError as error:
            raise LogUnavailable(f"{self._topic}: {error}") from error
        return described

    def _overdue(self) -> bool:
        """Whether the oldest append that has not ended waits for too long, or too many wait."""
        waiting = self._outstanding
        while waiting and waiting[0][1].done():
            waiting.popleft()
        if not waiting:
            return False
        return len(waiting) >= MOST_OUTSTANDING or time.monotonic() - waiting[0][0] > PATIENCE_MS / 1000

    def _bounds(self, at: TopicPartition) -> tuple[int, int]:
        try:
            first = self._reader.beginning_offsets([at], timeout_ms=PATIENCE_MS)[at]
            return first, self._reader.end_offsets([at], timeout_ms=PATIENCE_MS)[at]
        except KafkaError as error:
            raise LogUnavailable(f"{self._topic}: {error}") from error

    def _poll_reader(self, at: TopicPartition) -> Sequence[Any]:
        deadline = time.monotonic() + PATIENCE_MS / 1000
        while time.monotonic() < deadline:
            try:
                found: Sequence[Any] = self._reader.poll(200, max_records=READ_RECORDS).get(at, ())
            except OffsetOutOfRangeError as error:
                raise LogReset(f"{at.topic} lost records while they were read: {error}") from error
            if found:
                return found
        raise LogUnavailable(f"{self._topic}: no records within {PATIENCE_MS} ms")


def _security(settings: Settings) -> dict[str, Any]:
    """What the clients need to know to be let in, and to know whom they talk to."""
    security: dict[str, Any] = {"security_protocol": settings.kafka_security_protocol}
    if settings.kafka_security_protocol.startswith("SASL"):
        password = settings.kafka_password
        security |= {
            "sasl_mechanism": settings.kafka_sasl_mechanism,
            "sasl_plain_username": settings.kafka_username,
            "sasl_plain_password": password and password.get_secret_value(),
        }
    files = {
        "ssl_cafile": settings.kafka_ca_file,
        "ssl_certfile": settings.kafka_certificate_file,
        "ssl_keyfile": settings.kafka_key_file,
    }
    return security | {name: str(path) for name, path in files.items() if path is not None}
