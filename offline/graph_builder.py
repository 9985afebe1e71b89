"""The graph builder: which items a cluster may recommend, and how likely it is to want each (Online Matching §3)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bandit import prior
from bandit.graph import Graph
from bandit.prior import FRESH_STRENGTH, KNOWN_STRENGTH, Prior
from offline.config import Build

BLOCK = 1 << 24
"""So many inner products are in memory at a time: 256 MiB with the places that sorting them gives."""


def draw(centroids: NDArray[np.float32], items: NDArray[np.float32], config: Build) -> Graph:
    """Edges from each cluster to its best items, and to each item from its best clusters.

    Every row gets the W items of greatest inner product with the centroid. An item that fewer than the floor's number
    of rows took is added to the rows of as many clusters, those nearest to it. So no item is unreachable, and a row
    holds at least min(W, J) edges; it holds more than W where unpopular items live nearby.

    Args:
        centroids: float32[C, D].
        items: float32[J, D].
        config: W and the floor.
    """
    num_clusters, num_items = len(centroids), len(items)
    width, floor = min(config.edges_per_cluster, num_items), min(config.clusters_per_item, num_clusters)
    best = _nearest(centroids, items, width)
    reached = np.bincount(best.ravel(), minlength=num_items)
    lacking = np.flatnonzero(reached < floor)
    nearest = _nearest(items[lacking], centroids, floor)
    clusters = np.concatenate([np.repeat(np.arange(num_clusters), width), nearest.ravel()])
    edges = np.concatenate([best.ravel(), np.repeat(lacking, floor)])
    return Graph.from_edges(clusters, edges, num_clusters, num_items)


def believe(
    graph: Graph,
    centroids: NDArray[np.float32],
    items: NDArray[np.float32],
    temperature: float,
    trained: NDArray[np.bool_],
) -> Prior:
    """The towers' softmax over each row as prior probabilities; held weakly for items they never saw taken.

    Args:
        graph: C clusters, J items, E edges.
        centroids: float32[C, D].
        items: float32[J, D].
        temperature: τ of the towers' softmax.
        trained: bool[J], items with training interactions.
    """
    logits = np.einsum("ed,ed->e", centroids[graph.clusters], items[graph.items]).astype(np.float64) / temperature
    highest = np.maximum.reduceat(logits, graph.indptr[:-1])
    odds = np.exp(logits - highest[graph.clusters])
    totals = np.add.reduceat(odds, graph.indptr[:-1])
    strength = np.where(trained, KNOWN_STRENGTH, FRESH_STRENGTH).astype(np.float32)
    return Prior(prior.from_softmax(odds / totals[graph.clusters], graph.indptr), strength, informed=True)


def _nearest(asking: NDArray[np.float32], asked: NDArray[np.float32], number: int) -> NDArray[np.int32]:
    """int32[A, number]: of each row float32[A, D], the rows float32[B, D] of greatest inner product, in no order.

    A block of A × B products at a time: all of thousands of clusters by a million items would be many gigabytes.
    """
    found = np.empty((len(asking), number), dtype=np.int32)
    step = max(1, BLOCK // len(asked))
    for start in range(0, len(asking), step):
        block = slice(start, start + step)
        found[block] = np.argpartition(-(asking[block] @ asked.T), number - 1, axis=1)[:, :number]
    return found
