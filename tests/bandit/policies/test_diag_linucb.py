import pytest

from bandit.policies.diag_linucb import DiagLinUCB
from tests.bandit.policies.tiny import GRAPH, PRIOR, STATISTICS


def test_the_papers_form() -> None:
    derived = DiagLinUCB().derive(GRAPH, STATISTICS, PRIOR)
    assert derived.mean.tolist() == pytest.approx([0, 1 / 2, 2 / 5, 0])
    assert derived.optimistic is derived.mean
    assert derived.variance.tolist() == pytest.approx([1, 1 / 2, 1 / 5, 1 / 4])
    assert derived.untouched.tolist() == [True, False, False, False]
    assert (derived.alpha, derived.bernoulli, len(derived.base)) == (0.5, False, 0)


def test_parameters() -> None:
    policy = DiagLinUCB(alpha=2.0, d0=4.0, randomise_over=5)
    derived = policy.derive(GRAPH, STATISTICS, PRIOR)
    assert derived.mean.tolist() == pytest.approx([0, 1 / 5, 2 / 8, 0])
    assert (derived.alpha, policy.randomise_over) == (2.0, 5)
