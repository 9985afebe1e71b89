"""The kernel: scores all candidates of a request in one fused pass over the edges of its clusters.

Compiled for its exact types on import and cached beside this file: no request ever waits for a compiler. Everything
here leaves the GIL, so requests on several threads run in parallel, each thread with a `Workspace` of its own.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit, types
from numpy.typing import NDArray

from bandit.context import UNIT, Context
from bandit.graph import Graph
from bandit.policies.base import Derived

Ints = NDArray[np.int32]
Longs = NDArray[np.int64]
Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]

_STEP = 1.0 / UNIT
FEW = 64
LAST_REQUEST = np.iinfo(np.int32).max

# Read-only is the wider type: arrays that may be written are accepted as well.
_INTS = types.Array(types.int32, 1, "C", readonly=True)
_LONGS = types.Array(types.int64, 1, "C", readonly=True)
_FLOATS = types.Array(types.float32, 1, "C", readonly=True)
_FLAGS = types.Array(types.boolean, 1, "C", readonly=True)


class Candidates(NamedTuple):
    """The items with an edge to at least one of a context's clusters, in the order in which they were met.

    Attributes:
        items: int32[n], item numbers, unique.
        scores: float32[n].
        means: float32[n], the expected reward without bonus; score − mean is the bonus.
        untouched: bool[n], whether an edge among them has never been seen, which gives an infinite bonus; bool[0]
            where the policy gives none.
    """

    items: NDArray[np.int32]
    scores: NDArray[np.float32]
    means: NDArray[np.float32]
    untouched: NDArray[np.bool_]


class Leaders(NamedTuple):
    """The best candidates of a context, best first.

    Attributes:
        items: int32[L], item numbers.
        scores: float32[L].
        means: float32[L], the expected reward without bonus.
        by_mean: bool[L], whether the item is among the L best by mean as well.
        slots: int32[L, K], as `edges` finds them.
    """

    items: NDArray[np.int32]
    scores: NDArray[np.float32]
    means: NDArray[np.float32]
    by_mean: NDArray[np.bool_]
    slots: NDArray[np.int32]


class Workspace:
    """One thread's memory between requests, for catalogues of up to `num_items` items; it grows by itself.

    `stamps` says in which request an item was last met, and what a request adds to `sums` and `extras` it takes out
    again: nothing as large as the catalogue is ever cleared.
    """

    def __init__(self, num_items: int) -> None:
        self.grow(num_items)

    def grow(self, num_items: int) -> None:
        """Make room for at least `num_items` items."""
        self.num_items = num_items
        self.request = 0
        self.stamps = np.zeros(num_items, dtype=np.int32)
        self.sums = np.zeros((num_items, 2), dtype=np.float32)
        self.extras = np.zeros((num_items, 2), dtype=np.float32)
        self.items = np.empty(num_items + 1, dtype=np.int32)
        self.scores = np.empty(num_items, dtype=np.float32)
        self.means = np.empty(num_items, dtype=np.float32)
        self.untouched = np.empty(num_items, dtype=np.bool_)

    def begin(self) -> int:
        """The number of a new request."""
        if self.request == LAST_REQUEST:
            self.grow(self.num_items)
        self.request += 1
        return self.request


def score(
    graph: Graph, context: Context, derived: Derived, excluded: NDArray[np.int32], workspace: Workspace
) -> Candidates:
    """Score every candidate of a context by the formula of `Derived`.

    Args:
        graph: the bundle's graph.
        context: clusters of this graph with weights.
        derived: what the policy derived for this graph.
        excluded: int32[m], item numbers that must not appear, in any order; unknown ones are ignored.
        workspace: the calling thread's own.

    Returns:
        Views of the workspace: they hold until it is used again.

    Raises:
        IndexError: a cluster that the graph does not have.
    """
    count = _score(*_inputs(graph, context, derived, excluded, workspace), *_room(0, 0))
    return Candidates(
        workspace.items[:count],
        workspace.scores[:count],
        workspace.means[:count],
        workspace.untouched[: count if len(derived.untouched) else 0],
    )


def lead(
    graph: Graph,
    context: Context,
    derived: Derived,
    excluded: NDArray[np.int32],
    workspace: Workspace,
    limit: int,
) -> Leaders | None:
    """Score, and find the `limit` best with their edges on the way: for slates that are simply the best in order.

    The arguments are those of `score`. Untouched edges are not asked for.

    Returns:
        Fresh arrays; None where there are fewer candidates than `limit`.

    Raises:
        IndexError: a cluster that the graph does not have.
    """
    room = _room(limit, len(context.clusters))
    count = _score(*_inputs(graph, context, derived, excluded, workspace), *room)
    return Leaders(*room[2:]) if count >= limit else None


def _room(limit: int, k: int) -> tuple[Any, ...]:
    """Arrays for `limit` leaders: their places among the candidates, the largest means, and `Leaders`' own."""
    return (
        np.empty(limit, dtype=np.int64),
        np.empty(limit, dtype=np.float32),
        np.empty(limit, dtype=np.int32),
        np.empty(limit, dtype=np.float32),
        np.empty(limit, dtype=np.float32),
        np.empty(limit, dtype=np.bool_),
        np.empty((limit, k), dtype=np.int32),
    )


def _inputs(
    graph: Graph, context: Context, derived: Derived, excluded: NDArray[np.int32], workspace: Workspace
) -> tuple[Any, ...]:
    if workspace.num_items < graph.num_items:
        workspace.grow(graph.num_items)
    return (
        graph.indptr,
        graph.items,
        context.clusters,
        context.weights,
        derived.mean,
        derived.optimistic,
        derived.variance,
        derived.base,
        derived.untouched,
        derived.alpha,
        derived.bernoulli,
        derived.optimistic is derived.mean,
        excluded,
        workspace.begin(),
        workspace.stamps,
        workspace.sums,
        workspace.extras,
        workspace.items,
        workspace.scores,
        workspace.means,
        workspace.untouched,
    )


def edges(graph: Graph, context: Context, items: NDArray[np.int32]) -> NDArray[np.int32]:
    """Find the edges that a slate is credited on.

    Args:
        graph: the bundle's graph.
        context: K clusters of this graph.
        items: int32[L], item numbers.

    Returns:
        int32[L, K], the slot of each (item, cluster) in the cluster's row, -1 where there is no such edge.

    Raises:
        IndexError: a cluster that the graph does not have.
    """
    slots = np.empty((len(items), len(context.clusters)), dtype=np.int32)
    _edges(graph.indptr, graph.items, context.clusters, items, slots)
    return slots


def best(values: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """The indices of the k largest values, best first, equal ones by lower index.

    Args:
        values: float32[n], no NaN.
        k: how many, ≥ 0; all n if k > n.

    Returns:
        int64[min(k, n)].
    """
    n = len(values)
    if k == 0 or n == 0:
        return np.zeros(0, dtype=np.int64)
    if k <= FEW and k < n:
        leading = np.empty(k, dtype=np.int64)
        _best_few(values, leading)
        return leading
    kept = np.arange(n) if k >= n else np.flatnonzero(values >= np.partition(values, n - k)[n - k])
    return kept[np.argsort(-values[kept], kind="stable")[:k]]


@njit(types.void(_FLOATS, types.int64[::1], types.int64, types.int64), cache=True, nogil=True)
def _enter(values: Floats, leading: Longs, count: int, index: int) -> None:
    """Enter an index into a list of at most len(leading), `count` so far, that is ordered by falling values."""
    place = min(count, len(leading) - 1)
    while place > 0 and values[leading[place - 1]] < values[index]:
        leading[place] = leading[place - 1]
        place -= 1
    leading[place] = index


@njit(types.void(_FLOATS, types.int64[::1]), cache=True, nogil=True)
def _best_few(values: Floats, leading: Longs) -> None:
    # Of n values in no order about k·ln(n/k) enter the list, so the comparison is nearly always foreseen; partitioning
    # would guess at every other value.
    k = len(leading)
    for index in range(len(values)):
        if index < k or values[index] > values[leading[k - 1]]:
            _enter(values, leading, min(index, k), index)


@njit(types.void(_LONGS, _INTS, _INTS, _INTS, types.int32[:, ::1]), cache=True, nogil=True)
def _edges(indptr: Longs, edge_items: Ints, clusters: Ints, items: Ints, slots: Ints) -> None:
    for k in range(len(clusters)):
        cluster = clusters[k]
        if not 0 <= cluster < len(indptr) - 1:
            raise IndexError("context: the graph has no such cluster")
        start, end = indptr[cluster], indptr[cluster + 1]
        for row in range(len(items)):
            low, high = start, end
            while low < high:
                middle = (low + high) // 2
                if edge_items[middle] < items[row]:
                    low = middle + 1
                else:
                    high = middle
            slots[row, k] = low - start if low < end and edge_items[low] == items[row] else -1


_INPUTS = (
    *(_LONGS, _INTS, _INTS, _INTS),
    *(_FLOATS, _FLOATS, _FLOATS, _FLOATS, _FLAGS, types.float64, types.boolean, types.boolean),
    *(_INTS, types.int32, types.int32[::1], types.float32[:, ::1], types.float32[:, ::1], types.int32[::1]),
    *(types.float32[::1], types.float32[::1], types.boolean[::1]),
)


_LEADERS = (types.int32[::1], types.float32[::1], types.float32[::1], types.boolean[::1], types.int32[:, ::1])


@njit(types.int64(*_INPUTS, types.int64[::1], types.float32[::1], *_LEADERS), cache=True, nogil=True)
def _score(  # noqa: C901, PLR0912, PLR0915 - one pass, with what each policy needs of it
    indptr: Longs,
    edge_items: Ints,
    clusters: Ints,
    weights: Ints,
    mean: Floats,
    optimistic: Floats,
    variance: Floats,
    item_base: Floats,
    untouched: Flags,
    alpha: float,
    bernoulli: bool,
    optimistic_is_mean: bool,
    excluded: Ints,
    request: int,
    stamps: Ints,
    sums: Floats,
    extras: Floats,
    found: Ints,
    scores: Floats,
    means: Floats,
    first: Flags,
    leaders: Longs,
    leading_means: Floats,
    leading_items: Ints,
    leading_scores: Floats,
    means_of_leading: Floats,
    by_mean: Flags,
    slots: Ints,
) -> int:
    for cluster in clusters:
        if not 0 <= cluster < len(indptr) - 1:
            raise IndexError("context: the graph has no such cluster")
    for item in excluded:
        if 0 <= item < len(stamps):
            stamps[item] = request  # as if it were listed already
    has_variance, has_untouched = len(variance) > 0, len(untouched) > 0
    zero, one = np.float32(0.0), np.float32(1.0)
    keep = len(leaders)
    count = 0
    for k in range(len(clusters)):
        weight = np.float32(weights[k] * _STEP)
        for edge in range(indptr[clusters[k]], indptr[clusters[k] + 1]):
            item = edge_items[edge]
            # Whether an item was met before is a coin flip to the branch predictor: list it without asking.
            found[count] = item
            count += stamps[item] != request
            stamps[item] = request
            sums[item, 0] += weight * mean[edge]
            if not optimistic_is_mean:
                sums[item, 1] += weight * optimistic[edge]
            if has_variance:
                extras[item, 0] += weight * weight * variance[edge]
            if has_untouched:
                extras[item, 1] += np.float32(untouched[edge])

    for at in range(count):
        item = found[at]
        own = item_base[item] if len(item_base) > 0 else zero
        average = own + sums[item, 0]
        means[at] = average
        total = average if optimistic_is_mean else own + sums[item, 1]
        if has_variance:
            spread = max(zero, average * (one - average)) if bernoulli else one
            total += np.float32(alpha) * np.sqrt(spread * extras[item, 0])
        scores[at] = total
        sums[item, 0] = sums[item, 1] = zero
        if has_variance or has_untouched:
            first[at] = extras[item, 1] > zero
            extras[item, 0] = extras[item, 1] = zero
        if keep > 0:
            if at < keep or total > scores[leaders[keep - 1]]:
                _enter(scores, leaders, min(at, keep), at)
            if at < keep or average > leading_means[keep - 1]:
                place_of_mean = min(at, keep - 1)
                while place_of_mean > 0 and leading_means[place_of_mean - 1] < average:
                    leading_means[place_of_mean] = leading_means[place_of_mean - 1]
                    place_of_mean -= 1
                leading_means[place_of_mean] = average
    for item in excluded:
        if 0 <= item < len(stamps):
            sums[item] = zero
            extras[item] = zero
    if 0 < keep <= count:
        for place in range(keep):
            at = leaders[place]
            leading_items[place] = found[at]
            leading_scores[place] = scores[at]
            means_of_leading[place] = means[at]
            by_mean[place] = means[at] >= leading_means[-1]
        _edges(indptr, edge_items, clusters, leading_items, slots)
    return count
