"""What the contract leaves to the file: several processes, crashes, retention by age, and a disk that fails."""

import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Barrier

import pytest

from service.feedback_log.base import DeadLetter, LogReset, LogUnavailable, partition_of
from service.feedback_log.sqlite import GROUP_RECORDS, READ_RECORDS, SqliteLog

DAY_S = 86_400
LETTER = DeadLetter(0, 1, 0, "late", "", b"key", b"value")
WRITER = """
import sys
from pathlib import Path
from service.feedback_log.sqlite import SqliteLog

log = SqliteLog(Path(sys.argv[1]), 1, 86400)
print("ready", flush=True)
sys.stdin.readline()
for n in range(int(sys.argv[3])):
    print(log.append(b"key", f"{sys.argv[2]}/{n}".encode()).result().offset, flush=True)
log.close()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "feedback.sqlite"


@pytest.fixture
def log(path: Path) -> Iterator[SqliteLog]:
    log = SqliteLog(path, 1, DAY_S)
    yield log
    log.close()


def append(log: SqliteLog, *values: bytes) -> list[int]:
    """The offsets of values under one key, all durable."""
    return [future.result(30).offset for future in [log.append(b"key", value) for value in values]]


def execute(path: Path, statement: str, *values: object) -> None:
    """Change the file behind the log's back."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement, values)


def writer(path: Path, name: str, records: int) -> "subprocess.Popen[str]":
    """Another process that waits for a line, then appends, telling each offset that was acknowledged."""
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), name, str(records)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_an_append_is_flushed_to_the_disk_before_it_ends(log: SqliteLog) -> None:
    for connection in (log._connect(), log._reader):
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,), "FULL"
        if connection is not log._reader:
            connection.close()


def test_several_processes_append_at_once(log: SqliteLog, path: Path) -> None:
    writers = [writer(path, name, 40) for name in ("a", "b", "c")]
    for process in writers:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    acknowledged: dict[int, bytes] = {}
    with ThreadPoolExecutor(len(writers)) as pool:
        told = list(pool.map(lambda process: process.communicate("go\n", timeout=60)[0], writers))
        mine = append(log, *(b"own/%d" % n for n in range(40)))
    for name, lines in zip("abc", told, strict=True):
        acknowledged |= {int(offset): f"{name}/{n}".encode() for n, offset in enumerate(lines.split())}
    acknowledged |= {offset: b"own/%d" % n for n, offset in enumerate(mine)}
    records = log.read(0, 0, 1000)
    assert [record.offset for record in records] == list(range(160))
    assert {record.offset: record.value for record in records} == acknowledged
    times = [record.append_ms for record in records]
    assert times == sorted(times)


def test_several_processes_open_a_new_log_at_once(path: Path) -> None:
    together = Barrier(6)

    def start(attempt: int) -> bytes:
        together.wait()
        with closing(SqliteLog(path.with_name(f"{attempt}.sqlite"), 4, DAY_S)) as log:
            return log.epoch()

    with ThreadPoolExecutor(6) as pool:
        for attempt in range(10):
            assert len(set(pool.map(start, [attempt] * 6))) == 1


def test_a_writer_that_is_killed_loses_nothing_that_it_acknowledged(path: Path) -> None:
    acknowledged: dict[int, bytes] = {}
    for name in ("first", "second"):
        process = writer(path, name, 1_000_000)
        with process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.stdin.write("go\n")
            process.stdin.flush()
            lines = [process.stdout.readline() for _ in range(50)]
            process.send_signal(signal.SIGKILL)
            lines += process.stdout.readlines()
        assert process.returncode == -signal.SIGKILL
        # The last line may be cut off.
        whole = [int(line) for line in lines if line.endswith("\n")]
        acknowledged |= {offset: f"{name}/{n}".encode() for n, offset in enumerate(whole)}
    with closing(SqliteLog(path, 1, DAY_S)) as log:
        kept = {record.offset: record.value for record in log.read(0, 0, 10**9)}
        assert acknowledged.items() <= kept.items()
        assert list(kept) == list(range(len(kept)))
        assert log.bounds(0) == (0, len(kept))
        assert append(log, b"after") == [len(kept)]


def test_another_number_of_partitions_is_refused_with_what_to_do(log: SqliteLog, path: Path) -> None:
    told = f"{re.escape(str(path))} was made with 1 partitions, PARTITIONS says 2: set it back"
    with pytest.raises(LogReset, match=told):
        SqliteLog(path, 2, DAY_S)
    assert append(log, b"goes on") == [0]


def test_appends_that_wait_together_share_commits_and_keep_their_order(log: SqliteLog) -> None:
    sent = [b"%d" % n for n in range(3 * GROUP_RECORDS + 7)]
    assert append(log, *sent) == list(range(len(sent)))
    assert [record.value for record in log.read(0, 0, len(sent))] == sent


def test_a_long_range_is_read_in_parts(log: SqliteLog) -> None:
    append(log, *[b"v"] * (READ_RECORDS + 5))
    assert [record.offset for record in log.read(0, 2, READ_RECORDS + 5)] == list(range(2, READ_RECORDS + 2))
    assert len(log.read(0, READ_RECORDS + 2, READ_RECORDS + 5)) == 3


def test_the_clock_may_go_back_but_append_times_do_not(log: SqliteLog, path: Path) -> None:
    append(log, b"now")
    ahead = log.read(0, 0, 1)[0].append_ms + 3_600_000
    execute(path, "UPDATE partitions SET last_append_ms = ?", ahead)
    append(log, b"before", b"before")
    assert [record.append_ms for record in log.read(0, 1, 3)] == [ahead, ahead]


def test_retention_takes_what_is_old_and_never_gives_an_offset_again(path: Path) -> None:
    with closing(SqliteLog(path, 2, DAY_S)) as log:
        keys = [next(key for n in range(99) if partition_of(key := b"%d" % n, 2) == p) for p in (0, 1)]
        for _ in range(5):
            for key in keys:
                log.append(key, b"v").result(30)
    # A partition loses its first three, and all of the other.
    execute(path, "UPDATE records SET append_ms = append_ms - 86400001 WHERE partition = 1 OR offset < 3")
    with closing(SqliteLog(path, 2, DAY_S)) as log:
        assert (log.bounds(0), log.bounds(1)) == ((0, 5), (0, 5))
        assert log.append(keys[0], b"new").result(30).offset == 5
        assert log.bounds(0) == (3, 6)
        assert log.bounds(1) == (5, 5)
        assert log.read(1, 0, 100) == []
        assert log.append(keys[1], b"new").result(30).offset == 5
        assert log.bounds(1) == (5, 6)


def test_retention_leaves_no_hole(path: Path) -> None:
    with closing(SqliteLog(path, 1, DAY_S)) as log:
        append(log, *[b"v"] * 6)
    execute(path, "UPDATE records SET append_ms = append_ms - 86400001 WHERE offset IN (0, 1, 4)")
    with closing(SqliteLog(path, 1, DAY_S)) as log:
        append(log, b"new")
        assert [record.offset for record in log.read(0, 0, 100)] == [2, 3, 4, 5, 6]


def test_an_append_that_was_cancelled_in_time_is_not_written(log: SqliteLog, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        first = log.append(b"key", b"first")
        while not first.running():
            pass
        second, third = log.append(b"key", b"second"), log.append(b"key", b"third")
        assert not first.cancel()
        assert second.cancel()
        other.execute("ROLLBACK")
    assert (first.result(30).offset, third.result(30).offset) == (0, 1)
    with pytest.raises(CancelledError):
        second.result(30)
    assert [record.value for record in log.read(0, 0, 10)] == [b"first", b"third"]


def test_nothing_that_was_appended_while_the_log_closes_waits_for_ever(path: Path) -> None:
    for _ in range(20):
        log, together = SqliteLog(path, 1, DAY_S), Barrier(2)

        def write(log: SqliteLog = log, together: Barrier = together) -> list[bool]:
            together.wait()
            return [log.append(b"key", b"v").exception(30) is None for _ in range(20)]

        with ThreadPoolExecutor(1) as pool:
            written = pool.submit(write)
            together.wait()
            log.close()
            taken = written.result()
        assert taken == sorted(taken, reverse=True)


def test_a_log_that_cannot_be_opened_is_unavailable(tmp_path: Path) -> None:
    broken = tmp_path / "feedback.sqlite"
    broken.write_bytes(b"this is not a database, whatever its name says" * 100)
    with pytest.raises(LogUnavailable, match="not a database"):
        SqliteLog(broken, 1, DAY_S)


def test_a_log_that_cannot_be_written_says_so_and_goes_on_when_it_can(log: SqliteLog, path: Path) -> None:
    execute(path, "CREATE TRIGGER full BEFORE INSERT ON records BEGIN SELECT RAISE(ABORT, 'disk is full'); END")
    with pytest.raises(LogUnavailable, match="disk is full"):
        append(log, b"refused")
    execute(path, "DROP TRIGGER full")
    assert append(log, b"taken") == [0]
    assert log.bounds(0) == (0, 1)


def test_dead_letters_that_cannot_be_kept_say_so_and_are_kept_when_they_can(log: SqliteLog, path: Path) -> None:
    execute(path, "CREATE TRIGGER full BEFORE INSERT ON dead_letters BEGIN SELECT RAISE(ABORT, 'disk is full'); END")
    with pytest.raises(LogUnavailable, match="disk is full"):
        log.dead_letter([LETTER])
    assert append(log, b"others go on") == [0]
    execute(path, "DROP TRIGGER full")
    log.dead_letter([LETTER, LETTER._replace(event=1)])
    log.dead_letter([LETTER._replace(reason="again")])
    assert log.dead_letters() == [LETTER, LETTER._replace(event=1)]


def test_a_log_that_cannot_be_read_is_unavailable(log: SqliteLog, path: Path) -> None:
    append(log, b"v")
    execute(path, "ALTER TABLE records RENAME TO gone")
    for ask in (lambda: log.bounds(0), lambda: log.read(0, 0, 1)):
        with pytest.raises(LogUnavailable, match="no such table"):
            ask()
    execute(path, "ALTER TABLE gone RENAME TO records")
    assert log.bounds(0) == (0, 1)


def test_a_closed_log_is_unavailable(log: SqliteLog) -> None:
    log.close()
    with pytest.raises(LogUnavailable, match="closed"):
        log.append(b"key", b"v").result(30)
    with pytest.raises(LogUnavailable, match="closed"):
        log.epoch()


def test_what_was_read_beside_a_partition_that_raised_is_read_again(path: Path) -> None:
    """A poll answers all it read or nothing of it: else a record would be passed over."""
    with closing(SqliteLog(path, 2, DAY_S)) as log:
        keys = [next(key for n in range(99) if partition_of(key := b"%d" % n, 2) == p) for p in (0, 1)]
        for key in keys:
            log.append(key, b"v").result(30)
        subscription = log.subscribe(lambda partitions: dict.fromkeys(partitions, 0), lambda _: None)
        subscription.poll(0, 10)
        subscription.seek(0, 0)
        subscription.seek(1, 9)
        with pytest.raises(LogReset, match=r"partition 1: position 9 lies outside \(0, 1\)"):
            subscription.poll(0, 10)
        subscription.seek(1, 1)
        assert {partition: len(records) for partition, records in subscription.poll(0, 10).items()} == {0: 1}
        subscription.close()


def test_a_log_is_only_reset_for_the_partition_that_lost_records(path: Path) -> None:
    with closing(SqliteLog(path, 1, DAY_S)) as log:
        append(log, b"v", b"v")
        execute(path, "DELETE FROM records")
        subscription = log.subscribe(lambda partitions: dict.fromkeys(partitions, 1), lambda _: None)
        with pytest.raises(LogReset, match=r"position 1 lies outside \(2, 2\)"):
            subscription.poll(0, 10)
