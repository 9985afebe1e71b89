import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandit import belief
from bandit.statistics import Statistics

A = 3.0


def posterior(said: Statistics, p: np.ndarray) -> np.ndarray:
    return np.asarray((said.b + A) / (said.n + A / p))


def test_beliefs_are_in_the_order_of_the_logits_and_as_high_as_the_prior() -> None:
    logits = np.array([1.0, -2.0, 0.5, 9.0], dtype=np.float32)
    expected = np.array([0.002, 0.001, 0.004, 0.001])
    found = belief.of_logits(logits, expected)
    assert np.argsort(found).tolist() == np.argsort(logits).tolist()
    odds = found / (1 - found)
    assert odds.mean() == pytest.approx(expected.mean())
    assert odds / odds.sum() == pytest.approx(np.exp(logits) / np.exp(logits).sum(), rel=1e-4)


def test_however_sure_the_ranker_is_its_first_do_not_tie() -> None:
    found = belief.of_logits(np.array([80, 79, 78, -900], dtype=np.float32), np.full(4, 0.3))
    assert found[0] > found[1] > found[2] > found[3] >= 0
    assert found[0] < 1


@given(st.integers(0, 2**32))
def test_a_belief_takes_the_priors_place_in_the_posterior(seed: int) -> None:
    rng = np.random.default_rng(seed)
    said = Statistics(rng.random(9), *(rng.random((2, 9)) * 50))
    p, ratio = rng.uniform(0.01, 0.9, 9), rng.lognormal(sigma=2, size=9)
    found = belief.replace(posterior(said, p), said, ratio, A)
    assert found == pytest.approx(posterior(said, np.minimum(p * ratio, 1)), rel=1e-6)


def test_with_nothing_said_the_score_is_the_belief_and_with_much_said_what_users_say() -> None:
    ratio = np.array([0.2, 5.0])
    nothing = Statistics(*np.zeros((3, 2)))
    assert belief.replace(np.full(2, 0.1), nothing, ratio, A) == pytest.approx([0.02, 0.5])
    much = Statistics(np.zeros(2), np.full(2, 1e6), np.full(2, 3e5))
    assert belief.replace(posterior(much, np.full(2, 0.1)), much, ratio, A) == pytest.approx([0.3, 0.3], rel=1e-3)
