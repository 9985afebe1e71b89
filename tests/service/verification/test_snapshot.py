"""A snapshot's file is what was written, or it is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.store.keys import RowName
from service.verification.memory import EMPTY, RememberingWindow
from service.verification.snapshot import MAGIC, Facts, SnapshotRefused, decode, encode
from service.verification.state import Beginning, State

FACTS = Facts("om", 2, 3, 4)
KEY = b"the pseudonyms' key"


def a_state() -> State:
    window = RememberingWindow(4)
    for offset in range(9):
        window.enter(offset, 1000 + offset)
        window.add(b"key %d" % offset, 1 << (30 * offset))
    return State(
        Beginning(b"e" * 16, np.array([[0, 7], [1, 1], [0, 0]]), {"ff:1": 12}),
        [9, 5, 0],
        {
            RowName("default", "v1", 4): np.array([[1, 2, 3], [2**62, 0, 5]]),
            RowName("a", "v2", 1): np.array([[0, 0, 1]]),
            RowName("empty", "v2", 1): np.zeros((0, 3), dtype=np.int64),
        },
        [{"folded": 5, "late": 1}, {}],
        [window.memory(), EMPTY, None],
    )


def plain(state: State) -> object:
    """A state that can be compared."""
    return (
        state.beginning.epoch,
        state.beginning.offsets.tolist(),
        dict(state.beginning.earlier),
        state.positions,
        {str(name): sums.tolist() for name, sums in state.rows.items()},
        state.totals,
        [
            memory and [part if isinstance(part, bytes) else part.tolist() for part in memory]
            for memory in state.memories
        ],
    )


FILE = encode(a_state(), FACTS, KEY)


def test_it_holds_all_of_a_state() -> None:
    assert plain(decode(FILE, FACTS, KEY)) == plain(a_state())


def test_a_state_that_was_read_can_be_gone_on_from() -> None:
    state = decode(FILE, FACTS, KEY)
    for sums in state.rows.values():
        sums[:] += 1
    assert encode(state, FACTS, KEY) != FILE


def test_nothing_at_all_can_be_kept() -> None:
    beginning = Beginning(b"e" * 16, np.zeros((3, 2), dtype=np.int64), {})
    assert plain(decode(encode(State.at(beginning), FACTS, KEY), FACTS, KEY)) == plain(State.at(beginning))


@given(at=st.integers(0, len(FILE) - 1), bit=st.integers(0, 7))
def test_one_flipped_bit_is_refused(at: int, bit: int) -> None:
    torn = bytearray(FILE)
    torn[at] ^= 1 << bit
    with pytest.raises(SnapshotRefused):
        decode(bytes(torn), FACTS, KEY)


@given(length=st.integers(0, len(FILE) - 1))
def test_a_file_that_was_cut_off_is_refused(length: int) -> None:
    with pytest.raises(SnapshotRefused):
        decode(FILE[:length], FACTS, KEY)


def test_reasons_are_told() -> None:
    with pytest.raises(SnapshotRefused, match="not a snapshot of this format"):
        decode(b"something else", FACTS, KEY)
    with pytest.raises(SnapshotRefused, match="made with another PSEUDONYM_KEY"):
        decode(FILE, FACTS, b"another")
    with pytest.raises(SnapshotRefused, match="another shards, window_records"):
        decode(FILE, FACTS._replace(shards=9, window_records=9), KEY)
    with pytest.raises(SnapshotRefused, match="another prefix"):
        decode(FILE, FACTS._replace(prefix="other"), KEY)
    assert FILE.startswith(MAGIC)
