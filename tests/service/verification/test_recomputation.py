"""A state moved on along the log: in any steps, at rest in between, and never past what the log lost."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from service.feedback_log.base import LogReset, Record
from service.fold.judgement import Judge
from service.store.keys import RowName
from service.verification import live, recomputation
from service.verification.live import Cut, Piece
from service.verification.recomputation import Recomputation
from service.verification.state import Beginning, State
from tests.conftest import PARTITIONS, SHARDS
from tests.service.tokens import KEYS, PSEUDONYM_KEY
from tests.service.verification.world import World

Plain = dict[tuple[str, str, int, int], tuple[int, ...]]


def from_the_start(world: World) -> Recomputation:
    """At the log's start, with the cut as it stands."""
    cut = Cut(world.store.keys)
    names, _ = live.row_names(world.store)
    cut.add(live.read(world.store, world.epoch, PARTITIONS, names, totals=True))
    judge = Judge(KEYS, PSEUDONYM_KEY, world.epoch, PARTITIONS, world.bundles.__getitem__)
    manifest = world.bundles.__getitem__
    beginning = Beginning(world.epoch, np.zeros((PARTITIONS, SHARDS), dtype=np.int64), {})
    return Recomputation(State.at(beginning), cut, world.log, judge, manifest, world.window)


def plain(state: State) -> Plain:
    return {
        (name.namespace, name.version, name.cluster, slot): tuple(sums)
        for name, row in state.rows.items()
        for slot, sums in enumerate(row.tolist())
        if any(sums)
    }


@hypothesis_settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.integers(0, PARTITIONS - 1), st.integers(0, 40), st.booleans()), max_size=12))
def test_any_steps_come_to_the_same_as_one_pass(folded: World, steps: list[tuple[int, int, bool]]) -> None:
    moved = from_the_start(folded)
    for home, until, rests in [*steps, *((home, 10**6, False) for home in range(PARTITIONS))]:
        moved.advance(home, min(until, folded.log.bounds(home)[1]))
        if rests:
            moved.rest(home)
    outcome = folded.outcome()
    assert plain(moved.state) == outcome.statistics
    totals: dict[str, int] = {}
    for books in moved.state.totals:
        for name, count in books.items():
            totals[name] = totals.get(name, 0) + count
    assert totals == outcome.totals
    assert moved.records == 120
    assert moved.unread() == set()


def test_nothing_known_is_nothing_expected(folded: World) -> None:
    moved = from_the_start(folded)
    assert moved.row(RowName("never", "seen", 0)).tolist() == []
    assert [moved.totals(shard) for shard in range(SHARDS)] == [{}] * SHARDS


def test_rows_that_are_read_late_are_taken_only_where_they_can_be_compared(folded: World) -> None:
    moved = from_the_start(folded)
    for home in range(PARTITIONS):
        moved.advance(home, folded.log.bounds(home)[1])
    (piece, *_) = live.read(folded.store, folded.epoch, PARTITIONS, [], totals=True)

    def at(offsets: list[int]) -> Piece:
        return piece._replace(watermarks=piece.watermarks._replace(offsets=offsets))

    ends = piece.watermarks.offsets
    assert moved.takes(piece)
    assert moved.takes(at([end + 1 for end in ends]))
    assert not moved.takes(at([ends[0] + 1, ends[1] - 1, *ends[2:]]))


def test_what_the_log_lost_meanwhile_is_told(folded: World) -> None:
    moved = from_the_start(folded)
    moved.advance(0, 3)
    folded.forget(0, before=5)
    with pytest.raises(LogReset, match=r"partition 0: the log holds \(5, \d+\), not the record 3: retention took it"):
        moved.advance(0, 10)
    folded.forget(0, before=10**6)
    with pytest.raises(LogReset, match="retention took it"):
        moved.advance(0, 10)


def test_a_gap_that_the_log_always_had_is_passed(folded: World, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = from_the_start(folded)
    read = folded.log.read

    def with_a_gap(partition: int, start: int, stop: int) -> Sequence[Record]:
        return [record for record in read(partition, start, stop) if record.offset not in (3, 4)]

    monkeypatch.setattr(folded.log, "read", with_a_gap)
    moved.advance(0, 3)
    moved.advance(0, 10)
    assert moved.state.positions[0] == 10
    assert moved.records == 8


def test_large_reads_are_taken_in_portions(folded: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recomputation, "RECORDS_AT_A_TIME", 7)
    moved = from_the_start(folded)
    for home in range(PARTITIONS):
        moved.advance(home, folded.log.bounds(home)[1])
    assert plain(moved.state) == folded.outcome().statistics
