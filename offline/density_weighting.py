"""Density weighting (Mehta et al. 2023): an item's share of the loss by how crowded the space is where it lies.

An item's mass w_j is its share of the loss; trained plainly it is its share of the targets, so what is popular takes
nearly all of it. The iteration draws items by their mass, takes the density of these where each item lies, and moves
the mass towards the density's inverse: a seldom item in a crowded region is pushed little, one in an empty region
much. Where n items lie in one place, it settles with a mass ∝ √n there: between even over items (n) and even over the
space (1). Items that were never a target have no mass.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from offline.density import Estimator


def example_weights(mass: NDArray[np.float64], frequencies: NDArray[np.float64]) -> NDArray[np.float32]:
    """What a target counts that is item j: w_j / n_j in units of 1 / N, so that the mean over targets is 1.

    Args:
        mass: float64[J], w_j, sums to 1; 0 where `frequencies` is 0.
        frequencies: float64[J], n_j / N, each item's share of the targets.

    Returns:
        float32[J], 0 for items that were never a target.
    """
    return np.divide(mass, frequencies, out=np.zeros_like(mass), where=frequencies > 0).astype(np.float32)


def even(frequencies: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inverse frequency weighting as masses: float64[J], the same for all items that were a target."""
    there = frequencies > 0
    return np.asarray(there / there.sum(), dtype=np.float64)


def draw(
    vectors: NDArray[np.float32], mass: NDArray[np.float64], number: int, noise: float, generator: np.random.Generator
) -> NDArray[np.float32]:
    """Points of the items' space: float32[number, D], items drawn by their mass, with Gaussian noise.

    Args:
        vectors: float32[J, D].
        mass: float64[J], sums to 1.
        number: of points.
        noise: its deviation on each axis, in units of the items' own, so that neither the vectors' length nor their
            dimension matters.
        generator: of the chance.
    """
    drawn = vectors[generator.choice(len(mass), size=number, p=mass)]
    deviation = noise * float(np.sqrt(vectors[mass > 0].var(axis=0).mean()))
    return np.asarray(drawn + deviation * generator.standard_normal(drawn.shape), dtype=np.float32)


def inverse(density: NDArray[np.float64], there: NDArray[np.bool_], clip: float) -> NDArray[np.float64]:
    """Masses against the density: (1 / ρ_j) / Σ_i (1 / ρ_i), none more than `clip` times the median.

    Args:
        density: float64[n] of the n items that are `there`, ≥ 0.
        there: bool[J].
        clip: ≥ 1.

    Returns:
        float64[J], sums to 1; 0 where not `there`.
    """
    largest = density.max()
    relative = density / largest if largest > 0 else np.ones_like(density)
    inverted = 1 / np.maximum(relative, 1e-12)
    inverted = np.minimum(inverted, clip * np.median(inverted))
    mass = np.zeros(len(there))
    mass[there] = inverted / inverted.sum()
    return mass


def against_density(
    vectors: NDArray[np.float32],
    mass: NDArray[np.float64],
    estimator: Estimator,
    *,
    draws: int,
    noise: float,
    clip: float,
    generator: np.random.Generator,
) -> NDArray[np.float64]:
    """ŵ: masses against the density of `mass` in the space of vectors float32[J, D]; the arguments are those above."""
    there = mass > 0
    points = draw(vectors, mass, draws, noise, generator)
    return inverse(estimator(points, vectors[there]), there, clip)


def onward(mass: NDArray[np.float64], towards: NDArray[np.float64], momentum: float) -> NDArray[np.float64]:
    """w' = β·w + (1 − β)·ŵ: float64[J]."""
    return momentum * mass + (1 - momentum) * towards


def has_settled(mass: NDArray[np.float64], before: NDArray[np.float64], delta: float) -> bool:
    """Whether max_j |w'_j − w_j| < δ, with δ in units of the mean mass of the items that have some."""
    return bool(np.abs(mass - before).max() * (before > 0).sum() < delta)
