"""Matching: which cluster of an earlier bundle each cluster of a new one continues, so that its learning carries over.

Two trainings have nothing in common but the users and the items they speak of: their spaces may be turned any way. So
clusters are compared by their members, the weights with which users known to both belong to them; and by the items of
their rows, for only an edge that is in both can carry anything over.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph

from bandit.bundle import Bundle
from bandit.lineage import Ancestor, trace

# Of two trainings of one shop that differ in their seed, nearest neighbours within one have a median cosine of 0.2: a
# pair below that is no better than any neighbour.
LEAST_SIMILARITY = 0.3
# What being left alone is worth beside the best pair: so little that it never outweighs another pair.
NEXT_TO_NOTHING = 1e-12


class Match(NamedTuple):
    """The clusters that continue an earlier bundle's, and what that carries over.

    Attributes:
        parents: int32[C], each cluster's parent, -1 where none fits; injective.
        clusters: share of the earlier bundle's clusters that have a child.
        edges: share of its edges that have one.
        weight: the same, an edge counted by the weight of its cluster's members and its prior: what stands for
            impressions, which are known to the service alone.
    """

    parents: NDArray[np.int32]
    clusters: float
    edges: float
    weight: float


def match(new: Bundle, old: Bundle) -> Match:
    """Match the clusters of a new bundle to an earlier one's."""
    parents = assign(kinship(new, old))
    child = Ancestor("", old.manifest.version, new.graph, new.item_ids, parents)
    ((_, _, heirs),) = trace(child, [old.lineage])
    inherited = heirs >= 0
    members = np.asarray(_members(old, np.arange(len(old.user_clusters))).sum(axis=0)).ravel()
    weight = members[old.graph.clusters] * old.prior.probability
    return Match(
        parents,
        clusters=float((parents >= 0).sum() / old.graph.num_clusters),
        edges=float(inherited.mean()),
        weight=float(weight[inherited].sum() / weight.sum()) if weight.sum() > 0 else 0.0,
    )


def kinship(new: Bundle, old: Bundle) -> sparse.csr_array:
    """How much of each earlier cluster's learning each new cluster would carry over.

    That is the weight that the two share in their common members (Σ_u w_uc·w_up) times the share of the earlier row's
    items that the new row holds. Without common users, items alone decide. Pairs that resemble each other too little
    (a cosine between their members, or items, below 0.3) carry nothing: what other people said would mislead.

    Returns:
        float64[C, P], ≥ 0, C new clusters and P earlier ones; most entries are absent.
    """
    rows = new.user_rows
    both = np.array([(rows[user], row) for user, row in old.user_rows.items() if user in rows], dtype=np.int64)
    new_items, old_items = _items(new, old.item_numbers), _items(old, old.item_numbers)
    shared = sparse.csr_array(new_items @ old_items.T)
    sizes = np.diff(old.graph.indptr)
    portion = shared @ sparse.diags_array(1 / np.maximum(sizes, 1))
    if not len(both):
        return sparse.csr_array(portion.multiply(_alike(shared, np.diff(new.graph.indptr), sizes)))
    ours, theirs = _members(new, both[:, 0]), _members(old, both[:, 1])
    common = sparse.csr_array(ours.T @ theirs)
    norms = (np.asarray(part.multiply(part).sum(axis=0)).ravel() for part in (ours, theirs))
    return sparse.csr_array(common.multiply(_alike(common, *norms)).multiply(portion))


def assign(gain: sparse.csr_array) -> NDArray[np.int32]:
    """The injective assignment of rows to columns that gains most.

    Args:
        gain: float64[C, P], ≥ 0; only entries greater than 0 may be chosen.

    Returns:
        int32[C], each row's column, -1 for none.
    """
    gain = sparse.csr_array(gain, dtype=np.float64)
    gain.eliminate_zeros()
    rows, columns = gain.shape
    if gain.nnz == 0:
        return np.full(rows, -1, dtype=np.int32)
    # Every row may also take a column of its own, worth next to nothing: so there always is a full matching.
    none = sparse.diags_array(np.full(rows, gain.data.max() * NEXT_TO_NOTHING))
    found = csgraph.min_weight_full_bipartite_matching(sparse.hstack([gain, none], format="csr"), maximize=True)[1]
    return np.where(found < columns, found, -1).astype(np.int32)


def _members(bundle: Bundle, users: NDArray[np.int64]) -> sparse.csr_array:
    """Weights in units of 1: float64[n, C] of these users' rows."""
    clusters, weights = bundle.user_clusters[users], bundle.user_weights[users]
    row, place = np.nonzero(weights)
    shape = (len(users), bundle.graph.num_clusters)
    return sparse.csr_array((weights[row, place] / (1 << 15), (row, clusters[row, place])), shape=shape)


def _items(bundle: Bundle, numbers: dict[str, int]) -> sparse.csr_array:
    """Which cluster's row holds which item, by the numbers of one catalogue: float64[C, J] of 0 and 1."""
    known = np.array([numbers.get(item_id, -1) for item_id in bundle.item_ids], dtype=np.int64)[bundle.graph.items]
    kept = known >= 0
    entries = np.ones(int(kept.sum())), (bundle.graph.clusters[kept], known[kept])
    return sparse.csr_array(entries, shape=(bundle.graph.num_clusters, len(numbers)))


def _alike(
    products: sparse.csr_array, squares: NDArray[np.floating], other_squares: NDArray[np.floating]
) -> sparse.csr_array:
    """1 where the cosine, from inner products and squared lengths, reaches the least similarity."""
    scaled = [sparse.diags_array(1 / np.sqrt(np.maximum(square, 1e-12))) for square in (squares, other_squares)]
    cosine = sparse.csr_array(scaled[0] @ products @ scaled[1])
    cosine.data = (cosine.data >= LEAST_SIMILARITY).astype(np.float64)
    return cosine
