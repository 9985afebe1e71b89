import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from bandit.context import UNIT, from_pairs, nearest, population, quantise

weights = arrays(
    np.float64,
    array_shapes(min_dims=1, max_dims=3, max_side=12),
    elements=st.floats(0, 1e308, allow_subnormal=False) | st.floats(0, 1),
).filter(lambda rows: bool((rows.max(axis=-1) > 0).all()))


@given(weights)
def test_quantised_rows_sum_to_the_unit_and_stay_within_one_unit(rows: NDArray[np.float64]) -> None:
    units = quantise(rows)
    relative = rows / rows.max(axis=-1, keepdims=True)
    exact = relative / relative.sum(axis=-1, keepdims=True) * UNIT
    assert units.dtype == np.int32
    assert units.min() >= 0
    assert (units.sum(axis=-1) == UNIT).all()
    assert (np.abs(units - exact) <= 1 + 1e-9).all()


@given(weights)
def test_quantising_again_changes_nothing(rows: NDArray[np.float64]) -> None:
    units = quantise(rows)
    np.testing.assert_array_equal(quantise(units.astype(np.float64)), units)


def test_largest_remainders_get_the_missing_units() -> None:
    assert quantise(np.array([1.0, 1.0, 1.0])).tolist() == [10923, 10923, 10922]
    assert quantise(np.array([3.0, 1.0])).tolist() == [24576, 8192]


def test_from_pairs_normalises_and_drops_what_rounds_to_nothing() -> None:
    context = from_pairs(np.array([3, 0, 2]), np.array([3.0, 1.0, 1e-9]), num_clusters=4)
    assert context.clusters.tolist() == [3, 0]
    assert context.weights.tolist() == [24576, 8192]
    assert context.clusters.dtype == context.weights.dtype == np.int32


@pytest.mark.parametrize(
    ("clusters", "given_weights", "message"),
    [
        ([], [], "at least one"),
        ([0, 1], [1.0], "as many weights"),
        ([1, 1], [1.0, 1.0], "twice"),
        ([4], [1.0], r"\[0, 4\)"),
        ([-1], [1.0], r"\[0, 4\)"),
        ([0, 1], [1.0, -0.5], "not negative"),
        ([0], [0.0], "not all zero"),
        ([0], [float("nan")], "finite"),
        ([0], [float("inf")], "finite"),
    ],
)
def test_a_malformed_context_is_refused(clusters: list[int], given_weights: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_pairs(np.array(clusters, dtype=np.int64), np.array(given_weights), num_clusters=4)


def test_weights_whose_sum_overflows_are_understood() -> None:
    assert from_pairs(np.array([0, 1]), np.array([1e308, 1e308]), num_clusters=2).weights.tolist() == [UNIT // 2] * 2


def test_nearest_is_a_softmax_over_the_k_nearest_centroids() -> None:
    users = np.array([[1.0, 0.0], [0.0, 2.0]], dtype=np.float32)
    centroids = np.array([[0.0, 1.0], [1.0, 0.0], [-1.0, 0.0]], dtype=np.float32)
    clusters, units = nearest(users, centroids, k=2, temperature=0.5)
    assert clusters.tolist()[0] == [1, 0]
    assert clusters[1, 0] == 0
    softmax = 1 / (1 + np.exp(-1 / 0.5))
    assert units[0].tolist() == pytest.approx([softmax * UNIT, (1 - softmax) * UNIT], abs=1)
    assert units.dtype == np.int32
    assert (units.sum(axis=1) == UNIT).all()


def test_population_is_the_clusters_that_weigh_most() -> None:
    clusters = np.array([[0, 1], [1, 2], [1, 0]], dtype=np.int32)
    units = np.array([[UNIT // 2, UNIT // 2], [UNIT, 0], [UNIT // 2, UNIT // 2]], dtype=np.int32)
    everybody = population(clusters, units, num_clusters=4, k=3)
    assert everybody.clusters.tolist() == [1, 0]
    assert everybody.weights.tolist() == pytest.approx([UNIT * 2 / 3, UNIT / 3], abs=1)
    assert everybody.weights.sum() == UNIT
