import pytest

from bandit.policies.diag_linucb_prior import DiagLinUCBPrior
from tests.bandit.policies.tiny import CALIBRATION, GRAPH, PRIOR, STATISTICS


def test_sums_start_from_the_calibrated_prior() -> None:
    derived = DiagLinUCBPrior().derive(GRAPH, STATISTICS, PRIOR)
    g = CALIBRATION
    assert derived.mean.tolist() == pytest.approx([2 * g / 20, (4 * g + 1) / 21, (g + 2) / 24, 8 * g / 23])
    assert derived.optimistic is derived.mean
    assert derived.variance.tolist() == pytest.approx([1 / 20, 1 / 21, 1 / 24, 1 / 23])
    assert (derived.alpha, derived.bernoulli, len(derived.base)) == (0.5, False, 0)


def test_no_bonus_is_infinite() -> None:
    assert not len(DiagLinUCBPrior().derive(GRAPH, STATISTICS, PRIOR).untouched)
