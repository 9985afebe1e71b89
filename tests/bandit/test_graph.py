import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandit.graph import Graph


def graph(indptr: list[int], items: list[int], num_items: int = 5) -> Graph:
    return Graph(np.array(indptr, dtype=np.int64), np.array(items, dtype=np.int32), num_items)


def test_rows_slots_and_edges_of_an_item() -> None:
    built = graph([0, 2, 2, 5], [1, 4, 0, 1, 3])
    assert (built.num_clusters, built.num_items, built.num_edges) == (3, 5, 5)
    assert built.items[built.row(0)].tolist() == [1, 4]
    assert built.items[built.row(1)].tolist() == []
    assert built.clusters.tolist() == [0, 0, 2, 2, 2]
    assert built.clusters.dtype == np.int32
    assert built.edges_of(1).tolist() == [0, 3]
    assert built.edges_of(2).tolist() == []


def test_a_graph_may_have_no_edges() -> None:
    assert graph([0, 0, 0], []).num_edges == 0


@pytest.mark.parametrize(
    ("indptr", "items", "message"),
    [
        ([1, 2], [0, 1], "starts at 0"),
        ([0], [], "at least one row"),
        ([0, 2, 1, 3], [0, 1, 2], "rise"),
        ([0, 2], [0, 1, 2], "number of edges"),
        ([0, 2], [0, 5], r"\[0, 5\)"),
        ([0, 2], [-1, 0], r"\[0, 5\)"),
        ([0, 2], [1, 1], "unique inside a row"),
        ([0, 1, 3], [4, 3, 2], "ascending"),
        ([0, 0, 2, 2], [3, 2], "ascending"),
    ],
)
def test_a_malformed_graph_is_refused(indptr: list[int], items: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        graph(indptr, items)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 9)), max_size=60))
def test_from_edges_keeps_every_pair_once(pairs: list[tuple[int, int]]) -> None:
    clusters = np.array([cluster for cluster, _ in pairs], dtype=np.int64)
    items = np.array([item for _, item in pairs], dtype=np.int64)
    built = Graph.from_edges(clusters, items, num_clusters=7, num_items=10)
    assert built.indptr.dtype == np.int64
    assert built.items.dtype == np.int32
    assert list(zip(built.clusters.tolist(), built.items.tolist(), strict=True)) == sorted(set(pairs))
