"""The default: the paper's lock-free sums, a calibrated finite prior, and optimism at the item."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bandit.calibration import calibration, pool, posterior_means
from bandit.graph import Graph
from bandit.policies.base import Derived
from bandit.prior import BASE_RATE, Prior
from bandit.statistics import Statistics


@dataclass(frozen=True)
class CalibratedDiagLinUCB:
    """Each edge's click rate, shrunk to what the offline model believed, corrected for the item and for the model.

        B_j = Σ_c b_cj,  E_j = Σ_c n_cj·m_cj,  g = (Σ B + 5) / (Σ E + 5)
        ρ_j = (B_j + A_j·g) / (E_j + A_j)             the item against its prior
        o_j = (1 + z / (2·sqrt(B_j + A_j)))²          optimism, where evidence pools over clusters
        p_cj = min(1, m_cj·ρ_j·o_j)
        θ_cj = (b_cj + a) / (n_cj + a / p_cj)         the score is Σ_c w_c θ_cj; the mean is the same with o = 1

    Where the prior is uninformed there is no item to correct: p = 0.05·g on every edge, and the bonus is
    α · sqrt(M (1 − M) · Σ_c w_c² / (n_cj + a / p)) around the mean M.

    Attributes:
        z: optimism at the item, in standard deviations.
        pseudo_clicks: a, expected clicks that the prior is worth on every edge.
        uninformed_pseudo_clicks: a where the prior is uninformed.
        uninformed_alpha: α where the prior is uninformed.
        randomise_over: k, the slate is drawn uniformly from the k best; 0: the best, in order.
    """

    z: float = 1.0
    pseudo_clicks: float = 3.0
    uninformed_pseudo_clicks: float = 2.0
    uninformed_alpha: float = 0.3
    randomise_over: int = 0
    name = "calibrated_diag_linucb"

    def derive(self, graph: Graph, statistics: Statistics, prior: Prior) -> Derived:
        """See `Policy`."""
        return self._informed(graph, statistics, prior) if prior.informed else self._uninformed(statistics)

    def _informed(self, graph: Graph, statistics: Statistics, prior: Prior) -> Derived:
        strength = prior.strength.astype(np.float64)
        rewards, expected = pool(graph.items, statistics, prior.probability, graph.num_items)
        g = calibration(float(rewards.sum()), float(expected.sum()))
        quality = (rewards + strength * g) / (expected + strength)
        optimism = (1 + self.z / (2 * np.sqrt(rewards + strength))) ** 2
        mean, optimistic = posterior_means(
            graph.items, statistics, prior.probability, quality, quality * optimism, pseudo_clicks=self.pseudo_clicks
        )
        return Derived(mean, optimistic)

    def _uninformed(self, statistics: Statistics) -> Derived:
        g = calibration(float(statistics.b.sum()), BASE_RATE * float(statistics.n.sum()))
        a = self.uninformed_pseudo_clicks
        shown = statistics.n + a / min(1.0, BASE_RATE * g)
        theta = ((statistics.b + a) / shown).astype(np.float32)
        return Derived(
            mean=theta,
            optimistic=theta,
            variance=np.reciprocal(shown, out=shown).astype(np.float32),
            alpha=self.uninformed_alpha,
            bernoulli=True,
        )
