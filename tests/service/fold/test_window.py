"""The window against a model that forgets nothing, and the law on which replays rest: a window that was filled anew
from the N records before a place judges what follows as one that saw everything."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.attribution import CLOCK_SKEW_MS
from service.fold.window import Window

START_MS = 1_800_000_000_000


class Said(NamedTuple):
    """One event: which request, what kind (0: an impression), which positions, and when its token was issued."""

    request: int
    kind: int
    positions: int
    issued_ms: int

    @property
    def key(self) -> bytes:
        return bytes([self.request, self.kind])

    @property
    def impression_key(self) -> bytes:
        return bytes([self.request, 0])


class Entry(NamedTuple):
    """A record: when it was appended, and its events. Its place in the log is its offset."""

    append_ms: int
    events: list[Said]


class Verdict(NamedTuple):
    late: bool
    fresh: int
    implied: int


@st.composite
def logs(draw: st.DrawFn) -> list[Entry]:
    """Logs of well-formed events: appended no earlier than 60 s before their token, all of a request on one token."""
    steps = draw(st.lists(st.sampled_from([0, 0, 1, 1_000, 40_000, 200_000]), min_size=1, max_size=24))
    issued: dict[int, int] = {}
    now, log = START_MS, []
    for step in steps:
        now += step
        events = []
        for _ in range(draw(st.integers(0, 2))):
            request = draw(st.integers(0, 5))
            ahead = draw(st.sampled_from([CLOCK_SKEW_MS, CLOCK_SKEW_MS - 1, 0, -1_000, -50_000]))
            issued.setdefault(request, now + ahead)
            if now >= issued[request] - CLOCK_SKEW_MS:
                events.append(Said(request, draw(st.integers(0, 2)), draw(st.integers(1, 7)), issued[request]))
        log.append(Entry(now, events))
    return log


records_kept = st.integers(1, 6)


def judge(window: Window, log: Sequence[Entry], start: int) -> list[list[Verdict]]:
    """Enter a log's records from `start` on, as the fold does: a counting reward implies its impression."""
    verdicts = []
    for offset, entry in enumerate(log[start:], start):
        window.enter(offset, entry.append_ms)
        found = []
        for event in entry.events:
            fresh = window.add(event.key, event.positions)
            late = window.is_late(event.issued_ms)
            counts = not late and event.kind > 0 and fresh
            found.append(Verdict(late, fresh, window.add(event.impression_key, fresh) if counts else 0))
        verdicts.append(found)
    return verdicts


@given(logs(), records_kept)
def test_add_answers_what_was_not_said_in_the_last_n_offsets_or_earlier_in_the_record(
    log: list[Entry], kept: int
) -> None:
    window = Window(kept)
    said: list[tuple[int, bytes, int]] = []
    for offset, entry in enumerate(log):
        window.enter(offset, entry.append_ms)
        for event in entry.events:
            fresh = event.positions
            for earlier, key, positions in said:
                if key == event.key and offset - kept <= earlier:
                    fresh &= ~positions
            assert window.add(event.key, event.positions) == fresh
            said.append((offset, event.key, event.positions))


@given(logs(), records_kept)
def test_late_is_what_was_issued_before_the_record_n_before(log: list[Entry], kept: int) -> None:
    window = Window(kept)
    for offset, entry in enumerate(log):
        window.enter(offset, entry.append_ms)
        for event in entry.events:
            late = offset >= kept and event.issued_ms - CLOCK_SKEW_MS <= log[offset - kept].append_ms
            assert window.is_late(event.issued_ms) == late


@hypothesis.settings(max_examples=300)
@given(logs(), records_kept)
def test_a_window_filled_anew_judges_as_one_that_saw_everything(log: list[Entry], kept: int) -> None:
    whole = judge(Window(kept), log, 0)
    for start in range(1, len(log)):
        first = max(0, start - kept)
        anew = judge(Window(kept), log, first)[start - first :]
        for left, right in zip(anew, whole[start:], strict=True):
            assert [verdict.late for verdict in left] == [verdict.late for verdict in right]
            assert [verdict for verdict in left if not verdict.late] == [
                verdict for verdict in right if not verdict.late
            ]


@pytest.mark.parametrize(
    "interesting",
    [
        lambda verdict: verdict.late,
        lambda verdict: not verdict.late and not verdict.fresh,
        lambda verdict: not verdict.late and verdict.implied,
        lambda verdict: verdict.fresh and verdict.late,
    ],
    ids=["late", "duplicate", "implied", "late and new"],
)
def test_the_logs_above_hold_all_that_matters(interesting: Callable[[Verdict], object]) -> None:
    hypothesis.find(
        logs(),
        lambda log: any(interesting(verdict) for found in judge(Window(2), log, 3) for verdict in found),
        settings=hypothesis.settings(max_examples=2000, database=None),
    )


@given(logs(), records_kept)
def test_nothing_is_remembered_of_what_lies_n_records_back(log: list[Entry], kept: int) -> None:
    window = Window(kept)
    judge(window, log, 0)
    for offset in range(len(log), len(log) + kept + 1):
        window.enter(offset, log[-1].append_ms)
    assert not window._seen
    assert not window._order
    assert len(window._times) <= kept


def test_positions_that_were_said_at_different_times_are_forgotten_at_different_times() -> None:
    window = Window(3)
    answers = []
    for offset, positions in enumerate([0b001, 0b011, 0b100, 0b000, 0b111, 0b111]):
        window.enter(offset, START_MS)
        answers.append(window.add(b"key", positions) if positions else 0)
    # At offset 4 only what 1 and 2 said is remembered. 1 had repeated what 0 said, which renews it.
    assert answers == [0b001, 0b010, 0b100, 0b000, 0b000, 0b000]


def test_the_latest_possible_event_of_a_full_window_counts() -> None:
    window = Window(2)
    for offset, append_ms in enumerate([START_MS, START_MS + 10, START_MS + 20]):
        window.enter(offset, append_ms)
    assert window.is_late(START_MS + CLOCK_SKEW_MS)
    assert not window.is_late(START_MS + CLOCK_SKEW_MS + 1)


def test_nothing_is_late_while_the_log_is_shorter_than_the_window() -> None:
    window = Window(3)
    for offset in range(3):
        window.enter(offset, START_MS)
        assert not window.is_late(0)
    window.enter(3, START_MS)
    assert window.is_late(0)
