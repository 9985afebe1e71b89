"""One contract over both feedback logs, on the real things."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from service.feedback_log.base import (
    DeadLetter,
    FeedbackLog,
    LogReset,
    LogUnavailable,
    Position,
    Record,
    Subscription,
    partition_of,
)
from service.settings import Settings
from tests.kafka_server import KafkaServer
from tests.service.feedback_log.contract import PARTITIONS, KafkaLogs, Kept, Logs, SqliteLogs

PATIENCE_S = 30.0
# A few polls are needed where a group gathers first.
POLLS = 150
POLL_S = 0.2


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real broker."""
    KafkaServer.require()
    with KafkaServer(tmp_path_factory.mktemp("kafka")) as server:
        yield server.bootstrap


# kafka-python leaves a socket behind when it is closed while it connects.
LEAVES_SOCKETS = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


@pytest.fixture(params=["sqlite", pytest.param("kafka", marks=[pytest.mark.kafka, LEAVES_SOCKETS])])
def logs(request: pytest.FixtureRequest, tmp_path: Path, settings: Callable[..., Settings]) -> Iterator[Logs]:
    makes: dict[str, Callable[[], Logs]] = {
        "sqlite": lambda: SqliteLogs(settings, tmp_path),
        "kafka": lambda: KafkaLogs(settings, request.getfixturevalue("kafka")),
    }
    logs = makes[request.param]()
    yield logs
    logs.close()


@pytest.fixture
def open_log(logs: Logs) -> Callable[[], FeedbackLog]:
    """Opens the log, each time once more."""
    return logs.open


OpenLog = Callable[[], FeedbackLog]


def key_of(partition: int, number: int = 0) -> bytes:
    """The number-th key that falls into a partition."""
    keys = (key for n in range(10_000) if partition_of(key := f"request {n}".encode(), PARTITIONS) == partition)
    for _ in range(number):
        next(keys)
    return next(keys)


def append(log: FeedbackLog, *values: bytes, partition: int = 0) -> list[Position]:
    """Append values in order and wait until all are durable."""
    futures = [log.append(key_of(partition), value) for value in values]
    return [future.result(PATIENCE_S) for future in futures]


def values(records: Sequence[Record]) -> list[bytes]:
    return [record.value for record in records]


class Reader:
    """Follows a log, noting what it is assigned."""

    def __init__(self, log: FeedbackLog, starts: Mapping[int, int], others: int | None = 0) -> None:
        self.assigned: list[int] = []
        self.revoked: list[int] = []
        self.read: dict[int, list[Record]] = {}
        self._starts = starts
        self._others = others
        self.subscription: Subscription = log.subscribe(self._on_assigned, self.revoked.extend)

    def _on_assigned(self, partitions: Collection[int]) -> Mapping[int, int]:
        self.assigned += partitions
        starts = {partition: self._starts.get(partition, self._others) for partition in partitions}
        return {partition: start for partition, start in starts.items() if start is not None}

    def poll_until(self, records: int, limit: int = 100, *, timeout_s: float = POLL_S, polls: int = POLLS) -> None:
        """Poll until so many records were read."""
        for _ in range(polls):
            found = self.subscription.poll(timeout_s, limit)
            for partition, batch in found.items():
                assert 0 < len(batch) <= limit
                self.read.setdefault(partition, []).extend(batch)
            if sum(map(len, self.read.values())) >= records:
                return
        pytest.fail(f"{self.read} are not {records} records")

    def poll_until_raised(self) -> None:
        for _ in range(POLLS):
            self.subscription.poll(POLL_S, 100)


def test_a_log_begins_empty(open_log: OpenLog) -> None:
    log = open_log()
    assert log.partitions == PARTITIONS
    assert [log.bounds(partition) for partition in range(PARTITIONS)] == [(0, 0)] * PARTITIONS
    assert log.read(0, 0, 100) == []


def test_what_was_appended_is_there_for_everybody_in_order(open_log: OpenLog) -> None:
    log, other = open_log(), open_log()
    sent = [b"one", b"two", b"", b"\0\xff binary", "ü 推薦".encode()]
    positions = append(log, *sent)
    records = other.read(0, 0, 100)
    assert values(records) == sent
    assert {record.key for record in records} == {key_of(0)}
    assert [Position(0, record.offset, record.append_ms) for record in records] == positions
    assert other.bounds(0) == (0, len(sent))


def test_a_key_chooses_the_partition_and_offsets_rise_by_one(open_log: OpenLog) -> None:
    log = open_log()
    keys = [f"request {n}".encode() for n in range(40)]
    positions = [future.result(PATIENCE_S) for future in [log.append(key, b"v") for key in keys]]
    assert [position.partition for position in positions] == [partition_of(key, PARTITIONS) for key in keys]
    for partition in range(PARTITIONS):
        offsets = [position.offset for position in positions if position.partition == partition]
        assert offsets == list(range(len(offsets)))
        assert len(offsets) > 1


def test_append_times_never_run_backwards(open_log: OpenLog) -> None:
    log = open_log()
    positions = append(log, *(b"%d" % n for n in range(50)))
    times = [position.append_ms for position in positions]
    assert times == sorted(times)
    assert [record.append_ms for record in log.read(0, 0, 100)] == times


def test_many_may_append_at_once(open_log: OpenLog) -> None:
    writers = [open_log(), open_log()]

    def write(number: int) -> list[Position]:
        return append(writers[number % 2], *(b"%d/%d" % (number, n) for n in range(25)))

    with ThreadPoolExecutor(4) as pool:
        written = list(pool.map(write, range(4)))
    records = writers[0].read(0, 0, 1000)
    assert [record.offset for record in records] == list(range(100))
    assert [record.append_ms for record in records] == sorted(record.append_ms for record in records)
    for number, positions in enumerate(written):
        mine = [record for record in records if record.value.startswith(b"%d/" % number)]
        assert values(mine) == [b"%d/%d" % (number, n) for n in range(25)]
        assert [record.offset for record in mine] == [position.offset for position in positions]


def test_a_range_is_read_from_its_start_to_before_its_stop(open_log: OpenLog) -> None:
    log = open_log()
    append(log, *(b"%d" % n for n in range(10)))
    append(log, b"elsewhere", partition=1)
    assert values(log.read(0, 3, 6)) == [b"3", b"4", b"5"]
    assert values(log.read(0, 8, 1000)) == [b"8", b"9"]
    assert log.read(0, 10, 1000) == []
    assert log.read(0, 4, 4) == []
    assert values(log.read(1, 0, 10)) == [b"elsewhere"]
    assert values(log.read(0, 0, 1)) == [b"0"]


def test_bounds_follow_retention_and_no_offset_comes_twice(open_log: OpenLog, logs: Logs) -> None:
    log = open_log()
    append(log, *(b"%d" % n for n in range(5)))
    logs.forget(0, before=3)
    assert log.bounds(0) == (3, 5)
    assert values(log.read(0, 3, 100)) == [b"3", b"4"]
    logs.forget(0, before=5)
    assert log.bounds(0) == (5, 5)
    assert log.read(0, 5, 100) == []
    assert append(open_log(), b"next")[0].offset == 5
    assert log.bounds(0) == (5, 6)


def test_an_offset_is_found_by_its_append_time(open_log: OpenLog, logs: Logs) -> None:
    log = open_log()
    assert log.offset_at(0, 0) == 0
    positions = append(log, *(b"%d" % n for n in range(30)))
    times = [position.append_ms for position in positions]
    for time in {times[0] - 1, *times, times[-1] + 1}:
        assert log.offset_at(0, time) == sum(earlier < time for earlier in times)
    assert log.offset_at(1, times[0]) == 0
    logs.forget(0, before=7)
    assert log.offset_at(0, 0) == 7
    assert log.offset_at(0, times[-1] + 1) == 30
    logs.forget(0, before=30)
    assert log.offset_at(0, times[-1]) == 30


def test_a_subscription_reads_on_from_where_it_is_told(open_log: OpenLog) -> None:
    log = open_log()
    append(log, *(b"%d" % n for n in range(5)))
    append(log, *(b"%d" % n for n in range(3)), partition=2)
    reader = Reader(log, {0: 2, 2: 0})
    reader.poll_until(6)
    assert sorted(reader.assigned) == list(range(PARTITIONS))
    assert {partition: values(records) for partition, records in reader.read.items()} == {
        0: [b"2", b"3", b"4"],
        2: [b"0", b"1", b"2"],
    }
    append(log, b"5")
    reader.poll_until(7)
    assert reader.read[0] == log.read(0, 2, 6)
    assert reader.subscription.poll(0, 100) == {}
    reader.subscription.close()


def test_a_subscription_seeks_back_and_forth(open_log: OpenLog) -> None:
    log = open_log()
    append(log, *(b"%d" % n for n in range(6)))
    reader = Reader(log, {})
    reader.poll_until(6)
    reader.subscription.seek(0, 4)
    reader.poll_until(8)
    reader.subscription.seek(0, 1)
    reader.poll_until(13)
    assert [record.offset for record in reader.read[0]] == [0, 1, 2, 3, 4, 5, 4, 5, 1, 2, 3, 4, 5]
    reader.subscription.close()


def test_a_partition_that_is_not_told_where_to_begin_stands_still_until_it_is(open_log: OpenLog) -> None:
    log = open_log()
    append(log, *(b"%d" % n for n in range(4)))
    append(log, b"elsewhere", partition=1)
    reader = Reader(log, {1: 0}, others=None)
    reader.poll_until(1)
    assert set(reader.read) == {1}
    reader.subscription.seek(0, 2)
    reader.poll_until(3)
    assert values(reader.read[0]) == [b"2", b"3"]
    reader.subscription.close()


def test_a_partition_that_is_paused_stands_still_until_it_is_told_where_to_go_on(open_log: OpenLog) -> None:
    log = open_log()
    append(log, *(b"%d" % n for n in range(4)))
    reader = Reader(log, {})
    reader.poll_until(4, limit=2)
    for partition in range(PARTITIONS):
        reader.subscription.pause(partition)
    append(log, b"4")
    for _ in range(3):
        assert reader.subscription.poll(0.05, 100) == {}
    reader.subscription.seek(0, 3)
    reader.poll_until(6)
    assert values(reader.read[0]) == [b"0", b"1", b"2", b"3", b"3", b"4"]
    reader.subscription.close()
    reader.subscription.pause(0)
    reader.subscription.seek(0, 3)


def test_ends_are_those_of_all_partitions(open_log: OpenLog) -> None:
    log = open_log()
    append(log, b"1", b"2")
    append(log, b"1", partition=2)
    assert log.ends() == {0: 2, 1: 0, 2: 1}


def test_a_poll_answers_no_more_of_a_partition_than_it_was_asked_for(open_log: OpenLog) -> None:
    log = open_log()
    append(log, *(b"%d" % n for n in range(20)))
    append(log, *(b"%d" % n for n in range(2)), partition=1)
    reader = Reader(log, {})
    reader.poll_until(22, limit=3)
    assert {partition: values(records) for partition, records in reader.read.items()} == {
        0: [b"%d" % n for n in range(20)],
        1: [b"0", b"1"],
    }
    reader.subscription.close()


def test_a_subscription_that_is_polled_in_a_hurry_gets_its_records_too(open_log: OpenLog) -> None:
    """A poll may end while the group still gathers."""
    log = open_log()
    append(log, b"value")
    for _ in range(3):
        reader = Reader(log, {})
        reader.poll_until(1, timeout_s=0.002, polls=100 * POLLS)
        reader.subscription.close()


def test_a_closed_subscription_gives_back_what_it_had(open_log: OpenLog) -> None:
    log = open_log()
    append(log, b"value")
    reader = Reader(log, {})
    reader.poll_until(1)
    assert reader.revoked == []
    reader.subscription.close()
    assert sorted(reader.revoked) == list(range(PARTITIONS))


def test_a_position_beyond_the_end_is_a_reset(open_log: OpenLog) -> None:
    log = open_log()
    append(log, b"only")
    reader = Reader(log, {})
    reader.poll_until(1)
    reader.subscription.seek(0, 3)
    with pytest.raises(LogReset, match="outside") as told:
        reader.poll_until_raised()
    assert list(told.value.partitions) == [0]
    reader.subscription.close()


def test_a_position_before_the_start_is_a_reset(open_log: OpenLog, logs: Logs) -> None:
    log = open_log()
    append(log, *(b"%d" % n for n in range(5)))
    logs.forget(0, before=3)
    reader = Reader(log, {0: 2})
    with pytest.raises(LogReset, match="outside") as told:
        reader.poll_until_raised()
    assert list(told.value.partitions) == [0]
    reader.subscription.close()


def test_the_epoch_stays_until_the_log_is_made_anew(open_log: OpenLog, logs: Logs) -> None:
    epoch = open_log().epoch()
    assert len(epoch) == 16
    assert open_log().epoch() == epoch
    append(open_log(), b"value")
    logs.close()
    assert open_log().epoch() == epoch
    logs.close()
    logs.remove()
    log = open_log()
    assert len(log.epoch()) == 16
    assert log.epoch() != epoch
    assert log.bounds(0) == (0, 0)


@pytest.mark.parametrize("partitions", [PARTITIONS - 1, PARTITIONS + 1])
def test_another_number_of_partitions_is_refused(open_log: OpenLog, logs: Logs, partitions: int) -> None:
    open_log()
    with pytest.raises(LogReset, match=f"{PARTITIONS} partitions, PARTITIONS says {partitions}"):
        logs.open(partitions)


def test_dead_letters_are_kept_under_their_names(open_log: OpenLog, logs: Logs) -> None:
    log = open_log()
    letters = [
        DeadLetter(2, 7, event, reason, detail, b"key", b"\xff value")
        for event, (reason, detail) in enumerate([("not an event", "no ü here"), ("late", "")])
    ]
    log.dead_letter(letters)
    log.dead_letter(letters[:1])  # as after a crash
    log.dead_letter([])
    kept = logs.dead_letters()
    assert set(kept) == {
        Kept(letter.partition, letter.offset, letter.event, letter.reason, letter.detail, letter.value)
        for letter in letters
    }
    assert log.bounds(2) == (0, 0)


def test_closing_finishes_what_was_appended(open_log: OpenLog) -> None:
    log = open_log()
    futures = [log.append(key_of(n % PARTITIONS), b"%d" % n) for n in range(300)]
    log.close()
    assert [future.done() for future in futures] == [True] * 300
    offsets = [future.result() for future in futures]
    again = open_log()
    for partition in range(PARTITIONS):
        written = [b"%d" % n for n in range(300) if n % PARTITIONS == partition]
        assert values(again.read(partition, 0, 1000)) == written
    assert len(set(offsets)) == 300


def test_a_closed_log_takes_nothing_and_closes_once_more(open_log: OpenLog) -> None:
    log = open_log()
    append(log, b"value")
    log.close()
    log.close()
    with pytest.raises(LogUnavailable):
        log.append(key_of(0), b"too late").result(PATIENCE_S)


def test_a_caller_who_gives_up_does_not_harm_the_others(open_log: OpenLog) -> None:
    log = open_log()
    for _ in range(20):
        log.append(key_of(0), b"given up").cancel()
    position = append(log, b"after")[0]
    assert values(log.read(0, position.offset, position.offset + 1)) == [b"after"]
    offsets = [record.offset for record in log.read(0, 0, 100)]
    assert offsets == list(range(position.offset + 1))
