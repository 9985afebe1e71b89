"""The feedback log in one SQLite file: for the embedded default and small deployments.

Several processes may append and read at once. An append is durable when its future ends (WAL, synchronous=FULL);
appends that wait together share one commit.
"""

from __future__ import annotations

import sqlite3
import time
import uuid
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Any, NamedTuple

from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random

from service.feedback_log.base import DeadLetter, LogReset, LogUnavailable, Position, Record, partition_of

GROUP_RECORDS = 1000
READ_RECORDS = 5000
RETENTION_EVERY_S = 60
POLL_S = 0.002
BUSY_S = 10.0
MOST_MS = 2**63 - 1

SCHEMA = """
CREATE TABLE IF NOT EXISTS log (epoch BLOB NOT NULL, partitions INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS partitions (
    partition INTEGER PRIMARY KEY, next_offset INTEGER NOT NULL, last_append_ms INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS records (
    partition INTEGER NOT NULL, offset INTEGER NOT NULL, append_ms INTEGER NOT NULL,
    key BLOB NOT NULL, value BLOB NOT NULL, PRIMARY KEY (partition, offset)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS dead_letters (
    partition INTEGER NOT NULL, offset INTEGER NOT NULL, event INTEGER NOT NULL, reason TEXT NOT NULL,
    detail TEXT NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL, PRIMARY KEY (partition, offset, event)
) WITHOUT ROWID;
"""


class _Append(NamedTuple):
    partition: int
    key: bytes
    value: bytes
    done: Future[Position]


class SqliteLog:
    """A `FeedbackLog` in a file."""

    def __init__(self, path: Path, partitions: int, retention_s: int) -> None:
        """Open or create the log.

        Raises:
            LogReset: the file was made with another number of partitions.
            LogUnavailable: the file cannot be opened.
        """
        self.partitions = partitions
        self._path = path
        self._retention_ms = retention_s * 1000
        self._retention_due = time.monotonic()
        self._reading = Lock()
        self._closing = Lock()
        self._queue: SimpleQueue[_Append | None] = SimpleQueue()
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._reader = self._connect()
            self._create()
            writer = self._connect()
        except sqlite3.Error as error:
            raise LogUnavailable(f"{path}: {error}") from error
        self._closed = False
        self._writer = Thread(target=self._write_groups, args=(writer,), name="feedback-log", daemon=True)
        self._writer.start()

    def epoch(self) -> bytes:
        """16 bytes that name this file's log."""
        return bytes(self._query("SELECT epoch FROM log")[0][0])

    def append(self, key: bytes, value: bytes) -> Future[Position]:
        """Append one record; durable when the future ends."""
        done: Future[Position] = Future()
        with self._closing:
            if self._closed:
                done.set_exception(LogUnavailable("the log is closed"))
            else:
                self._queue.put(_Append(partition_of(key, self.partitions), key, value, done))
        return done

    def bounds(self, partition: int) -> tuple[int, int]:
        """The first offset kept and the next one to be given."""
        rows = self._query(
            "SELECT (SELECT min(offset) FROM records WHERE partition = p.partition), next_offset"
            " FROM partitions p WHERE partition = ?",
            partition,
        )
        first, following = rows[0]
        return following if first is None else first, following

    def read(self, partition: int, start: int, stop: int) -> Sequence[Record]:
        """Records with start ≤ offset < stop, at most 5,000 from the first."""
        rows = self._query(
            "SELECT offset, append_ms, key, value FROM records"
            " WHERE partition = ? AND offset >= ? AND offset < ? ORDER BY offset LIMIT ?",
            partition,
            start,
            stop,
            READ_RECORDS,
        )
        return [Record(*row) for row in rows]

    def offset_at(self, partition: int, append_ms: int) -> int:
        """The first offset kept that was appended at that time or later; the end if none was."""
        first, end = self.bounds(partition)
        # Times rise with the offsets, and only offsets are indexed.
        return first + bisect_left(range(first, end), append_ms, key=lambda offset: self._append_ms(partition, offset))

    def subscribe(
        self, assigned: Callable[[Collection[int]], Mapping[int, int]], revoked: Callable[[Collection[int]], None]
    ) -> SqliteSubscription:
        """Take all partitions: a file has one fold."""
        return SqliteSubscription(self, assigned, revoked)

    def dead_letter(self, letters: Sequence[DeadLetter]) -> None:
        """Keep what cannot be folded, once each."""
        try:
            with self._reading, _transaction(self._reader):
                self._reader.executemany("INSERT OR IGNORE INTO dead_letters VALUES (?, ?, ?, ?, ?, ?, ?)", letters)
        except sqlite3.Error as error:
            raise LogUnavailable(f"{self._path}: {error}") from error

    def dead_letters(self) -> list[DeadLetter]:
        """All that were kept."""
        return [DeadLetter(*row) for row in self._query("SELECT * FROM dead_letters")]

    def ends(self) -> dict[int, int]:
        """Partition → the next offset to be given."""
        return dict(self._query("SELECT partition, next_offset FROM partitions"))

    def close(self) -> None:
        """Commit what waits, then close."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            self._queue.put(None)
        self._writer.join()
        self._reader.close()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        # SQLite does not wait its turn where several make a new file a write-ahead one at once.
        waiting = Retrying(
            retry=retry_if_exception(_is_busy), stop=stop_after_delay(BUSY_S), wait=wait_random(0, 0.05), reraise=True
        )
        waiting(connection.execute, "PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    def _create(self) -> None:
        self._reader.executescript(SCHEMA)
        with _transaction(self._reader):
            row = self._reader.execute("SELECT partitions FROM log").fetchone()
            if row is None:
                self._reader.execute("INSERT INTO log VALUES (?, ?)", (uuid.uuid4().bytes, self.partitions))
                numbers = [(partition, 0, 0) for partition in range(self.partitions)]
                self._reader.executemany("INSERT INTO partitions VALUES (?, ?, ?)", numbers)
        if row is not None and row[0] != self.partitions:
            self._reader.close()
            raise LogReset(
                f"{self._path} was made with {row[0]} partitions, PARTITIONS says {self.partitions}: set it back"
            )

    def _query(self, statement: str, *values: int) -> list[Any]:
        try:
            with self._reading:
                return self._reader.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise LogUnavailable(f"{self._path}: {error}") from error

    def _append_ms(self, partition: int, offset: int) -> int:
        """When the record at that offset was appended, or the next one where retention took it."""
        statement = "SELECT append_ms FROM records WHERE partition = ? AND offset >= ? ORDER BY offset LIMIT 1"
        rows = self._query(statement, partition, offset)
        return int(rows[0][0]) if rows else MOST_MS

    def _write_groups(self, connection: sqlite3.Connection) -> None:
        stopping = False
        while not stopping:
            group: list[_Append] = []
            waiting = self._queue.get()
            try:
                while waiting is not None:
                    # From here on a caller who gives up cannot cancel it.
                    if waiting.done.set_running_or_notify_cancel():
                        group.append(waiting)
                    if len(group) == GROUP_RECORDS:
                        break
                    waiting = self._queue.get_nowait()
                stopping = waiting is None
            except Empty:
                pass
            self._commit(connection, group)
        connection.close()

    def _commit(self, connection: sqlite3.Connection, group: list[_Append]) -> None:
        """Write a group in one transaction and tell each of its futures."""
        if not group:
            return
        try:
            with _transaction(connection):
                positions = self._insert(connection, group)
        except sqlite3.Error as error:
            for append in group:
                append.done.set_exception(LogUnavailable(f"{self._path}: {error}"))
            return
        for append, position in zip(group, positions, strict=True):
            append.done.set_result(position)

    def _insert(self, connection: sqlite3.Connection, group: list[_Append]) -> list[Position]:
        now_ms = time.time_ns() // 1_000_000
        ends = {p: (end, last) for p, end, last in connection.execute("SELECT * FROM partitions")}
        positions = []
        for append in group:
            offset, last_ms = ends[append.partition]
            append_ms = max(last_ms, now_ms)
            positions.append(Position(append.partition, offset, append_ms))
            ends[append.partition] = offset + 1, append_ms
        connection.executemany(
            "INSERT INTO records VALUES (?, ?, ?, ?, ?)",
            [(*position, append.key, append.value) for append, position in zip(group, positions, strict=True)],
        )
        connection.executemany(
            "UPDATE partitions SET next_offset = ?, last_append_ms = ? WHERE partition = ?",
            [(*ends[partition], partition) for partition in {position.partition for position in positions}],
        )
        if time.monotonic() >= self._retention_due:
            self._retention_due = time.monotonic() + RETENTION_EVERY_S
            self._forget(connection, now_ms - self._retention_ms)
        return positions

    def _forget(self, connection: sqlite3.Connection, before_ms: int) -> None:
        for partition in range(self.partitions):
            connection.execute(
                "DELETE FROM records WHERE partition = ?1 AND offset < coalesce((SELECT offset FROM records WHERE"
                " partition = ?1 AND append_ms >= ?2 ORDER BY offset LIMIT 1), 9223372036854775807)",
                (partition, before_ms),
            )


def _is_busy(error: BaseException) -> bool:
    return isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode == sqlite3.SQLITE_BUSY


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


class SqliteSubscription:
    """Follows all partitions of a file by looking for new ends every two milliseconds."""

    def __init__(
        self,
        log: SqliteLog,
        assigned: Callable[[Collection[int]], Mapping[int, int]],
        revoked: Callable[[Collection[int]], None],
    ) -> None:
        self._log = log
        self._assigned = assigned
        self._revoked = revoked
        self._joined = False
        self._positions: dict[int, int] = {}

    def poll(self, timeout_s: float, limit: int) -> Mapping[int, Sequence[Record]]:
        """Wait for records; raises LogReset where a position lies outside the log."""
        if not self._joined:
            self._positions = dict(self._assigned(range(self._log.partitions)))
            self._joined = True
        deadline = time.monotonic() + timeout_s
        while True:
            found = {}
            ends = self._log.ends()
            for partition, position in self._positions.items():
                end = ends[partition]
                if position == end:
                    continue
                records = self._log.read(partition, position, min(end, position + limit)) if position < end else []
                if not records or records[0].offset != position:
                    raise LogReset(
                        f"partition {partition}: position {position} lies outside {self._log.bounds(partition)},"
                        " the offsets that the log holds",
                        [partition],
                    )
                found[partition] = records
            # Only now: what is not answered, since another partition raised, is read again.
            self._positions |= {partition: records[-1].offset + 1 for partition, records in found.items()}
            if found or time.monotonic() >= deadline:
                return found
            time.sleep(min(POLL_S, max(0.0, deadline - time.monotonic())))

    def seek(self, partition: int, offset: int) -> None:
        """Read on from `offset`."""
        self._positions[partition] = offset

    def pause(self, partition: int) -> None:
        """Read nothing of a partition until `seek`."""
        self._positions.pop(partition, None)

    def close(self) -> None:
        """Let all partitions go."""
        if self._joined:
            self._revoked(range(self._log.partitions))
            self._positions, self._joined = {}, False
