from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bandit.graph import Graph
from bandit.lineage import Ancestor, heirs, trace


@st.composite
def families(draw: st.DrawFn) -> list[Ancestor]:
    """A bundle and up to three of its ancestors, with their own numbers for clusters and items."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    family: list[Ancestor] = []
    for generation in range(draw(st.integers(2, 4))):
        clusters, items = draw(st.integers(1, 5)), draw(st.integers(1, 8))
        edges = rng.integers(1, clusters * items + 1)
        chosen = rng.choice(clusters * items, edges, replace=False)
        graph = Graph.from_edges(chosen // items, chosen % items, clusters, items)
        if family:
            child = family[-1]
            parents = rng.permutation(max(child.graph.num_clusters, clusters) + 2)[: child.graph.num_clusters]
            known: NDArray[np.int32] = np.where(parents < clusters, parents, -1).astype(np.int32)
            family[-1] = child._replace(parent_version=str(generation), parents=known)
        ids = [f"item {n}" for n in rng.permutation(12)[:items]]
        family.append(Ancestor(str(generation), None, graph, ids, np.zeros(0, dtype=np.int32)))
    return family


def named(bundle: Ancestor) -> list[tuple[int, str]]:
    """Every edge by its cluster and its item's id."""
    return [
        (cluster, bundle.item_ids[item])
        for cluster, item in zip(bundle.graph.clusters.tolist(), bundle.graph.items.tolist(), strict=True)
    ]


def by_hand(family: Sequence[Ancestor], generation: int) -> list[int]:
    """The heir of every edge of a generation, from the words alone."""
    edges = named(family[0])
    expected = [-1] * family[generation].graph.num_edges
    for edge, (cluster, item_id) in enumerate(edges):
        for child in family[:generation]:
            cluster = int(child.parents[cluster]) if cluster >= 0 else -1  # noqa: PLW2901
        if (cluster, item_id) in named(family[generation]):
            expected[named(family[generation]).index((cluster, item_id))] = edge
    return expected


@given(families())
def test_an_edges_parent_is_its_clusters_parent_and_the_same_item(family: list[Ancestor]) -> None:
    for number, generation in enumerate(trace(family[0], family[1:]), start=1):
        assert generation.version == family[number].version
        assert generation.graph is family[number].graph
        assert generation.heirs.tolist() == by_hand(family, number)


@given(families())
def test_no_edge_inherits_twice_from_one_generation(family: list[Ancestor]) -> None:
    for generation in trace(family[0], family[1:]):
        known = generation.heirs[generation.heirs >= 0]
        assert len(set(known.tolist())) == len(known)


def of(version: str, parent: str | None, rows: Sequence[Sequence[int]], parents: Sequence[int] = ()) -> Ancestor:
    clusters = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    graph = Graph.from_edges(clusters, np.concatenate(rows), len(rows), 5)
    return Ancestor(version, parent, graph, list("abcde"), np.array(parents, dtype=np.int32))


def test_an_edge_that_the_parent_lacked_is_found_at_the_grandparent() -> None:
    family = [of("3", "2", [[0, 1]], [0]), of("2", "1", [[1]], [0]), of("1", None, [[0, 1]])]
    parent, grandparent = trace(family[0], family[1:])
    assert parent.heirs.tolist() == [1]
    assert grandparent.heirs.tolist() == [0, 1]


def test_without_ancestors_there_are_no_generations() -> None:
    assert trace(of("1", None, [[0]]), []) == []


@pytest.mark.parametrize(
    ("child", "message"),
    [
        (of("3", "1", [[0]], [0]), "the parent of 3 is 1, not 2"),
        (of("3", None, [[0]]), "the parent of 3 is None, not 2"),
        (of("2", "2", [[0]], [0]), "2 descends from itself"),
        (of("3", "2", [[0]], [1]), "3 names clusters as parents that 2 does not have"),
    ],
)
def test_what_is_not_a_family_is_refused(child: Ancestor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        trace(child, [of("2", None, [[0]])])


def test_a_graph_inherits_from_itself() -> None:
    graph = of("1", None, [[0, 3], [], [1, 2, 4]]).graph
    same: NDArray[np.int32] = np.arange(3, dtype=np.int32)
    assert heirs(graph, same, graph, np.arange(5)).tolist() == [0, 1, 2, 3, 4]
