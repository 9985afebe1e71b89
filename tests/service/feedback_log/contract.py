"""Both feedback logs, as the contract test needs them: opened, opened again, made anew, and cut off at their start."""

import gc
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import NamedTuple

from kafka import KafkaConsumer, TopicPartition
from kafka.admin import KafkaAdminClient

from service.feedback_log import open_log
from service.feedback_log.base import FeedbackLog
from service.settings import Settings

PARTITIONS = 3
RETENTION_S = 7 * 86_400


class Kept(NamedTuple):
    """A dead letter as it was kept: its place, why, and the record."""

    partition: int
    offset: int
    event: int
    reason: str
    detail: str
    value: bytes


class Logs(ABC):
    """One log that can be opened several times."""

    def __init__(self, settings: Callable[..., Settings], **where: str | Path) -> None:
        """`where` are the settings that say where the log lies."""
        self._settings = settings
        self._where = where
        self._open: list[FeedbackLog] = []

    def open(self, partitions: int = PARTITIONS) -> FeedbackLog:
        """The log, opened once more."""
        log = open_log(self._settings(partitions=partitions, log_retention_s=RETENTION_S, **self._where))
        self._open.append(log)
        return log

    def close(self) -> None:
        """Close all that were opened."""
        for log in self._open:
            log.close()
        self._open.clear()

    @abstractmethod
    def remove(self) -> None:
        """Delete the log, all closed; the next one to be opened is another."""

    @abstractmethod
    def forget(self, partition: int, before: int) -> None:
        """Delete the records before an offset, as retention does."""

    @abstractmethod
    def dead_letters(self) -> list[Kept]:
        """What was kept, each as often as it was."""


class SqliteLogs(Logs):
    """In a file."""

    def __init__(self, settings: Callable[..., Settings], folder: Path) -> None:
        super().__init__(settings, state_folder=folder)
        self._folder = folder

    def remove(self) -> None:
        for path in self._folder.glob("feedback.sqlite*"):
            path.unlink()

    def forget(self, partition: int, before: int) -> None:
        connection = sqlite3.connect(self._folder / "feedback.sqlite")
        with connection:
            connection.execute("DELETE FROM records WHERE partition = ? AND offset < ?", (partition, before))
        connection.close()

    def dead_letters(self) -> list[Kept]:
        connection = sqlite3.connect(self._folder / "feedback.sqlite")
        found = connection.execute("SELECT partition, offset, event, reason, detail, value FROM dead_letters")
        letters = [Kept(*row) for row in found]
        connection.close()
        return letters


class KafkaLogs(Logs):
    """In topics of their own on a broker."""

    _numbers = count()

    def __init__(self, settings: Callable[..., Settings], bootstrap: str) -> None:
        name = f"contract-{next(self._numbers)}"
        super().__init__(
            settings,
            kafka_bootstrap_servers=bootstrap,
            kafka_topic=name,
            kafka_dead_letter_topic=f"{name}.dead-letter",
            kafka_group=name,
        )
        self._bootstrap = bootstrap
        self._name = name

    def close(self) -> None:
        super().close()
        gc.collect()  # here, where they are expected, the sockets that kafka-python leaves behind do no harm

    def remove(self) -> None:
        with KafkaAdminClient(bootstrap_servers=self._bootstrap) as admin:
            admin.delete_topics([self._name])
            while self._name in admin.list_topics():
                pass

    def forget(self, partition: int, before: int) -> None:
        with KafkaAdminClient(bootstrap_servers=self._bootstrap) as admin:
            admin.delete_records({TopicPartition(self._name, partition): before})

    def dead_letters(self) -> list[Kept]:
        at = TopicPartition(f"{self._name}.dead-letter", 0)
        letters: list[Kept] = []
        with KafkaConsumer(bootstrap_servers=self._bootstrap, auto_offset_reset="none") as consumer:
            consumer.assign([at])
            consumer.seek(at, 0)
            end = consumer.end_offsets([at])[at]
            while len(letters) < end:
                for record in consumer.poll(timeout_ms=500).get(at, []):
                    _, partition, offset, event = record.key.decode().split(":")
                    why = {name: value.decode() for name, value in record.headers}
                    letters.append(
                        Kept(int(partition), int(offset), int(event), why["reason"], why["detail"], record.value)
                    )
        return letters
