"""Diag-LinUCB that starts from the offline model's beliefs instead of from nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bandit.calibration import calibration, pool
from bandit.graph import Graph
from bandit.policies.base import Derived
from bandit.prior import Prior
from bandit.statistics import Statistics


@dataclass(frozen=True)
class DiagLinUCBPrior:
    """Eq. (7)–(9) of Online Matching with sums that start from a finite prior.

        θ_cj = (d0·m_cj·g + b_cj) / (d0 + d_cj)        score = Σ_c w_c θ_cj + α · sqrt(Σ_c w_c² / (d0 + d_cj))

    A finite prior bounds every edge's bonus, so no item goes first for being unseen.

    Attributes:
        alpha: exploration strength.
        d0: how much seen weight (Σ w²) the prior is worth on every edge, > 0.
        randomise_over: k, the slate is drawn uniformly from the k best.
    """

    alpha: float = 0.5
    d0: float = 20.0
    randomise_over: int = 20
    name = "diag_linucb_prior"

    def derive(self, graph: Graph, statistics: Statistics, prior: Prior) -> Derived:
        """See `Policy`."""
        rewards, expected = pool(graph.items, statistics, prior.probability, graph.num_items)
        g = calibration(float(rewards.sum()), float(expected.sum()))
        d = self.d0 + statistics.d
        b = np.multiply(prior.probability, self.d0 * g, dtype=np.float64)
        b += statistics.b
        theta = (b / d).astype(np.float32)
        return Derived(
            mean=theta,
            optimistic=theta,
            variance=np.reciprocal(d, out=d).astype(np.float32),
            alpha=self.alpha,
        )
