"""Synthetic sequences of users with several interests, as skewed as one likes.

After the generator of Mehta et al. 2023, Density Weighting for Multi-Interest Personalized Recommendation. Items lie in
clusters; a user likes some of these and wanders between them, now and then into others. Popular clusters are liked by
more users, popular items are taken more often.
"""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from offline.config import Synthetic

START = datetime(2020, 1, 1, tzinfo=UTC)
_DAY = 86_400_000_000  # µs


def interactions(settings: Synthetic) -> pa.Table:
    """Rows user_id, item_id, timestamp (UTC): each user's step s on day s. The ids name cluster and rank."""
    generator = np.random.default_rng(settings.seed)
    clusters = walk(likes(settings, generator), settings, generator)
    ranks = skewed(settings.items_per_cluster, settings.item_power, clusters.shape, generator)
    users, steps = np.indices(clusters.shape)
    times = int(START.timestamp()) * 1_000_000 + steps.ravel() * _DAY
    return pa.table(
        {
            "user_id": [f"u{user:06}" for user in users.ravel()],
            "item_id": [f"c{cluster:03}-{rank:04}" for cluster, rank in zip(clusters.flat, ranks.flat, strict=True)],
            "timestamp": pa.array(times, pa.timestamp("us", "UTC")),
        }
    )


def likes(settings: Synthetic, generator: np.random.Generator) -> NDArray[np.bool_]:
    """bool[N, C], the clusters that each user likes.

    With P(c) ∝ (c + 1)^−interest_power they are drawn with replacement, so a user may like fewer than `interests`; with
    power 0 each likes exactly as many, all clusters alike.
    """
    shape = (settings.users, settings.clusters)
    if settings.interest_power == 0:
        return generator.random(shape).argsort(axis=1).argsort(axis=1) < settings.interests
    drawn = skewed(settings.clusters, settings.interest_power, (settings.users, settings.interests), generator)
    liked = np.zeros(shape, dtype=bool)
    liked[np.arange(settings.users)[:, None], drawn] = True
    return liked


def walk(liked: NDArray[np.bool_], settings: Synthetic, generator: np.random.Generator) -> NDArray[np.int64]:
    """int64[N, T], the cluster that each user is in at each step; the first is any."""
    path = np.empty((len(liked), settings.steps), dtype=np.int64)
    path[:, 0] = generator.integers(liked.shape[1], size=len(liked))
    for step in range(1, settings.steps):
        reached = onward(liked, path[:, step - 1], settings).cumsum(axis=1)
        path[:, step] = (reached < generator.random((len(liked), 1)) * reached[:, -1:]).sum(axis=1)
    return path


def onward(liked: NDArray[np.bool_], at: NDArray[np.int64], settings: Synthetic) -> NDArray[np.float64]:
    """float64[N, C], how likely each user goes from cluster `at` (int64[N]) to each.

    From a liked one: α to stay, γ to another liked one (α + γ to stay where there is none), the rest to one that is not
    liked (to nowhere where there is none: then a row sums to less than 1). From one that is not liked: ε to stay, else
    to a liked one.
    """
    users, number = np.arange(len(liked)), liked.sum(axis=1, keepdims=True)
    alpha, gamma, epsilon = settings.alpha, settings.gamma, settings.epsilon
    from_liked = np.where(
        liked, gamma / np.maximum(number - 1, 1), (1 - alpha - gamma) / np.maximum(liked.shape[1] - number, 1)
    )
    from_liked[users, at] = np.where(number[:, 0] == 1, alpha + gamma, alpha)
    from_other = np.where(liked, (1 - epsilon) / number, 0.0)
    from_other[users, at] = epsilon
    return np.where(liked[users, at][:, None], from_liked, from_other)


def skewed(number: int, power: float, shape: tuple[int, ...], generator: np.random.Generator) -> NDArray[np.int64]:
    """Places below `number`, with P(k) ∝ (k + 1)^−power."""
    weights = np.arange(1, number + 1, dtype=np.float64) ** -power
    return generator.choice(number, size=shape, p=weights / weights.sum())
