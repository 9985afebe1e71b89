"""Clusters of users' interests: spherical k-means over user vectors (FAISS), and users' contexts over them."""

from __future__ import annotations

from typing import NamedTuple

import faiss
import numpy as np
from numpy.typing import NDArray

from bandit import context
from bandit.context import Context
from offline.config import Build

# Inner products of all users with all centroids would not fit: a million users of 4 interests have 64 GB of them.
_SAMPLE, _CHUNK = 65_536, 8_192


class Clusters(NamedTuple):
    """Clusters and who is in them.

    Attributes:
        centroids: float32[C, D], of length 1.
        temperature: τ′ of eq. (10), at which an interest's mean top weight is what the configuration asks for.
        user_clusters, user_weights: int32[U, K], each known user's context; weights in units of 2⁻¹⁵.
        population: the context of everybody else.
    """

    centroids: NDArray[np.float32]
    temperature: float
    user_clusters: NDArray[np.int32]
    user_weights: NDArray[np.int32]
    population: Context


def cluster(users: NDArray[np.float32], config: Build) -> Clusters:
    """Cluster users by their vectors.

    All interests of all users are clustered together; a user's context is the union of what each of them triggers.

    Args:
        users: float32[U, H, D], of length 1: H interests a user.
        config: how many clusters, and how soft contexts are. There are never more clusters than interests.
    """
    num_users, interests, dimension = users.shape
    points = np.ascontiguousarray(users.reshape(-1, dimension))
    wanted = round(num_users / config.users_per_cluster)
    number = min(max(config.min_clusters, min(wanted, config.max_clusters)), len(points))
    kmeans = faiss.Kmeans(
        dimension, number, niter=25, seed=config.seed, spherical=True, min_points_per_centroid=1, verbose=False
    )
    kmeans.train(points)
    centroids = np.asarray(kmeans.centroids, dtype=np.float32)
    k = min(config.clusters_per_interest, config.clusters_per_user, number)
    sample = points[:: -(-len(points) // _SAMPLE)]
    temperature = soften(sample, centroids, k, config.mean_top_weight)
    width = min(interests * k, config.clusters_per_user, number)
    chunks = (users[start : start + _CHUNK] for start in range(0, num_users, _CHUNK))
    contexts = [context.union(chunk, centroids, k, width, temperature) for chunk in chunks]
    clusters, weights = (np.concatenate(parts) for parts in zip(*contexts, strict=True))
    return Clusters(centroids, temperature, clusters, weights, context.population(clusters, weights, number, width))


def soften(users: NDArray[np.float32], centroids: NDArray[np.float32], k: int, mean_top_weight: float) -> float:
    """The temperature of eq. (10) at which users' heaviest cluster weighs `mean_top_weight` on average, by bisection.

    The mean falls from 1 to 1/k as the temperature rises; one that cannot be reached gives the end of the range,
    [1e-4, 1e2].

    Args:
        users: float32[U, D].
        centroids: float32[C, D].
        k: clusters a user triggers, ≤ C.
        mean_top_weight: in (0, 1).
    """
    affinity = users @ centroids.T
    top = -np.sort(np.partition(-affinity, k - 1, axis=1)[:, :k], axis=1)
    behind = (top - top[:, :1]).astype(np.float64)
    low, high = np.log(1e-4), np.log(1e2)
    for _ in range(50):
        middle = (low + high) / 2
        mean = float((1 / np.exp(behind / np.exp(middle)).sum(axis=1)).mean())
        low, high = (middle, high) if mean > mean_top_weight else (low, middle)
    return float(np.exp((low + high) / 2))
