"""Diag-LinUCB, the paper's form."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bandit.graph import Graph
from bandit.policies.base import Derived
from bandit.prior import Prior
from bandit.statistics import Statistics


@dataclass(frozen=True)
class DiagLinUCB:
    """Upper confidence bounds from two sums per edge, eq. (7)–(9) of Online Matching, to the letter.

        θ_cj = b_cj / (d0 + d_cj)        score = Σ_c w_c θ_cj + α · sqrt(Σ_c w_c² / (d0 + d_cj))

    Items with an edge that nobody has seen (n = 0) have an infinite bonus and go first. The prior is not read.
    With soft weights the means are inflated up to K-fold, so scores are no probabilities.

    Attributes:
        alpha: exploration strength.
        d0: what d starts from, > 0.
        randomise_over: k, the slate is drawn uniformly from the k best.
    """

    alpha: float = 0.5
    d0: float = 1.0
    randomise_over: int = 20
    name = "diag_linucb"

    def derive(self, graph: Graph, statistics: Statistics, prior: Prior) -> Derived:  # noqa: ARG002
        """See `Policy`."""
        d = self.d0 + statistics.d
        theta = (statistics.b / d).astype(np.float32)
        return Derived(
            mean=theta,
            optimistic=theta,
            variance=np.reciprocal(d, out=d).astype(np.float32),
            untouched=statistics.n == 0,
            alpha=self.alpha,
        )
