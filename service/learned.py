"""What a server has learned: the rows of its bundle and of the bundle's ancestors, as Redis holds them.

An event is folded only into the version that its token names. So each version's sums are kept apart, bit for bit as in
Redis, and an edge is served with its own sums and those of its parents.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from bandit import statistics
from bandit.bundle import Bundle
from bandit.graph import Graph
from bandit.lineage import Generation
from service.store.changes import RowChange
from service.store.keys import Keys, RowName

Sums = NDArray[np.int64]


class Learned:
    """Sums of one bundle's edges, its own and inherited, by namespace; written by one thread.

    Attributes:
        own: int64[E, 3] by namespace, what events said whose tokens name this bundle.
        inherited: int64[E, 3] by namespace, what its ancestors' edges have; empty without ancestors.
        generations: the ancestors, parent first.
    """

    def __init__(self, bundle: Bundle, namespaces: Iterable[str], generations: Sequence[Generation] = ()) -> None:
        self.version = bundle.manifest.version
        self.generations = tuple(generations)
        self._namespaces = tuple(dict.fromkeys(namespaces))
        self._graphs: dict[str, Graph] = {self.version: bundle.graph} | {g.version: g.graph for g in generations}
        self._sums = {
            (namespace, version): statistics.zeros(graph.num_edges)
            for namespace in self._namespaces
            for version, graph in self._graphs.items()
        }
        edges = bundle.graph.num_edges
        self._heirs = {generation.version: generation.heirs for generation in generations}
        self._parents = {generation.version: _inverse(generation.heirs, edges) for generation in generations}
        self.own = {namespace: self._sums[namespace, self.version] for namespace in self._namespaces}
        self.inherited = {namespace: statistics.zeros(edges) for namespace in self._namespaces if generations}

    def names(self, keys: Keys, shard: int) -> list[RowName]:
        """Every row of a shard that counts for this bundle."""
        return [
            RowName(namespace, version, cluster)
            for namespace in self._namespaces
            for version, graph in self._graphs.items()
            for cluster in range(graph.num_clusters)
            if keys.shard_of_cluster(cluster) == shard
        ]

    def read(self, name: RowName, row: bytes) -> None:
        """Take over a row as Redis holds it; `name` is one of `names`."""
        edges = self._graphs[name.version].row(name.cluster)
        self._sums[name.namespace, name.version][edges] = statistics.from_row(row, edges.stop - edges.start)
        self._pass_on(name, edges)

    def apply(self, change: RowChange) -> bool:
        """Take over new values of some edges; whether they count for this bundle."""
        name = change.name
        sums = self._sums.get((name.namespace, name.version))
        if sums is None:
            return False
        edges = self._graphs[name.version].indptr[name.cluster] + change.slots
        sums[edges] = change.sums
        self._pass_on(name, edges)
        return True

    def row(self, name: RowName) -> bytes:
        """A row in the form that Redis has; `name` is one of `names`."""
        edges = self._graphs[name.version].row(name.cluster)
        return self._sums[name.namespace, name.version][edges].astype(statistics.ROW_DTYPE).tobytes()

    def served(self, namespace: str) -> Sums:
        """What a namespace's edges are served by, own and inherited: int64[E, 3]. Not to be written to."""
        own = self.own[namespace]
        return own + self.inherited[namespace] if self.generations else own

    def _pass_on(self, name: RowName, edges: slice | NDArray[np.int64]) -> None:
        """Sum anew what the heirs of some of an ancestor's edges inherit."""
        if name.version == self.version:
            return
        heirs = self._heirs[name.version][edges]
        heirs = heirs[heirs >= 0]
        total = statistics.zeros(len(heirs))
        for version, parents in self._parents.items():
            parent = parents[heirs]
            known = parent >= 0
            total[known] += self._sums[name.namespace, version][parent[known]]
        # No edge inherits twice from one generation, so the places differ.
        self.inherited[name.namespace][heirs] = total


def _inverse(heirs: NDArray[np.int64], edges: int) -> NDArray[np.int64]:
    """int64[edges], the ancestor's edge that each edge is the heir of, -1 for none."""
    parents = np.full(edges, -1, dtype=np.int64)
    (known,) = np.nonzero(heirs >= 0)
    parents[heirs[known]] = known
    return parents
