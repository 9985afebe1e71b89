"""What edges are served by, from the reference's sums and the bundles' own words: their own sums and their parents'."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bandit import statistics
from bandit.bundle import Bundle
from tests.service.single_pass import Edge, Sums


class Expected(NamedTuple):
    """int64[E, 3] each."""

    own: NDArray[np.int64]
    inherited: NDArray[np.int64]


def expected(found: Mapping[Edge, Sums], namespace: str, bundle: Bundle, *ancestors: Bundle) -> Expected:
    """The sums of a bundle's edges; `ancestors` are those that count, parent first."""
    graph = bundle.graph
    own, inherited = statistics.zeros(graph.num_edges), statistics.zeros(graph.num_edges)
    for edge, (cluster, item) in enumerate(zip(graph.clusters.tolist(), graph.items.tolist(), strict=True)):
        own[edge] = _said(found, namespace, bundle, cluster, item)
        descendant = bundle
        for ancestor in ancestors:
            cluster = int(descendant.parents[cluster])  # noqa: PLW2901
            number = ancestor.item_numbers.get(bundle.item_ids[item])
            if cluster < 0:
                break
            if number is not None:
                inherited[edge] += _said(found, namespace, ancestor, cluster, number)
            descendant = ancestor
    return Expected(own, inherited)


def _said(found: Mapping[Edge, Sums], namespace: str, bundle: Bundle, cluster: int, item: int) -> NDArray[np.int64]:
    (slots,) = np.nonzero(bundle.graph.items[bundle.graph.row(cluster)] == item)
    nothing = (0, 0, 0)
    version = bundle.manifest.version
    sums = [found.get((namespace, version, cluster, slot), nothing) for slot in slots.tolist()]
    return np.array(sums[0] if sums else nothing, dtype=np.int64)
