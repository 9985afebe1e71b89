"""The sparse bipartite graph clusters → items, whose edges are the unit that learns (Online Matching §3)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Graph:
    """Edges in compressed rows: row c holds the items of cluster c.

    An edge is known by its index into `items`; inside its row it is a *slot*, `edge - indptr[cluster]`, which is
    also its place in the cluster's row of statistics in Redis.

    Attributes:
        indptr: int64[C + 1], where each cluster's row starts and ends.
        items: int32[E], item numbers, ascending and unique inside a row.
        num_items: J, the size of the catalogue; an item may lack edges.
    """

    indptr: NDArray[np.int64]
    items: NDArray[np.int32]
    num_items: int

    def __post_init__(self) -> None:
        if self.indptr.ndim != 1 or len(self.indptr) < 2 or self.indptr[0] != 0:
            raise ValueError("graph: indptr must be a vector that starts at 0 and has at least one row")
        if np.any(np.diff(self.indptr) < 0) or self.indptr[-1] != len(self.items):
            raise ValueError("graph: indptr must rise to the number of edges")
        if len(self.items) and (self.items.min() < 0 or self.items.max() >= self.num_items):
            raise ValueError(f"graph: item numbers must lie in [0, {self.num_items})")
        rising = np.diff(self.items) > 0
        row_starts = self.indptr[1:-1]
        inner = row_starts[(row_starts > 0) & (row_starts < len(self.items))]
        rising[inner - 1] = True
        if not rising.all():
            raise ValueError("graph: items must be ascending and unique inside a row")

    @classmethod
    def from_edges(
        cls, clusters: NDArray[np.integer], items: NDArray[np.integer], num_clusters: int, num_items: int
    ) -> Graph:
        """Sort edges (clusters int[E], items int[E]) into rows; a repeated edge is kept once."""
        keys = np.unique(clusters.astype(np.int64) * num_items + items)
        indptr = np.searchsorted(keys, np.arange(num_clusters + 1, dtype=np.int64) * num_items)
        return cls(indptr.astype(np.int64), (keys % num_items).astype(np.int32), num_items)

    @property
    def num_clusters(self) -> int:
        """C, the number of rows."""
        return len(self.indptr) - 1

    @property
    def num_edges(self) -> int:
        """E, the number of edges."""
        return len(self.items)

    @cached_property
    def clusters(self) -> NDArray[np.int32]:
        """int32[E], each edge's cluster."""
        return np.repeat(np.arange(self.num_clusters, dtype=np.int32), np.diff(self.indptr))

    def row(self, cluster: int) -> slice:
        """The edges of one cluster."""
        return slice(int(self.indptr[cluster]), int(self.indptr[cluster + 1]))

    def edges_of(self, item: int) -> NDArray[np.int64]:
        """int64[n], every edge of one item, by cluster."""
        return np.flatnonzero(self.items == item)
