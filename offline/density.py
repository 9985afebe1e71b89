"""Density: how crowded the space is where each item lies, from points drawn there.

Only ratios of densities matter to the weights, so constants that are the same for all items are left out.
"""

from __future__ import annotations

from collections.abc import Callable

import faiss
import numpy as np
from numpy.typing import NDArray
from scipy import stats

Estimator = Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float64]]
"""points float32[n, D], at float32[m, D] → density at each, float64[m], up to a constant."""

MOST_DIMENSIONS = 8
"""Beyond these a kernel density estimate of some thousand points is noise: all are far from each other."""


def knn(points: NDArray[np.float32], at: NDArray[np.float32], neighbours: int) -> NDArray[np.float64]:
    """k / (n · r_k^d), r_k the distance to the k-th nearest point; d is D but at most 8: vectors fill few dimensions.

    Args:
        points: float32[n, D].
        at: float32[m, D].
        neighbours: k; at most n.

    Returns:
        float64[m], densities over that of the median point, so that no power leaves the range of numbers.
    """
    index = faiss.IndexFlatL2(points.shape[1])
    index.add(np.ascontiguousarray(points, dtype=np.float32))
    squares, _ = index.search(np.ascontiguousarray(at, dtype=np.float32), min(neighbours, len(points)))
    radius = np.sqrt(np.maximum(squares[:, -1].astype(np.float64), 1e-12))
    return np.asarray((np.median(radius) / radius) ** min(points.shape[1], MOST_DIMENSIONS), dtype=np.float64)


def kde(points: NDArray[np.float32], at: NDArray[np.float32]) -> NDArray[np.float64]:
    """scipy's Gaussian kernel density estimate with Scott's bandwidth, + 1e-4; float64[m]."""
    return np.asarray(stats.gaussian_kde(points.T)(at.T) + 1e-4, dtype=np.float64)


def pca_kde(
    points: NDArray[np.float32], at: NDArray[np.float32], dimensions: int = MOST_DIMENSIONS
) -> NDArray[np.float64]:
    """The same on the points' main components, in units of the first one's deviation.

    Args:
        points: float32[n, D].
        at: float32[m, D].
        dimensions: components, at most D.
    """
    centre = points.mean(axis=0)
    _, spread, directions = np.linalg.svd(points - centre, full_matrices=False)
    axes = directions[:dimensions].T / max(float(spread[0]) / np.sqrt(len(points)), 1e-12)
    return kde((points - centre) @ axes, (at - centre) @ axes)
