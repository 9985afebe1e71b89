import math
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from bandit.context import UNIT, Context, quantise
from bandit.graph import Graph
from bandit.kernel import Candidates, Workspace, best, edges, lead, score
from bandit.policies.base import FALSES, ZEROS, Derived
from bandit.slate import draw, of_leaders


def some_graph(rng: np.random.Generator, clusters: int, items: int, num_edges: int) -> Graph:
    return Graph.from_edges(
        rng.integers(clusters, size=num_edges), rng.integers(items, size=num_edges), clusters, items
    )


def some_context(rng: np.random.Generator, clusters: int) -> Context:
    k = int(rng.integers(1, clusters + 1))
    return Context(rng.permutation(clusters)[:k].astype(np.int32), quantise(rng.random(k) + 0.01))


def some_derived(rng: np.random.Generator, graph: Graph) -> Derived:
    def singles(size: int) -> NDArray[np.float32]:
        return rng.random(size).astype(np.float32)

    mean = singles(graph.num_edges)
    return Derived(
        mean=mean,
        optimistic=singles(graph.num_edges) if rng.random() < 0.5 else mean,
        variance=singles(graph.num_edges) if rng.random() < 0.5 else ZEROS,
        base=singles(graph.num_items) if rng.random() < 0.5 else ZEROS,
        untouched=rng.random(graph.num_edges) < 0.2 if rng.random() < 0.5 else FALSES,
        alpha=float(rng.random()),
        bernoulli=bool(rng.random() < 0.5),
    )


def reference(
    graph: Graph, context: Context, derived: Derived, excluded: Iterable[int]
) -> dict[int, tuple[float, float, bool]]:
    """The formula of `Derived` in plain Python: item → (score, mean, untouched)."""
    answer = {}
    for item in range(graph.num_items):
        base = float(derived.base[item]) if len(derived.base) else 0.0
        mean, optimistic, variance, untouched, reached = base, base, 0.0, False, False
        for cluster, weight in zip(context.clusters, context.weights / UNIT, strict=True):
            for edge in range(int(graph.indptr[cluster]), int(graph.indptr[cluster + 1])):
                if graph.items[edge] == item:
                    reached = True
                    mean += weight * float(derived.mean[edge])
                    optimistic += weight * float(derived.optimistic[edge])
                    variance += weight**2 * float(derived.variance[edge]) if len(derived.variance) else 0.0
                    untouched |= bool(derived.untouched[edge]) if len(derived.untouched) else False
        if reached and item not in excluded:
            spread = max(0.0, mean * (1 - mean)) if derived.bernoulli else 1.0
            answer[item] = (optimistic + derived.alpha * math.sqrt(spread * variance), mean, untouched)
    return answer


def check(found: Candidates, expected: dict[int, tuple[float, float, bool]]) -> None:
    columns = (found.items, found.scores, found.means, found.untouched)
    assert [array.dtype for array in columns] == [np.int32, np.float32, np.float32, np.bool_]
    assert sorted(found.items.tolist()) == sorted(expected)
    untouched = found.untouched.tolist() or [False] * len(found.items)
    for item, *values in zip(*(array.tolist() for array in columns[:3]), untouched, strict=True):
        # Absolute: M (1 − M) cancels where M nears 1, and its root magnifies that.
        assert values[:2] == pytest.approx(expected[item][:2], rel=1e-5, abs=1e-3)
        assert values[2] == expected[item][2]


@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 12), st.integers(0, 60))
def test_scores_follow_the_formula_request_after_request(seed: int, clusters: int, items: int, num_edges: int) -> None:
    rng = np.random.default_rng(seed)
    workspace = Workspace(1)
    for _ in range(4):  # one workspace for several requests, growing
        graph = some_graph(rng, clusters, items, num_edges)
        derived, context = some_derived(rng, graph), some_context(rng, clusters)
        excluded = rng.integers(items, size=rng.integers(4)).astype(np.int32)
        check(
            score(graph, context, derived, excluded, workspace),
            reference(graph, context, derived, set(excluded.tolist())),
        )
        items += 3


def small() -> tuple[Graph, Context, Derived]:
    graph = Graph(np.array([0, 2, 4]), np.array([0, 2, 1, 2], dtype=np.int32), 3)
    context = Context(np.array([0, 1], dtype=np.int32), np.array([UNIT // 4, UNIT // 4 * 3], dtype=np.int32))
    mean = np.array([0.4, 0.8, 0.5, 0.2], dtype=np.float32)
    return graph, context, Derived(mean, mean)


def test_a_score_by_hand() -> None:
    graph, context, derived = small()
    found = score(graph, context, derived, np.zeros(0, dtype=np.int32), Workspace(3))
    assert found.items.tolist() == [0, 2, 1]
    assert found.scores.tolist() == pytest.approx([0.1, 0.35, 0.375])
    np.testing.assert_array_equal(found.scores, found.means)
    assert not found.untouched.any()


def test_inputs_stay_as_they_are() -> None:
    graph, context, derived = small()
    before = [array.copy() for array in (*context, derived.mean, graph.items)]
    lead(graph, context, derived, np.zeros(0, dtype=np.int32), Workspace(3), 2)
    for array, copy in zip((*context, derived.mean, graph.items), before, strict=True):
        np.testing.assert_array_equal(array, copy)


@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 40), st.integers(0, 200), st.integers(1, 45))
def test_leaders_are_the_slate_that_is_drawn(seed: int, clusters: int, items: int, num_edges: int, limit: int) -> None:
    rng = np.random.default_rng(seed)
    graph, context = some_graph(rng, clusters, items, num_edges), some_context(rng, clusters)
    # Few different values, so that there are ties.
    mean, optimistic = (rng.integers(4, size=(2, graph.num_edges)) / 4).astype(np.float32)
    derived, excluded = Derived(mean, optimistic), rng.integers(items, size=3).astype(np.int32)
    leaders = lead(graph, context, derived, excluded, Workspace(items), limit)
    candidates = score(graph, context, derived, excluded, Workspace(items))
    if leaders is None:
        assert len(candidates.items) < limit
        return
    drawn = draw(candidates, limit, 0, rng, np.zeros(0, dtype=np.int32), excluded)
    for made, column in zip(of_leaders(leaders), drawn, strict=True):
        np.testing.assert_array_equal(made, column)
    np.testing.assert_array_equal(leaders.slots, edges(graph, context, leaders.items))


def test_infinite_scores_do_not_leak_into_later_requests() -> None:
    graph, context, derived = small()
    workspace, none = Workspace(3), np.zeros(0, dtype=np.int32)
    infinite = np.full(4, np.inf, dtype=np.float32)
    everything = np.arange(3, dtype=np.int32)
    for excluded in (none, everything[:1]):
        score(graph, context, Derived(infinite, infinite), excluded, workspace)
    again = score(graph, context, derived, none, workspace)
    assert again.scores.tolist() == pytest.approx([0.1, 0.35, 0.375])
    assert len(score(graph, context, derived, everything, workspace).items) == 0


def test_unknown_excluded_items_are_ignored() -> None:
    graph, context, derived = small()
    found = score(graph, context, derived, np.array([-1, 3, 2**31 - 1, 2], dtype=np.int32), Workspace(3))
    assert found.items.tolist() == [0, 1]


def test_read_only_arrays_are_taken() -> None:
    graph, context, derived = small()
    for array in (graph.indptr, graph.items, *context, derived.mean):
        array.flags.writeable = False
    assert len(score(graph, context, derived, np.zeros(0, dtype=np.int32), Workspace(3)).items) == 3
    assert edges(graph, context, np.array([2], dtype=np.int32)).tolist() == [[1, 1]]


@pytest.mark.parametrize("cluster", [-1, 2])
def test_a_cluster_that_the_graph_lacks_is_an_error(cluster: int) -> None:
    graph, _, derived = small()
    strange = Context(np.array([cluster], dtype=np.int32), np.array([UNIT], dtype=np.int32))
    with pytest.raises(IndexError, match="no such cluster"):
        score(graph, strange, derived, np.zeros(0, dtype=np.int32), Workspace(3))
    with pytest.raises(IndexError, match="no such cluster"):
        edges(graph, strange, np.array([2], dtype=np.int32))


@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 12), st.integers(0, 60))
def test_edges_are_the_slots_of_the_rows(seed: int, clusters: int, items: int, num_edges: int) -> None:
    rng = np.random.default_rng(seed)
    graph, context = some_graph(rng, clusters, items, num_edges), some_context(rng, clusters)
    wanted = rng.integers(-1, items + 1, size=rng.integers(5)).astype(np.int32)
    slots = edges(graph, context, wanted)
    assert slots.dtype == np.int32
    assert slots.shape == (len(wanted), len(context.clusters))
    for item, of_item in zip(wanted, slots, strict=True):
        for cluster, slot in zip(context.clusters, of_item, strict=True):
            row = graph.items[graph.row(cluster)].tolist()
            assert slot == (row.index(item) if item in row else -1)


@given(
    arrays(np.float32, st.integers(0, 40), elements=st.floats(-1e6, 1e6, width=32) | st.sampled_from([0.0, 1.0])),
    st.integers(0, 45),
)
def test_best_is_the_head_of_a_stable_sort(values: NDArray[np.float32], k: int) -> None:
    chosen = best(values, k)
    assert chosen.dtype == np.int64
    assert chosen.tolist() == sorted(range(len(values)), key=lambda index: (-values[index], index))[:k]
