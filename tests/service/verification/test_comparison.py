"""Comparing rows and books: what differs, by how much, in which direction."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandit.statistics import SCALE
from service.store.keys import RowName
from service.verification.comparison import Comparison, compare_row, compare_totals, sums_of

NAME = RowName("default", "v1", 3)
SUMS = st.lists(st.tuples(*[st.integers(0, 3)] * 3), max_size=5)


def packed(sums: list[tuple[int, ...]]) -> bytes:
    return np.array(sums, dtype=">i8").tobytes()


def an_array(sums: list[tuple[int, ...]]) -> np.typing.NDArray[np.int64]:
    return np.array(sums, dtype=np.int64).reshape(-1, 3)


@given(live=SUMS, expected=SUMS)
def test_every_edge_that_differs_is_found_and_no_other(
    live: list[tuple[int, ...]], expected: list[tuple[int, ...]]
) -> None:
    zero = (0, 0, 0)
    pairs = {
        slot: (live[slot] if slot < len(live) else zero, expected[slot] if slot < len(expected) else zero)
        for slot in range(max(len(live), len(expected)))
    }
    compared, difference = compare_row(NAME, packed(live), an_array(expected))
    assert compared == sum(held != zero or wanted != zero for held, wanted in pairs.values())
    differing = {slot: pair for slot, pair in pairs.items() if pair[0] != pair[1]}
    if difference is None:
        assert differing == {}
        return
    assert difference.slots.tolist() == sorted(differing)
    assert difference.live.tolist() == [list(differing[slot][0]) for slot in sorted(differing)]
    assert difference.expected.tolist() == [list(differing[slot][1]) for slot in sorted(differing)]
    assert difference.missing == (not live)


@given(sums=SUMS.filter(bool), cut=st.integers(1, 23))
def test_a_row_that_ends_within_an_edge_lacks_its_end(sums: list[tuple[int, ...]], cut: int) -> None:
    row = packed(sums)
    assert sums_of(row[:-cut]).tolist() == sums_of(row[:-cut] + b"\0" * cut).tolist()
    assert sums_of(b"").shape == (0, 3)


def test_books_are_compared_outcome_by_outcome() -> None:
    assert compare_totals(2, {"folded": 3, "late": 1, "never": 0}, {"folded": 3, "duplicates": 2}) == [
        (2, "duplicates", 0, 2),
        (2, "late", 1, 0),
    ]


def test_figures_add_up() -> None:
    _, first = compare_row(NAME, packed([(SCALE, 0, 0), (1, 1, 1)]), an_array([(0, SCALE, 0), (1, 1, 1)]))
    _, second = compare_row(NAME, b"", an_array([(0, 0, 0), (0, 0, 2 * SCALE)]))
    assert first is not None
    assert second is not None
    comparison = Comparison(5, 4, [first, second], compare_totals(0, {"late": 1}, {}))
    assert not comparison.equal
    assert comparison.figures() == {
        "edges_compared": 5,
        "edges_different": 2,
        "lost": 2,
        "counted_twice": 1,
        "shortfall": [0, 1, 2],
        "excess": [1, 0, 0],
        "rows_compared": 4,
        "rows_different": 2,
        "rows_missing": 1,
        "totals_different": 1,
    }


@pytest.mark.parametrize("which", [2, 3])
def test_anything_that_differs_makes_it_unequal(which: int) -> None:
    parts: list[object] = [1, 1, [], []]
    assert Comparison(*parts).equal  # type: ignore[arg-type]
    parts[which] = ["something"]
    assert not Comparison(*parts).equal  # type: ignore[arg-type]
