"""Sums and books that grow, and where a state leaves its log."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from service.store.keys import RowName, watermark_field
from service.verification.state import Beginning, Rows, State, add_row, add_totals, all_equal, widened

NAME = RowName("default", "v1", 3)
ADDED = st.lists(st.dictionaries(st.integers(0, 9), st.integers(-5, 5), min_size=1))


@given(added=ADDED)
def test_a_row_grows_as_it_must(added: list[dict[int, int]]) -> None:
    rows: Rows = {}
    wanted = np.zeros((10, 3), dtype=np.int64)
    for gains in added:
        sums = np.repeat(list(gains.values()), 3).reshape(-1, 3)
        add_row(rows, NAME, np.array(list(gains)), sums)
        wanted[list(gains)] += sums
    assert widened(rows.get(NAME), 10).tolist() == wanted.tolist()
    assert rows.keys() == ({NAME} if added else set())


def test_books_hold_no_noughts() -> None:
    totals = {"folded": 1}
    add_totals(totals, {"folded": 2, "late": 0, "implied": 3})
    assert totals == {"folded": 3, "implied": 3}


def test_a_state_says_where_it_leaves_its_logs() -> None:
    epoch, other = b"e" * 16, b"f" * 16
    beginning = Beginning(epoch, np.array([[5, 3], [0, 0]]), {watermark_field(other, 1): 9})
    state = State.at(beginning)
    assert state.positions == [3, 0]
    assert state.left() == {watermark_field(other, 1): 9, watermark_field(epoch, 0): 3}
    later = state.carried_over(Beginning(b"g" * 16, np.array([[0, 0], [2, 2]]), state.left()))
    assert later.positions == [0, 2]
    assert later.rows is state.rows
    assert later.totals is state.totals


def test_equality_of_all() -> None:
    assert all_equal([])
    assert all_equal([{}, {}])
    assert not all_equal([1, 1, 2])
