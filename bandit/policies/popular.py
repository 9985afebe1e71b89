"""The most clicked per impression, whoever asks: the baseline to beat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bandit.graph import Graph
from bandit.policies.base import Derived
from bandit.prior import BASE_RATE, Prior
from bandit.statistics import Statistics


@dataclass(frozen=True)
class Popular:
    """Score = (B_j + 1) / (N_j + 20), the item's online reward rate over all clusters, shrunk to 1 in 20.

    The context only says which items are candidates.
    """

    randomise_over: int = 0
    name = "popular"

    def derive(self, graph: Graph, statistics: Statistics, prior: Prior) -> Derived:  # noqa: ARG002
        """See `Policy`."""
        rewards = np.bincount(graph.items, weights=statistics.b, minlength=graph.num_items)
        shown = np.bincount(graph.items, weights=statistics.n, minlength=graph.num_items)
        base = ((rewards + 1) / (shown + 1 / BASE_RATE)).astype(np.float32)
        nothing = np.zeros(graph.num_edges, dtype=np.float32)
        return Derived(nothing, nothing, base=base)
