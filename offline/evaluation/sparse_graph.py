"""The sparse graph by its prior alone: what the service recommends before anybody has clicked."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from bandit.bundle import Bundle
from bandit.context import UNIT


def scores(bundle: Bundle, users: NDArray[np.int32]) -> NDArray[np.float32]:
    """float32[n, J] for users int32[n]: Σ_c w_c · m_cj over the edges there are; 0 off the user's candidates."""
    return np.asarray((_contexts(bundle, users) @ _edges(bundle, bundle.prior.probability)).toarray(), dtype=np.float32)


def candidates(bundle: Bundle, users: NDArray[np.int32]) -> NDArray[np.bool_]:
    """bool[n, J] for users int32[n]: the items that an edge joins to one of the user's clusters."""
    paths = _contexts(bundle, users) @ _edges(bundle, np.ones(bundle.graph.num_edges))
    return np.asarray(paths.toarray() > 0)


def _contexts(bundle: Bundle, users: NDArray[np.int32]) -> sparse.csr_array:
    """The weights of users' clusters, float64[n, C]."""
    row, place = np.nonzero(bundle.user_weights[users])
    weights, clusters = bundle.user_weights[users][row, place] / UNIT, bundle.user_clusters[users][row, place]
    return sparse.csr_array((weights, (row, clusters)), shape=(len(users), bundle.graph.num_clusters))


def _edges(bundle: Bundle, values: NDArray[np.floating]) -> sparse.csr_array:
    """A value for each edge, float64[C, J]."""
    graph = bundle.graph
    return sparse.csr_array((values, graph.items, graph.indptr), shape=(graph.num_clusters, graph.num_items))
