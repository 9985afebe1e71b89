"""Contexts: a user as K pairs (cluster, weight), eq. (10) of Online Matching.

Weights are integers in units of 2⁻¹⁵ that sum to exactly 32768, so that every product the fold makes is exact.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

UNIT = 1 << 15


class Context(NamedTuple):
    """One user's context.

    Attributes:
        clusters: int32[K], different clusters.
        weights: int32[K] in units of 2⁻¹⁵, positive, summing to 32768.
    """

    clusters: NDArray[np.int32]
    weights: NDArray[np.int32]


def quantise(weights: NDArray[np.floating]) -> NDArray[np.int32]:
    """Round weights (float[..., K], ≥ 0, not all 0 in a row) to int32[..., K] that sum to 32768 in each row.

    Largest remainders get the units that flooring left over; every result is within one unit of the exact share.
    """
    relative = weights / weights.max(axis=-1, keepdims=True, initial=0)  # large finite weights have an infinite sum
    shares = relative / relative.sum(axis=-1, keepdims=True) * UNIT
    floors = np.floor(shares).astype(np.int32)
    missing = UNIT - floors.sum(axis=-1, keepdims=True)
    by_remainder = np.argsort(np.argsort(floors - shares, axis=-1, kind="stable"), axis=-1, kind="stable")
    units: NDArray[np.int32] = floors + (by_remainder < missing).astype(np.int32)
    return units


def from_pairs(clusters: NDArray[np.integer], weights: NDArray[np.floating], num_clusters: int) -> Context:
    """A context that a caller names, e.g. a request's.

    Raises:
        ValueError: an unknown or repeated cluster, or weights that are negative, not finite or all zero.
    """
    if len(clusters) == 0 or len(clusters) != len(weights):
        raise ValueError("context: needs as many weights as clusters, at least one")
    if len(np.unique(clusters)) != len(clusters):
        raise ValueError("context: a cluster is named twice")
    if clusters.min() < 0 or clusters.max() >= num_clusters:
        raise ValueError(f"context: clusters must lie in [0, {num_clusters})")
    if not np.isfinite(weights).all() or weights.min() < 0 or weights.max() <= 0:
        raise ValueError("context: weights must be finite, not negative and not all zero")
    units = quantise(weights)
    kept = units > 0
    return Context(clusters[kept].astype(np.int32), units[kept])


def nearest(
    users: NDArray[np.float32], centroids: NDArray[np.float32], k: int, temperature: float
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Eq. (10): softmax over each user's k nearest centroids by inner product.

    Args:
        users: float32[U, D] user vectors.
        centroids: float32[C, D] cluster centres.
        k: clusters a user triggers, ≤ C.
        temperature: τ′ of the softmax, > 0.

    Returns:
        clusters int32[U, k], heaviest first, and weights int32[U, k] in units of 2⁻¹⁵ (a far cluster's may be 0).
    """
    affinity = users @ centroids.T
    top = np.argpartition(-affinity, k - 1, axis=1)[:, :k]
    values = np.take_along_axis(affinity, top, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    top, values = np.take_along_axis(top, order, axis=1), np.take_along_axis(values, order, axis=1)
    weights = np.exp((values - values[:, :1]) / temperature)
    return top.astype(np.int32), quantise(weights)


def union(
    users: NDArray[np.float32], centroids: NDArray[np.float32], k: int, width: int, temperature: float
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Eq. (10) for users of several interests: each triggers its own k nearest clusters, all interests weigh alike.

    A cluster that several interests trigger gets the sum of their weights; the heaviest are kept. For one interest and
    `width` = k this is `nearest`.

    Args:
        users: float32[U, H, D], H interests a user.
        centroids: float32[C, D].
        k: clusters an interest triggers, ≤ C.
        width: clusters a user keeps, ≤ C.
        temperature: τ′ of each interest's softmax, > 0.

    Returns:
        clusters int32[U, width], heaviest first, and weights int32[U, width] in units of 2⁻¹⁵; where the interests
        trigger fewer clusters, weights of 0 pad.
    """
    num_users, _, dimension = users.shape
    clusters, weights = nearest(users.reshape(-1, dimension), centroids, k, temperature)
    clusters, weights = clusters.reshape(num_users, -1), weights.reshape(num_users, -1)
    rows = np.arange(num_users)[:, None]
    order = np.argsort(clusters, axis=1, kind="stable")
    clusters, weights = clusters[rows, order], weights[rows, order]
    place = np.zeros_like(clusters)  # a user's different clusters, counted from 0
    place[:, 1:] = np.cumsum(np.diff(clusters, axis=1) != 0, axis=1)
    different = np.zeros((num_users, max(width, clusters.shape[1])), dtype=np.int32)
    sums = np.zeros(different.shape, dtype=np.float64)
    different[rows, place] = clusters
    np.add.at(sums, (rows, place), weights)
    heaviest = np.argsort(-sums, axis=1, kind="stable")[:, :width]
    return different[rows, heaviest], quantise(sums[rows, heaviest])


def population(clusters: NDArray[np.int32], weights: NDArray[np.int32], num_clusters: int, k: int) -> Context:
    """The context of somebody we know nothing of: the k clusters that weigh most over all users (int32[U, K] each)."""
    mass = np.bincount(clusters.ravel(), weights=weights.ravel(), minlength=num_clusters).astype(np.float64)
    top = np.argsort(-mass, kind="stable")[: min(k, int((mass > 0).sum()))]
    return Context(top.astype(np.int32), quantise(mass[top]))
