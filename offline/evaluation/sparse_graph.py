"""The sparse graph by its prior alone: what the service recommends before anybody has clicked."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bandit.bundle import Bundle
from bandit.context import UNIT


def scores(bundle: Bundle, users: NDArray[np.int32]) -> NDArray[np.float32]:
    """float32[n, J] for users int32[n]: Σ_c w_c · m_cj over the edges there are; 0 off the user's candidates."""
    matrix = np.zeros((bundle.graph.num_clusters, bundle.graph.num_items), dtype=np.float32)
    matrix[bundle.graph.clusters, bundle.graph.items] = bundle.prior.probability
    weights = np.zeros((len(users), bundle.graph.num_clusters), dtype=np.float32)
    np.add.at(weights, (np.arange(len(users))[:, None], bundle.user_clusters[users]), bundle.user_weights[users] / UNIT)
    return weights @ matrix


def candidates(bundle: Bundle, users: NDArray[np.int32]) -> NDArray[np.bool_]:
    """bool[n, J] for users int32[n]: the items that an edge joins to one of the user's clusters."""
    edges = np.zeros((bundle.graph.num_clusters, bundle.graph.num_items), dtype=bool)
    edges[bundle.graph.clusters, bundle.graph.items] = True
    return np.asarray((edges[bundle.user_clusters[users]] & (bundle.user_weights[users] > 0)[:, :, None]).any(axis=1))
