"""Measures of a ranking of the full catalogue, per user."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_USERS, _CELLS = 512, 1 << 24


def chunks(users: NDArray[np.int32], num_items: int) -> Iterator[NDArray[np.int32]]:
    """Users a few at a time: so many that an array of a cell for each of them and each of J items has 2²⁴ at most.

    Ranking them takes some such arrays, half a gigabyte with four interests, however many users and items there are.
    """
    size = max(1, min(_USERS, _CELLS // num_items))
    for start in range(0, len(users), size):
        yield users[start : start + size]


def nearest(users: NDArray[np.float32], items: NDArray[np.float32]) -> NDArray[np.float32]:
    """users float32[n, H, D], items float32[J, D] → float32[n, J], the inner product with the nearest interest."""
    products = users.reshape(-1, users.shape[-1]) @ items.T
    return np.asarray(products.reshape(*users.shape[:2], len(items)).max(axis=1))


def top(scores: NDArray[np.floating], k: int) -> NDArray[np.int64]:
    """The k best items of each user: scores float[U, J] → int64[U, min(k, J)], the best first; ties by number."""
    k = min(k, scores.shape[1])
    if k < scores.shape[1]:
        found = np.sort(np.argpartition(-scores, k - 1, axis=1)[:, :k], axis=1)
    else:
        found = np.broadcast_to(np.arange(k), scores.shape)
    order = np.argsort(-np.take_along_axis(scores, found, axis=1), axis=1, kind="stable")
    return np.take_along_axis(found, order, axis=1)


def recall(ranked: NDArray[np.integer], relevant: NDArray[np.bool_], k: int) -> NDArray[np.float64]:
    """Share of a user's relevant items among the first k.

    Args:
        ranked: int[U, ≥ k], item numbers, the best first.
        relevant: bool[U, J], at least one a user.

    Returns:
        float64[U].
    """
    hits = np.take_along_axis(relevant, ranked[:, :k], axis=1).sum(axis=1)
    return np.asarray(hits / relevant.sum(axis=1), dtype=np.float64)


def ndcg(ranked: NDArray[np.integer], relevant: NDArray[np.bool_], k: int) -> NDArray[np.float64]:
    """Discounted cumulative gain, Σ_hits 1 / log2(rank + 1) over the first k, against the best possible; float64[U]."""
    discount = 1 / np.log2(np.arange(2, k + 2))
    gains = np.take_along_axis(relevant, ranked[:, :k], axis=1)
    ideal = np.cumsum(discount)[np.minimum(relevant.sum(axis=1), k) - 1]
    return np.asarray((gains * discount[: gains.shape[1]]).sum(axis=1) / ideal, dtype=np.float64)
