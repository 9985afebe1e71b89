"""Calibration: what users did against what the offline model expected, per item, per edge and over all."""

from __future__ import annotations

import numpy as np
from numba import njit, types
from numpy.typing import NDArray

from bandit.statistics import Statistics

PSEUDO_CLICKS = 5.0

_ITEMS = types.Array(types.int32, 1, "C", readonly=True)
_SINGLES = types.Array(types.float32, 1, "C", readonly=True)
_DOUBLES = types.Array(types.float64, 1, "C", readonly=True)


def calibration(rewards: float, expected: float) -> float:
    """g = (G_B + 5) / (G_E + 5): how many times as often users answered as the offline model expected.

    Args:
        rewards: G_B = Σ b over all edges.
        expected: G_E = Σ n·m over all edges.
    """
    return (rewards + PSEUDO_CLICKS) / (expected + PSEUDO_CLICKS)


def pool(
    items: NDArray[np.int32], statistics: Statistics, probability: NDArray[np.float32], num_items: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What each item earned over all its edges, and was expected to earn.

    Args:
        items: int32[E], edges' items.
        statistics: float64[E] each.
        probability: float32[E], m.
        num_items: J.

    Returns:
        B_j = Σ_c b_cj and E_j = Σ_c n_cj·m_cj, float64[J] each.
    """
    rewards, expected = np.zeros(num_items), np.zeros(num_items)
    _pool(items, statistics.n, statistics.b, probability, rewards, expected)
    return rewards, expected


def posterior_means(
    items: NDArray[np.int32],
    statistics: Statistics,
    probability: NDArray[np.float32],
    quality: NDArray[np.float64],
    optimistic_quality: NDArray[np.float64],
    *,
    pseudo_clicks: float,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """θ = (b + a) / (n + a / p) with p = min(1, m·q), for two qualities q per item in one pass.

    Args:
        items: int32[E], edges' items.
        statistics: float64[E] each.
        probability: float32[E], m.
        quality: float64[J], q of the first result.
        optimistic_quality: float64[J], q of the second.
        pseudo_clicks: a > 0.

    Returns:
        float32[E] each.
    """
    means, optimistic = np.empty(len(items), dtype=np.float32), np.empty(len(items), dtype=np.float32)
    _posterior_means(
        items,
        statistics.n,
        statistics.b,
        probability,
        quality.astype(np.float32),
        optimistic_quality.astype(np.float32),
        pseudo_clicks,
        means,
        optimistic,
    )
    return means, optimistic


# numpy would pass over memory a dozen times where these pass once; and they leave the GIL to the requests.
@njit(
    types.void(_ITEMS, _DOUBLES, _DOUBLES, _SINGLES, types.float64[::1], types.float64[::1]),
    cache=True,
    nogil=True,
)
def _pool(
    items: NDArray[np.int32],
    n: NDArray[np.float64],
    b: NDArray[np.float64],
    probability: NDArray[np.float32],
    rewards: NDArray[np.float64],
    expected: NDArray[np.float64],
) -> None:
    for edge in range(len(items)):
        item = items[edge]
        rewards[item] += b[edge]
        expected[item] += n[edge] * probability[edge]


@njit(
    types.void(
        _ITEMS, _DOUBLES, _DOUBLES, _SINGLES, _SINGLES, _SINGLES, types.float32, types.float32[::1], types.float32[::1]
    ),
    cache=True,
    nogil=True,
    error_model="numpy",
)
def _posterior_means(
    items: NDArray[np.int32],
    n: NDArray[np.float64],
    b: NDArray[np.float64],
    probability: NDArray[np.float32],
    quality: NDArray[np.float32],
    optimistic_quality: NDArray[np.float32],
    a: float,
    means: NDArray[np.float32],
    optimistic: NDArray[np.float32],
) -> None:
    for edge in range(len(items)):
        item = items[edge]
        shown, gained = np.float32(n[edge]), np.float32(b[edge]) + a
        # Rounding keeps the order of every step, so more quality never gives less; a p of 0 gives a mean of 0.
        p = min(np.float32(1.0), probability[edge] * quality[item])
        means[edge] = gained / (shown + a / p)
        p = min(np.float32(1.0), probability[edge] * optimistic_quality[item])
        optimistic[edge] = gained / (shown + a / p)
