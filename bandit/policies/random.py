"""Uniform choice among all candidates: the floor, and the cleanest log for offline evaluation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bandit.graph import Graph
from bandit.policies.base import EVERY_CANDIDATE, Derived
from bandit.prior import Prior
from bandit.statistics import Statistics


@dataclass(frozen=True)
class Random:
    """Every candidate scores 0; slates are drawn uniformly from all of them."""

    randomise_over: int = EVERY_CANDIDATE
    name = "random"

    def derive(self, graph: Graph, statistics: Statistics, prior: Prior) -> Derived:  # noqa: ARG002
        """See `Policy`."""
        nothing = np.zeros(graph.num_edges, dtype=np.float32)
        return Derived(nothing, nothing)
