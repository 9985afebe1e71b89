"""The offline model alone: what there would be without online learning."""

from __future__ import annotations

from dataclasses import dataclass

from bandit.graph import Graph
from bandit.policies.base import Derived
from bandit.prior import Prior
from bandit.statistics import Statistics


@dataclass(frozen=True)
class Greedy:
    """Score = Σ_c w_c m_cj, the prior's expected reward; statistics are not read."""

    randomise_over: int = 0
    name = "greedy"

    def derive(self, graph: Graph, statistics: Statistics, prior: Prior) -> Derived:  # noqa: ARG002
        """See `Policy`. The result shares the prior's array."""
        return Derived(prior.probability, prior.probability)
