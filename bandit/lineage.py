"""Lineage: which edges of earlier bundles this bundle's edges descend from, so that learning carries over by reference.

An edge's parent is (its cluster's parent, the same item). Clusters are followed from generation to generation and items
are matched at the end: an edge that one generation in between lacked is found again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bandit.graph import Graph


class Ancestor(NamedTuple):
    """What an earlier bundle is to those that descend from it.

    Attributes:
        version, parent_version: its own, and its parent's if it has one.
        graph: C clusters, J items, E edges.
        item_ids: J ids, in item-number order.
        parents: int32[C], each cluster's parent in `parent_version`, -1 for none; empty without one.
    """

    version: str
    parent_version: str | None
    graph: Graph
    item_ids: Sequence[str]
    parents: NDArray[np.int32]


class Generation(NamedTuple):
    """An earlier bundle's edges as a later one inherits them.

    Attributes:
        version: the earlier bundle's.
        graph: the earlier bundle's, E edges.
        heirs: int64[E], the later bundle's edge that each edge's learning counts for, -1 for none; no edge twice.
    """

    version: str
    graph: Graph
    heirs: NDArray[np.int64]


def trace(heir: Ancestor, ancestors: Sequence[Ancestor]) -> list[Generation]:
    """Follow a bundle's edges back through its parent, its parent's parent and so on, in this order.

    Raises:
        ValueError: an ancestor is not the parent of the one before, or lacks clusters that are named as parents.
    """
    number = {item_id: item for item, item_id in enumerate(heir.item_ids)}
    clusters = np.arange(heir.graph.num_clusters, dtype=np.int32)
    generations, child = [], heir
    if len({heir.version, *(ancestor.version for ancestor in ancestors)}) <= len(ancestors):
        raise ValueError(f"{heir.version} descends from itself")
    for ancestor in ancestors:
        if child.parent_version != ancestor.version:
            raise ValueError(f"the parent of {child.version} is {child.parent_version}, not {ancestor.version}")
        if len(child.parents) and child.parents.max() >= ancestor.graph.num_clusters:
            raise ValueError(f"{child.version} names clusters as parents that {ancestor.version} does not have")
        clusters = np.where(clusters >= 0, child.parents[clusters], -1).astype(np.int32)
        items = np.array([number.get(item_id, -1) for item_id in ancestor.item_ids], dtype=np.int64)
        generations.append(
            Generation(ancestor.version, ancestor.graph, heirs(heir.graph, clusters, ancestor.graph, items))
        )
        child = ancestor
    return generations


def heirs(graph: Graph, clusters: NDArray[np.int32], earlier: Graph, items: NDArray[np.int64]) -> NDArray[np.int64]:
    """Find the edge that inherits from each edge of an earlier graph.

    Args:
        graph: C clusters.
        clusters: int32[C], each cluster's counterpart in the earlier graph, -1 for none; injective.
        earlier: J clusters' items, E edges.
        items: int64[J], each item's number in `graph`, -1 for none; injective.

    Returns:
        int64[E], edges of `graph`, -1 where the cluster, the item or the edge has no heir; no edge twice.
    """
    heir_of = np.full(earlier.num_clusters, -1, dtype=np.int64)
    heir_of[clusters[clusters >= 0]] = np.flatnonzero(clusters >= 0)
    cluster, item = heir_of[earlier.clusters], items[earlier.items]
    # Rows follow each other and their items ascend, so (cluster, item) as one number ascends over the edges.
    edges = graph.clusters.astype(np.int64) * graph.num_items + graph.items
    wanted = np.where((cluster >= 0) & (item >= 0), cluster * graph.num_items + item, -1)
    found = np.searchsorted(edges, wanted)
    found[found == len(edges)] = 0
    return np.where(edges[found] == wanted, found, -1)
