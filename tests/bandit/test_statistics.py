from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bandit.context import UNIT
from bandit.statistics import EDGE_BYTES, ROW_DTYPE, SCALE, from_row, impression, natural, reward, zeros

NUM_EDGES = 4
unit = st.integers(0, UNIT)


@st.composite
def events(draw: st.DrawFn) -> list[tuple[int, NDArray[np.int64]]]:
    """Deltas of impressions and rewards, each with its edge."""
    kinds = draw(st.lists(st.tuples(st.booleans(), st.integers(0, NUM_EDGES - 1), unit, unit), max_size=40))
    return [
        (
            edge,
            impression(np.array([weight]), np.array([second]))[0] if shown else reward(np.array([weight]), second)[0],
        )
        for shown, edge, weight, second in kinds
    ]


@given(events(), st.randoms(use_true_random=False), st.integers(1, 7))
def test_any_order_and_batching_ends_in_the_same_bits(
    deltas: list[tuple[int, NDArray[np.int64]]], random: Random, batch: int
) -> None:
    one_by_one = zeros(NUM_EDGES)
    for edge, delta in deltas:
        one_by_one[edge] += delta

    shuffled = list(deltas)
    random.shuffle(shuffled)
    batched = zeros(NUM_EDGES)
    for start in range(0, len(shuffled), batch):
        coalesced = zeros(NUM_EDGES)
        for edge, delta in shuffled[start : start + batch]:
            coalesced[edge] += delta
        batched += coalesced
    assert batched.tobytes() == one_by_one.tobytes()


def test_an_impression_adds_squared_weight_and_examined_weight() -> None:
    halves = np.array([UNIT // 2, UNIT // 4], dtype=np.int64)
    sums = impression(halves, np.array([UNIT, UNIT // 2], dtype=np.int64))
    statistics = natural(sums)
    assert statistics.d.tolist() == [0.25, 0.0625]
    assert statistics.n.tolist() == [0.5, 0.125]
    assert statistics.b.tolist() == [0.0, 0.0]


def test_a_reward_adds_weight_times_value() -> None:
    statistics = natural(reward(np.array([UNIT // 2, UNIT], dtype=np.int64), UNIT // 4))
    assert statistics.b.tolist() == [0.125, 0.25]
    assert not statistics.d.any()
    assert not statistics.n.any()


@given(st.lists(st.tuples(*[st.integers(0, 2**62)] * 3), min_size=1, max_size=9))
def test_natural_divides_by_the_scale(rows: list[tuple[int, int, int]]) -> None:
    statistics = natural(np.array(rows, dtype=np.int64))
    for column, values in enumerate(statistics):
        assert values.dtype == np.float64
        assert values.flags.c_contiguous
        assert values.tolist() == [row[column] / SCALE for row in rows]


@given(
    st.lists(st.tuples(*[st.integers(0, 2**63 - 1)] * 3), min_size=1, max_size=9),
    st.integers(0, 9 * EDGE_BYTES // 8),
    st.integers(0, 2),
)
def test_a_row_reads_back_and_what_it_lacks_is_zero(
    rows: list[tuple[int, int, int]], kept_numbers: int, surplus: int
) -> None:
    sums = np.array(rows, dtype=np.int64)
    stored = sums.astype(ROW_DTYPE).tobytes()
    assert from_row(stored + b"\0" * EDGE_BYTES * surplus, len(rows)).tobytes() == sums.tobytes()

    short = from_row(stored[: 8 * kept_numbers], len(rows))
    expected = sums.ravel().copy()
    expected[kept_numbers:] = 0
    assert short.ravel().tolist() == expected.tolist()


@pytest.mark.parametrize("slots", [0, 3])
def test_an_absent_row_is_zeros(slots: int) -> None:
    assert from_row(b"", slots).tolist() == zeros(slots).tolist()
