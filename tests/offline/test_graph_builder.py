import numpy as np
import pytest
from numpy.typing import NDArray

from bandit.graph import Graph
from bandit.prior import FRESH_STRENGTH, KNOWN_STRENGTH
from offline import graph_builder
from offline.config import Build
from offline.graph_builder import believe, draw

CONFIG = Build(edges_per_cluster=10, clusters_per_item=2)


def sphere(rows: int, seed: int) -> NDArray[np.float32]:
    points = np.random.default_rng(seed).normal(size=(rows, 6))
    unit: NDArray[np.float64] = points / np.linalg.norm(points, axis=1, keepdims=True)
    return unit.astype(np.float32)


def test_a_row_holds_the_nearest_items_and_every_item_is_reachable() -> None:
    centroids, items = sphere(5, 0), sphere(80, 1)
    graph = draw(centroids, items, CONFIG)
    affinity = centroids @ items.T
    for cluster in range(5):
        row = set(graph.items[graph.row(cluster)].tolist())
        assert set(np.argsort(-affinity[cluster])[:10].tolist()) <= row
    clusters_of = [set(graph.clusters[graph.edges_of(item)].tolist()) for item in range(80)]
    assert min(map(len, clusters_of)) >= 2
    # Whom no row would have taken is in the rows of its two nearest clusters and in no other.
    taken = np.unique(np.argsort(-affinity, axis=1)[:, :10])
    for item in np.setdiff1d(np.arange(80), taken):
        assert clusters_of[item] == set(np.argsort(-affinity[:, item])[:2].tolist())


def test_a_graph_is_the_same_in_blocks_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    centroids, items = sphere(5, 0), sphere(80, 1)
    whole = draw(centroids, items, CONFIG)
    monkeypatch.setattr(graph_builder, "BLOCK", 200)
    blocks = draw(centroids, items, CONFIG)
    assert np.array_equal(blocks.indptr, whole.indptr)
    assert np.array_equal(blocks.items, whole.items)


def test_rows_that_reach_everything_need_no_floor() -> None:
    graph = draw(sphere(5, 0), sphere(8, 1), Build(edges_per_cluster=150, clusters_per_item=3))
    assert graph.num_edges == 5 * 8


def test_a_floor_above_the_number_of_clusters_means_all_of_them() -> None:
    graph = draw(sphere(2, 0), sphere(8, 1), Build(edges_per_cluster=1, clusters_per_item=3))
    assert graph.num_edges == 2 * 8


def test_prior_probabilities_follow_the_softmax_of_the_row() -> None:
    centroids, items = sphere(3, 0), sphere(12, 1)
    graph = draw(centroids, items, CONFIG)
    found = believe(graph, centroids, items, 0.5, np.ones(12, dtype=bool))
    for cluster in range(3):
        edges = graph.row(cluster)
        odds = np.exp(items[graph.items[edges]] @ centroids[cluster] / 0.5)
        assert found.probability[edges] == pytest.approx(np.clip(0.05 * odds / odds.mean(), 0.005, 0.5), rel=1e-4)
    assert found.informed


def test_a_tiny_temperature_does_not_overflow() -> None:
    centroids, items = sphere(3, 0), sphere(12, 1)
    found = believe(draw(centroids, items, CONFIG), centroids, items, 1e-4, np.ones(12, dtype=bool))
    assert np.isfinite(found.probability).all()
    assert found.probability.max() == pytest.approx(0.5)


def test_items_never_taken_are_believed_weakly() -> None:
    graph = Graph.from_edges(np.array([0, 0]), np.array([0, 1]), 1, 2)
    found = believe(graph, sphere(1, 0), sphere(2, 1), 0.1, np.array([True, False]))
    assert found.strength.tolist() == [KNOWN_STRENGTH, FRESH_STRENGTH]
