"""The feedback log: the ordered, partitioned, durable record of all events, behind one contract."""

from __future__ import annotations

from service.feedback_log.base import FeedbackLog
from service.settings import Settings


def open_log(settings: Settings) -> FeedbackLog:
    """The log that the settings name: Kafka if KAFKA_BOOTSTRAP_SERVERS is set, else SQLite.

    Raises:
        LogUnavailable: it cannot be reached.
        LogReset: it was made with another number of partitions.
    """
    if settings.kafka_bootstrap_servers:
        from service.feedback_log.kafka import KafkaLog  # noqa: PLC0415 - takes 0.2 s that SQLite need not wait

        return KafkaLog(settings)
    from service.feedback_log.sqlite import SqliteLog  # noqa: PLC0415

    return SqliteLog(settings.feedback_database, settings.partitions, settings.log_retention_s)
