import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from bandit.context import UNIT, from_pairs, nearest, population, quantise, union

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


def directions(*shape: int, seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_a_union_adds_up_what_interests_trigger_and_keeps_the_heaviest(h: int, k: int, width: int, seed: int) -> None:
    users, centroids = directions(7, h, 3, seed=seed), directions(6, 3, seed=seed + 1)
    clusters, units = union(users, centroids, k, width, 0.7)
    assert clusters.shape == units.shape == (7, width)
    assert clusters.dtype == units.dtype == np.int32
    assert (units.sum(axis=1) == UNIT).all()
    assert (np.diff(units, axis=1) <= 0).all()
    for user, found, weights in zip(users, clusters, units, strict=True):
        mass = np.zeros(6)
        for triggered, own in zip(*nearest(user, centroids, k, 0.7), strict=True):
            np.add.at(mass, triggered, own)
        kept = np.sort(mass)[::-1][:width]
        assert weights == pytest.approx(kept / kept.sum() * UNIT, abs=1 + 1e-6)
        some = weights > 1
        assert len(set(found[some])) == some.sum()
        assert mass[found[some]] == pytest.approx(kept[some])


def test_the_union_of_one_interest_is_its_context() -> None:
    users, centroids = directions(50, 1, 4, seed=0), directions(9, 4, seed=1)
    (clusters, units), (own, weights) = union(users, centroids, 5, 5, 0.3), nearest(users[:, 0], centroids, 5, 0.3)
    np.testing.assert_array_equal(units, weights)
    for row in range(50):  # equal weights may stand in any order
        assert set(zip(clusters[row], units[row], strict=True)) == set(zip(own[row], weights[row], strict=True))


def test_interests_that_trigger_fewer_clusters_than_a_user_keeps_leave_weights_of_nothing() -> None:
    users = np.ones((1, 3, 2), dtype=np.float32)
    clusters, units = union(users, np.array([[1, 1], [0, 1], [1, 0]], np.float32), 1, 3, 1.0)
    assert (clusters[0, 0], units.tolist()) == (0, [[UNIT, 0, 0]])


def test_population_is_the_clusters_that_weigh_most() -> None:
    clusters = np.array([[0, 1], [1, 2], [1, 0]], dtype=np.int32)
    units = np.array([[UNIT // 2, UNIT // 2], [UNIT, 0], [UNIT // 2, UNIT // 2]], dtype=np.int32)
    everybody = population(clusters, units, num_clusters=4, k=3)
    assert everybody.clusters.tolist() == [1, 0]
    assert everybody.weights.tolist() == pytest.approx([UNIT * 2 / 3, UNIT / 3], abs=1)
    assert everybody.weights.sum() == UNIT
