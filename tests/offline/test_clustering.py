import numpy as np
import pytest
from numpy.typing import NDArray

from bandit.context import UNIT
from offline import clustering
from offline.clustering import cluster, soften
from offline.config import Build


def crowd(groups: int = 4, size: int = 40, dimension: int = 8) -> NDArray[np.float32]:
    """Unit vectors in well separated groups, one group after another."""
    generator = np.random.default_rng(0)
    centres = np.eye(dimension)[:groups].repeat(size, axis=0)
    points = centres + 0.1 * generator.normal(size=centres.shape)
    unit: NDArray[np.float64] = points / np.linalg.norm(points, axis=1, keepdims=True)
    return unit.astype(np.float32)


def test_finds_the_groups() -> None:
    users = crowd()
    found = cluster(users[:, None], Build(min_clusters=4, users_per_cluster=1000, clusters_per_user=2))
    tops = found.user_clusters[:, 0].reshape(4, 40)
    assert (tops == tops[:, :1]).all()
    assert len(np.unique(tops[:, 0])) == 4
    assert np.allclose(np.linalg.norm(found.centroids, axis=1), 1, atol=1e-4)


def test_contexts_are_as_soft_as_asked_and_sum_to_one() -> None:
    found = cluster(crowd()[:, None], Build(min_clusters=12, clusters_per_interest=5, mean_top_weight=0.5))
    assert found.user_clusters.shape == found.user_weights.shape == (160, 5)
    assert (found.user_weights.sum(axis=1) == UNIT).all()
    assert found.user_weights[:, 0].mean() / UNIT == pytest.approx(0.5, abs=1e-3)
    assert int(found.population.weights.sum()) == UNIT


def test_the_number_of_clusters_follows_the_users_within_bounds() -> None:
    users = crowd()[:, None]
    for config, expected in (
        (Build(users_per_cluster=20, min_clusters=2), 8),
        (Build(users_per_cluster=20, min_clusters=11), 11),
        (Build(users_per_cluster=2, min_clusters=2, max_clusters=9), 9),
        (Build(min_clusters=64), 64),
    ):
        assert len(cluster(users, config).centroids) == expected


def test_there_are_never_more_clusters_than_users_nor_triggered_than_there_are() -> None:
    found = cluster(crowd(size=1)[:3, None], Build())
    assert found.centroids.shape[0] == 3
    assert found.user_clusters.shape == (3, 3)


def test_the_same_seed_gives_the_same_clusters() -> None:
    users = crowd()[:, None]
    one, two = (cluster(users, Build(min_clusters=12)) for _ in range(2))
    assert np.array_equal(one.centroids, two.centroids)
    assert np.array_equal(one.user_weights, two.user_weights)


def test_a_user_of_several_interests_triggers_the_clusters_of_each() -> None:
    # User i has an interest in group i % 2 and another in group 2 + i % 2.
    groups = crowd().reshape(4, 40, 8)
    even, odd = groups[[0, 2]].transpose(1, 0, 2), groups[[1, 3]].transpose(1, 0, 2)
    config = Build(min_clusters=4, users_per_cluster=1000, clusters_per_user=3, mean_top_weight=0.9)
    found = cluster(np.concatenate([even, odd]), config)
    heaviest = np.sort(found.user_clusters[:, :2], axis=1)
    assert (heaviest[:40] == heaviest[0]).all()
    assert (heaviest[40:] == heaviest[40]).all()
    assert set(heaviest[0]) | set(heaviest[40]) == {0, 1, 2, 3}
    assert (found.user_weights.sum(axis=1) == UNIT).all()
    assert (found.user_weights[:, :2] > UNIT * 0.2).all()
    assert found.user_clusters.shape == (80, 3)
    assert int(found.population.weights.sum()) == UNIT


def test_each_interest_triggers_as_many_clusters_as_asked_and_a_user_keeps_no_more_than_allowed() -> None:
    users = crowd().reshape(40, 4, 8)  # every user has four vectors of one group
    for config, expected in (
        (Build(min_clusters=30, users_per_cluster=1000), 16),
        (Build(min_clusters=30, users_per_cluster=1000, clusters_per_interest=3), 12),
        (Build(min_clusters=30, users_per_cluster=1000, clusters_per_user=7), 7),
        (Build(min_clusters=6, users_per_cluster=1000), 6),
    ):
        assert cluster(users, config).user_clusters.shape == (40, expected)
    assert len(cluster(users, Build(min_clusters=2, users_per_cluster=4)).centroids) == 10  # users, not interests


def test_users_are_taken_in_chunks_that_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    users, config = crowd().reshape(80, 2, 8), Build(min_clusters=12)
    whole = cluster(users, config)
    monkeypatch.setattr(clustering, "_CHUNK", 7)
    parts = cluster(users, config)
    assert np.array_equal(parts.user_clusters[:, 0], whole.user_clusters[:, 0])
    assert np.abs(parts.user_weights - whole.user_weights).max() <= 1  # sums of products round by their shape
    monkeypatch.setattr(clustering, "_SAMPLE", 40)
    assert cluster(users, config).temperature == pytest.approx(whole.temperature, rel=0.2)


def test_an_unreachable_weight_gives_the_end_of_the_range() -> None:
    users = crowd()
    centroids = np.eye(8, dtype=np.float32)[:4]
    assert soften(users, centroids, k=2, mean_top_weight=0.4) == pytest.approx(1e2, rel=1e-3)
    assert soften(users, centroids, k=1, mean_top_weight=0.5) == pytest.approx(1e2, rel=1e-3)
