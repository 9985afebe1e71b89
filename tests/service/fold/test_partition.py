"""Exactly once: whatever is repeated, raced, cut off or forgotten, the sums are those of one pass over the log."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from structlog.testing import capture_logs

from service.feedback_log.base import LogReset, LogUnavailable, Record
from service.fold.partition import PartitionFold, RolledBack, Skipped
from service.store.redis import Store
from service.token import NO_EDGE, AttributionToken, encode
from tests.conftest import PARTITIONS, SHARDS
from tests.service.fold.logs import MANIFEST, a_judge, impression, reward
from tests.service.fold.scripted import LIMITS, WINDOW, Fold, ScriptedLog
from tests.service.fold.slates import ITEMS, a_slate
from tests.service.single_pass import Outcome, Rules, single_pass, statistics_in, whole_log
from tests.service.tokens import EPOCH, ISSUED_MS, KEYS, PSEUDONYM_KEY, VERSION

RULES = Rules(KEYS, PSEUDONYM_KEY, EPOCH, PARTITIONS, WINDOW, {VERSION: MANIFEST}.__getitem__)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[ScriptedLog]:
    log = ScriptedLog(tmp_path / "feedback.sqlite")
    yield log
    log.close()


def outcome_in(store: Store, log: ScriptedLog) -> Outcome:
    """What Redis and the dead letters hold."""
    users: dict[str, dict[bytes, dict[int, int]]] = {"seen": {}, "recent": {}}
    for key in store.client.scan_iter("om:*:user:*"):
        user, kind = key.decode().split(":user:")[1].split(":")
        found: Any = store.client.zrange(key, 0, -1, withscores=True)
        users[kind][bytes.fromhex(user)] = {int.from_bytes(item, "little"): int(time) for item, time in found}
    letters = {(letter.partition, letter.offset, letter.event) for letter in log.dead_letters()}
    return Outcome(statistics_in(store.client), store.totals(), letters, users["seen"], users["recent"])


def events(token: AttributionToken) -> st.SearchStrategy[Any]:
    """What may be said of a slate: true, repeated, odd, forged and senseless."""
    names = st.sampled_from(ITEMS[: len(token.items)])
    clicks = st.fixed_dictionaries(
        {"item_id": names}, optional={"name": st.just("watch"), "value": st.sampled_from([0.0, 0.3, 0.5, 1.0])}
    )
    return st.one_of(
        st.just(impression(token)),
        st.lists(names, min_size=1, max_size=4).map(lambda items: impression(token, items=items)),
        clicks.map(lambda changes: reward(token, **changes)),
        clicks.map(lambda changes: reward(token, **changes)),
        st.sampled_from(
            [
                reward(token, item_id="never shown"),
                impression(token, items=["never shown", ITEMS[0]]),
                reward(token, item_id=ITEMS[0], name="no such reward"),
                reward(token, item_id=ITEMS[0], value=2),
                impression(token, items=[]),
                impression(token, attribution_token=encode(token, 1, b"not the key")),
                {"type": "impression"},
                "no event",
                None,
            ]
        ),
    )


class Faults(RuleBasedStateMachine):
    """Two folds on one partition, each a zombie to the other, over a log that grows and a Redis that goes back."""

    def __init__(self, store: Store, log: ScriptedLog) -> None:
        super().__init__()
        self.store, self.log = store, log
        self.now_ms = ISSUED_MS
        self.slates: list[AttributionToken] = []
        self.kept: dict[bytes, bytes] = {}

    @initialize()
    def _begin(self) -> None:
        self.log.empty()
        self.store.client.flushall()
        self.folds = [Fold(0, self.log, self.store) for _ in range(2)]

    @rule(data=st.data(), seconds=st.sampled_from([0, 1, 20, 60]), records=st.integers(1, 4))
    def write(self, data: st.DataObject, seconds: int, records: int) -> None:
        for _ in range(records):
            self.now_ms += 1000 * seconds
            if len(self.slates) < 2 or data.draw(st.integers(0, 4)) == 0:
                age_s = data.draw(st.sampled_from([-90, -30, 0, 30, 150]))
                self.slates.append(a_slate(len(self.slates), self.now_ms - 1000 * age_s, home=0))
            slate = data.draw(st.sampled_from(self.slates[-4:]))
            key = slate.recommendation_id.encode()
            odd = data.draw(st.integers(0, 9))
            said = data.draw(st.lists(events(slate), min_size=1, max_size=3) | events(slate))
            value = [b"{torn", b"[]", b"\xff"][odd] if odd < 3 else orjson.dumps(said)
            self.log.write(0, self.now_ms, b"another key" if odd == 3 else key, value)

    @rule(fold=st.integers(0, 1), size=st.integers(1, 8))
    def go_on(self, fold: int, size: int) -> None:
        self.folds[fold].run(size)

    @rule(fold=st.integers(0, 1), size=st.integers(1, 8), reached=st.sets(st.integers(0, SHARDS - 1)))
    def crash(self, fold: int, size: int, reached: set[int]) -> None:
        self.folds[fold].store.reached = reached
        self.folds[fold].run(size)
        self.folds[fold] = Fold(0, self.log, self.store)

    @rule(fold=st.integers(0, 1), size=st.integers(1, 8))
    def dead_letters_are_not_kept(self, fold: int, size: int) -> None:
        self.log.faint = True
        self.folds[fold].run(size)
        self.log.faint = False

    @rule()
    def save_redis(self) -> None:
        keys: Any = self.store.client.keys("om:*")
        self.kept = {key: self.store.client.dump(key) or b"" for key in keys}

    @rule(shards=st.sets(st.integers(0, SHARDS - 1), min_size=1))
    def redis_goes_back(self, shards: set[int]) -> None:
        for shard in shards:
            for key in self.store.client.scan_iter(f"om:{{{shard}}}:*"):
                self.store.client.delete(key)
            for key, value in self.kept.items():
                if key.startswith(b"om:{%d}:" % shard):
                    self.store.client.restore(key, 0, value)

    @rule()
    def redis_is_made_anew(self) -> None:
        self.store.client.flushall()
        self.store.client.function_flush()

    def teardown(self) -> None:
        if not hasattr(self, "folds"):
            return
        for fold in self.folds:
            fold.finish()
        assert outcome_in(self.store, self.log) == single_pass(whole_log(self.log), RULES)


def test_whatever_happens_the_sums_are_those_of_one_pass(store: Store, log: ScriptedLog) -> None:
    class Machine(Faults):
        def __init__(self) -> None:
            super().__init__(store, log)

    run_state_machine_as_test(Machine, settings=settings(max_examples=40, stateful_step_count=25))


@pytest.fixture
def written(log: ScriptedLog) -> list[AttributionToken]:
    """Twelve records of twelve slates, each an impression of all and a click on the first."""
    slates = [a_slate(number, ISSUED_MS + 61_000 * number, home=0) for number in range(12)]
    for slate in slates:
        said = [impression(slate), reward(slate)]
        log.write(0, slate.issued_ms, slate.recommendation_id.encode(), orjson.dumps(said))
    return slates


def most_edges(slates: Sequence[AttributionToken]) -> int:
    """The most edges that a shard of these slates has."""
    edges: set[tuple[int, int]] = set()
    for slate in slates:
        edges |= {
            (c, s) for c, column in zip(slate.clusters.tolist(), slate.slots.T.tolist(), strict=True) for s in column
        }
    return max(sum(slot != NO_EDGE and c % SHARDS == shard for c, slot in edges) for shard in range(SHARDS))


def test_a_batch_too_large_for_one_call_is_halved(
    store: Store, log: ScriptedLog, written: list[AttributionToken]
) -> None:
    assert most_edges(written) > LIMITS.edges
    fold = Fold(0, log, store)
    fold.run(len(written))
    assert fold.store.calls > 1
    assert fold.fold.position == len(written)
    assert outcome_in(store, log) == single_pass(whole_log(log), RULES)


def test_a_batch_that_fits_is_one_call(store: Store, log: ScriptedLog, written: list[AttributionToken]) -> None:
    assert most_edges(written[:1]) <= LIMITS.edges
    fold = Fold(0, log, store)
    fold.run(1)
    assert fold.store.calls == 1
    assert fold.fold.watermarks == [1] * SHARDS


def test_idle_shards_advance_with_the_others(store: Store, log: ScriptedLog) -> None:
    log.write(0, ISSUED_MS, b"nobody's", b"nothing")
    fold = Fold(0, log, store)
    fold.run(1)
    assert store.watermarks(EPOCH, [0]) == {0: [1] * SHARDS}


def test_a_zombie_is_fenced_and_goes_on_from_where_the_other_is(
    store: Store, log: ScriptedLog, written: list[AttributionToken]
) -> None:
    zombie, other = Fold(0, log, store), Fold(0, log, store)
    other.run(5)
    assert zombie.fold.position == 0
    zombie.run(3)
    assert zombie.fold.fenced == SHARDS
    assert zombie.fold.position == 5
    zombie.run(9)
    assert outcome_in(store, log) == single_pass(whole_log(log), RULES)


def test_a_redis_that_went_back_is_told_with_where_to_read_again(
    store: Store, log: ScriptedLog, written: list[AttributionToken]
) -> None:
    fold = Fold(0, log, store)
    fold.run(4)
    store.client.flushall()
    with pytest.raises(RolledBack, match="went back to offset 0") as told:
        fold.fold.fold(log.read(0, 4, 8))
    assert told.value.offset == 0
    assert statistics_in(store.client) == {}


def test_a_fenced_call_is_told(store: Store, log: ScriptedLog, written: list[AttributionToken]) -> None:
    zombie, other = Fold(0, log, store), Fold(0, log, store)
    other.run(5)
    with capture_logs() as lines:
        zombie.run(3)
    assert [(line["event"], line["log_level"], line["shard"], line["expected"], line["found"]) for line in lines] == [
        ("fenced", "warning", shard, 0, 5) for shard in range(SHARDS)
    ]


@pytest.mark.parametrize("first", [0, 3, 5, 11])
def test_records_that_do_not_follow_are_refused_by_name(
    store: Store, log: ScriptedLog, written: list[AttributionToken], first: int
) -> None:
    fold = Fold(0, log, store)
    fold.run(4)
    before = statistics_in(store.client)
    with pytest.raises(Skipped, match=r"partition 0: record \d+ (came where 4|was left out before)"):
        fold.fold.fold(log.read(0, first, 12))
    with pytest.raises(Skipped, match="came where None was expected"):
        fold.fold.fold(log.read(0, 4, 12))  # its window is not to be trusted any more
    assert statistics_in(store.client) == before
    fold.start()
    fold.finish()
    assert outcome_in(store, log) == single_pass(whole_log(log), RULES)


def test_a_gap_in_the_log_itself_is_no_fault(store: Store, log: ScriptedLog, written: list[AttributionToken]) -> None:
    """Where a transaction ended in Kafka there is an offset without a record."""
    fold = Fold(0, log, store)
    fold.run(4)
    log.forget(0, before=6)
    fold.fold.fold(log.read(0, 6, 12))
    assert store.watermarks(EPOCH, [0]) == {0: [12] * SHARDS}


def test_one_batch_is_judged_while_another_is_added(
    store: Store, log: ScriptedLog, written: list[AttributionToken]
) -> None:
    fold = Fold(0, log, store).fold
    batches = [fold.judge(log.read(0, start, start + 4)) for start in (0, 4)]
    fold.add(batches[0])
    batches.append(fold.judge(log.read(0, 8, 12)))
    for batch in batches[1:]:
        fold.add(batch)
    assert outcome_in(store, log) == single_pass(whole_log(log), RULES)


def test_a_window_that_stands_where_the_partition_starts_is_not_read_again(
    store: Store, log: ScriptedLog, written: list[AttributionToken], monkeypatch: pytest.MonkeyPatch
) -> None:
    fold = Fold(0, log, store)
    fold.run(4)
    reads: list[int] = []
    read = log.read

    def noted(partition: int, start: int, stop: int) -> Sequence[Record]:
        reads.append(start)
        return read(partition, start, stop)

    monkeypatch.setattr(log, "read", noted)
    fold.start()
    assert reads == []
    fold.fold.judge(read(0, 4, 8))  # and comes to nothing: the window is ahead of the watermarks
    fold.start()
    assert reads == [0, 4]
    monkeypatch.undo()
    fold.finish()
    assert outcome_in(store, log) == single_pass(whole_log(log), RULES)


def test_dead_letters_are_kept_once_however_often_their_records_are_read(
    store: Store, log: ScriptedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[int] = []
    monkeypatch.setattr(log, "dead_letter", lambda letters: kept.extend(letter.offset for letter in letters))
    for _ in range(6):
        log.write(0, ISSUED_MS, b"nobody's", b"nothing")
    fold = Fold(0, log, store)
    fold.run(4)
    store.client.flushall()
    fold.run(2)
    fold.finish()
    assert sorted(kept) == list(range(6))


def test_what_cannot_be_kept_as_dead_letter_is_not_folded_past(store: Store, log: ScriptedLog) -> None:
    log.write(0, ISSUED_MS, b"nobody's", b"nothing")
    fold = Fold(0, log, store)
    log.faint = True
    with pytest.raises(LogUnavailable):
        fold.fold.fold(log.read(0, 0, 1))
    assert store.watermarks(EPOCH, [0]) == {0: [0] * SHARDS}


@pytest.mark.parametrize("shard", range(SHARDS))
def test_a_watermark_beyond_the_end_stops(
    store: Store, log: ScriptedLog, written: list[AttributionToken], shard: int
) -> None:
    watermarks = [0] * SHARDS
    watermarks[shard] = len(written)
    fold = Fold(0, log, store).fold
    fold.start(watermarks)
    watermarks[shard] += 1
    with pytest.raises(LogReset, match=r"partition 0: the watermark 13 lies beyond the log's end 12: .* KEY_PREFIX"):
        fold.start(watermarks)


@pytest.mark.parametrize("shard", range(SHARDS))
def test_a_watermark_before_the_start_stops(
    store: Store, log: ScriptedLog, written: list[AttributionToken], shard: int
) -> None:
    fold = Fold(0, log, store).fold
    log.forget(0, before=5)
    watermarks = [9] * SHARDS
    watermarks[shard] = 5
    assert fold.start(watermarks) == 5
    watermarks[shard] = 4
    with pytest.raises(LogReset, match=r"partition 0: the watermark 4 lies before the log's start 5: .* KEY_PREFIX"):
        fold.start(watermarks)


def fold_that_may_lag(log: ScriptedLog, store: Store, more_ms: int) -> PartitionFold:
    """It may be so much more behind than it is at record 8."""
    lag_ms = time.time_ns() / 1e6 - log.read(0, 8, 9)[0].append_ms
    manifests = {VERSION: MANIFEST}
    return PartitionFold(
        0, EPOCH, log, store, a_judge(), manifests.__getitem__, LIMITS, WINDOW, most_lag_ms=lag_ms + more_ms
    )


def test_a_window_that_retention_has_cut_stops_a_fold_that_is_far_behind(
    store: Store, log: ScriptedLog, written: list[AttributionToken]
) -> None:
    """An earlier copy of what it has not folded yet may have lain before the log's start."""
    fold = fold_that_may_lag(log, store, more_ms=-60_000)
    log.forget(0, before=5)
    with pytest.raises(LogReset, match=r"partition 0: the fold at 8 .* count twice: the log starts at 5, .*--replay"):
        fold.start([8] * SHARDS)
    assert fold.start([8] * SHARDS, begun=5) == 8, "counting began there"
    assert fold.start([11] * SHARDS) == 11, "the window is whole"
    log.forget(0, before=12)
    assert fold.start([12] * SHARDS) == 12, "nothing waits: what will come is young"


def test_a_fold_that_is_little_behind_does_without_what_retention_took(
    store: Store, log: ScriptedLog, written: list[AttributionToken]
) -> None:
    fold = fold_that_may_lag(log, store, more_ms=60_000)
    log.forget(0, before=5)
    assert fold.start([8] * SHARDS) == 8


def test_an_empty_log_starts_at_its_end(store: Store, log: ScriptedLog) -> None:
    assert Fold(0, log, store).next == 0
