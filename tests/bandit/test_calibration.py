import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandit.calibration import calibration, pool, posterior_means
from bandit.statistics import Statistics


def test_a_model_without_feedback_is_believed() -> None:
    assert calibration(0.0, 0.0) == 1.0


def test_a_model_that_expected_half_is_scaled_up() -> None:
    assert calibration(2000.0, 1000.0) == pytest.approx(2.0, rel=0.01)


@given(st.integers(0, 2**32))
def test_pooling_is_a_sum_over_an_items_edges(seed: int) -> None:
    rng = np.random.default_rng(seed)
    items = rng.integers(5, size=20).astype(np.int32)
    statistics = Statistics(*rng.random((3, 20)))
    probability = rng.random(20).astype(np.float32)
    rewards, expected = pool(items, statistics, probability, 7)
    np.testing.assert_allclose(rewards, np.bincount(items, weights=statistics.b, minlength=7))
    np.testing.assert_allclose(expected, np.bincount(items, weights=statistics.n * probability, minlength=7))


@given(st.integers(0, 2**32))
def test_posterior_means_shrink_to_the_items_prior(seed: int) -> None:
    rng = np.random.default_rng(seed)
    items = rng.integers(5, size=20).astype(np.int32)
    statistics = Statistics(*rng.random((3, 20)) * 10)
    probability = rng.uniform(0.01, 0.9, size=20).astype(np.float32)
    qualities = rng.uniform(0.1, 3.0, size=(2, 5))
    found = posterior_means(items, statistics, probability, *qualities, pseudo_clicks=3.0)
    for means, quality in zip(found, qualities, strict=True):
        p = np.minimum(1, probability * quality[items])
        assert means.dtype == np.float32
        np.testing.assert_allclose(means, (statistics.b + 3) / (statistics.n + 3 / p), rtol=1e-5)
