from math import sqrt

import numpy as np
import pytest

from bandit.policies.calibrated_diag_linucb import CalibratedDiagLinUCB
from bandit.prior import BASE_RATE
from tests.bandit.policies.tiny import CALIBRATION, GRAPH, PRIOR, STATISTICS

# B = 0, 3, 0 and E = 0, 0.4 + 0.4, 2 per item.
QUALITY = [CALIBRATION, (3 + 30 * CALIBRATION) / 30.8, CALIBRATION / 3]
OPTIMISM = [(1 + 1 / (2 * sqrt(30))) ** 2, (1 + 1 / (2 * sqrt(33))) ** 2, 1.5**2]


def test_means_are_shrunk_to_the_prior_of_the_item() -> None:
    derived = CalibratedDiagLinUCB().derive(GRAPH, STATISTICS, PRIOR)
    p = [0.1 * QUALITY[0], 0.2 * QUALITY[1], 0.05 * QUALITY[1], 0.4 * QUALITY[2]]
    expected = [p[0], (1 + 3) / (2 + 3 / p[1]), (2 + 3) / (8 + 3 / p[2]), 3 / (5 + 3 / p[3])]
    assert derived.mean.tolist() == pytest.approx(expected)


def test_optimism_is_at_the_item() -> None:
    derived = CalibratedDiagLinUCB().derive(GRAPH, STATISTICS, PRIOR)
    q = [quality * optimism for quality, optimism in zip(QUALITY, OPTIMISM, strict=True)]
    p = [0.1 * q[0], 0.2 * q[1], 0.05 * q[1], 0.4 * q[2]]
    expected = [p[0], (1 + 3) / (2 + 3 / p[1]), (2 + 3) / (8 + 3 / p[2]), 3 / (5 + 3 / p[3])]
    assert derived.optimistic.tolist() == pytest.approx(expected)
    assert (derived.optimistic > derived.mean).all()
    assert [len(array) for array in derived[2:5]] == [0, 0, 0]


def test_without_optimism_there_is_no_bonus() -> None:
    derived = CalibratedDiagLinUCB(z=0.0).derive(GRAPH, STATISTICS, PRIOR)
    np.testing.assert_array_equal(derived.optimistic, derived.mean)


def test_a_prior_probability_ends_at_one() -> None:
    certain = PRIOR._replace(probability=np.ones(4, dtype=np.float32))
    derived = CalibratedDiagLinUCB().derive(GRAPH, STATISTICS._replace(b=np.full(4, 1e4)), certain)
    assert derived.mean.tolist() == pytest.approx([(1e4 + 3) / (n + 3) for n in STATISTICS.n])


def test_an_impossible_edge_stays_impossible() -> None:
    never = PRIOR._replace(probability=np.zeros(4, dtype=np.float32))
    derived = CalibratedDiagLinUCB().derive(GRAPH, STATISTICS, never)
    assert derived.mean.tolist() == derived.optimistic.tolist() == [0.0] * 4


def test_an_uninformed_prior_leaves_the_bonus_to_the_edge() -> None:
    flat = PRIOR._replace(probability=np.full(4, BASE_RATE, dtype=np.float32), informed=False)
    derived = CalibratedDiagLinUCB().derive(GRAPH, STATISTICS, flat)
    p = 0.05 * (3 + 5) / (15 * 0.05 + 5)
    shown = [n + 2 / p for n in STATISTICS.n]
    assert derived.mean.tolist() == pytest.approx([(b + 2) / s for b, s in zip(STATISTICS.b, shown, strict=True)])
    assert derived.optimistic is derived.mean
    assert derived.variance.tolist() == pytest.approx([1 / s for s in shown])
    assert (derived.alpha, derived.bernoulli, len(derived.untouched)) == (0.3, True, 0)
