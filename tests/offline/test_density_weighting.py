from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from scipy import stats

from offline import density
from offline import density_weighting as dw

Counts = NDArray[np.int64]
counts: st.SearchStrategy[Counts] = arrays.arrays(np.int64, st.integers(2, 11), elements=st.integers(0, 50)).filter(
    lambda found: bool(found.sum() > 0)
)
densities = arrays.arrays(np.float64, 11, elements=st.just(0.0) | st.floats(1e-6, 1e6))


def shares(found: Counts) -> NDArray[np.float64]:
    return np.asarray(found / found.sum(), dtype=np.float64)


@settings(deadline=None)
@given(counts)
def test_plain_training_weighs_all_alike_and_even_masses_weigh_against_frequency(found: Counts) -> None:
    frequencies, there = shares(found), found > 0
    assert dw.example_weights(frequencies, frequencies) == pytest.approx(there.astype(float))
    weights = dw.example_weights(dw.even(frequencies), frequencies)
    assert weights[there] * found[there] == pytest.approx(found.sum() / there.sum())
    assert not weights[~there].any()


@settings(deadline=None)
@given(counts, densities, st.floats(0, 1), st.floats(1, 20))
def test_mass_is_conserved(found: Counts, rho: NDArray[np.float64], momentum: float, clip: float) -> None:
    frequencies, there = shares(found), found > 0
    towards = dw.inverse(rho[: there.sum()], there, clip)
    mass = dw.onward(frequencies, towards, momentum)
    for each in (towards, mass):
        assert each.sum() == pytest.approx(1)
        assert (each >= 0).all()
        assert not each[~there].any()
    assert (frequencies * dw.example_weights(mass, frequencies)).sum() == pytest.approx(1)  # the mean over targets


@settings(deadline=None)
@given(densities, st.floats(1, 20), st.randoms(use_true_random=False))
def test_denser_means_less_mass_within_the_clip_whatever_the_unit_and_the_order(
    rho: NDArray[np.float64], clip: float, random: Any
) -> None:
    there = np.ones(11, dtype=bool)
    found = dw.inverse(rho, there, clip)
    assert (np.diff(found[np.argsort(rho)]) <= 1e-12).all()
    assert found.max() <= clip * np.median(found) * (1 + 1e-9)
    order = np.array(random.sample(range(11), 11))
    assert dw.inverse(rho[order], there, clip) == pytest.approx(found[order])
    assert dw.inverse(4 * rho, there, clip) == pytest.approx(found)


def test_points_are_drawn_by_mass_with_noise_in_units_of_the_items() -> None:
    vectors = np.array([[0.0, 0.0], [100.0, 0.0], [0.0, 100.0]], dtype=np.float32)
    mass = np.array([0.7, 0.3, 0.0])
    points = dw.draw(vectors, mass, 4000, 0.1, np.random.default_rng(0))
    right = points[:, 0] > 50
    assert right.mean() == pytest.approx(0.3, abs=0.03)
    assert points[:, 1].max() < 50
    deviation = 0.1 * np.sqrt(2500 / 2)  # of the two items with mass: variance 2500 on one axis, 0 on the other
    assert points[~right].std(axis=0) == pytest.approx(deviation, rel=0.05)


def test_a_round_is_the_papers() -> None:
    """Against the authors' round written out, in two dimensions: draws, kernel density, inverse, momentum."""
    generator = np.random.default_rng(1)
    vectors = generator.normal(size=(30, 2)).astype(np.float32)
    vectors /= np.sqrt(vectors.var(axis=0).mean())  # so that the paper's noise, 0.1, is ours
    mass = generator.dirichlet(np.ones(30))
    found = dw.onward(
        mass,
        dw.against_density(
            vectors, mass, density.kde, draws=10_000, noise=0.1, clip=np.inf, generator=np.random.default_rng(2)
        ),
        0.9,
    )
    same = np.random.default_rng(2)
    chosen = same.choice(30, size=10_000, p=mass)
    points = vectors[chosen] + same.normal(0, 0.1, size=(10_000, 2))
    rho = stats.gaussian_kde(points.T)(vectors.T) + 1e-4
    expected = 0.9 * mass + 0.1 * (1 / rho) / (1 / rho).sum()
    assert found == pytest.approx(expected, rel=1e-3)


def test_the_iteration_settles_between_even_over_items_and_even_over_the_space() -> None:
    """Forty items in one place, of which one is popular, and two alone: places of n items get mass as √n."""
    places = np.array([[0.0, 0.0]] * 40 + [[5.0, 0.0], [0.0, 5.0]])
    vectors = (places + 0.1 * np.random.default_rng(0).normal(size=places.shape)).astype(np.float32)
    frequencies = shares(np.array([200] + [5] * 39 + [5, 5]))
    generator, before, mass = np.random.default_rng(1), np.ones(42), frequencies
    rounds = 0
    while not dw.has_settled(mass, before, 0.05) and rounds < 40:
        towards = dw.against_density(
            vectors, mass, density.kde, draws=5000, noise=0.1, clip=np.inf, generator=generator
        )
        before, mass, rounds = mass, dw.onward(mass, towards, 0.8), rounds + 1
    assert 1 < rounds < 40
    assert frequencies[:40].sum() > 0.97
    assert mass[:40].sum() == pytest.approx(np.sqrt(40) / (np.sqrt(40) + 2), abs=0.03)
    # An item of the crowd is pushed less for being seldom than by frequency alone, one that is alone more.
    assert mass[1:40].max() < dw.even(frequencies)[0] < mass[40:].min()


def test_settled_is_in_units_of_the_mean_mass() -> None:
    before = np.array([0.5, 0.25, 0.25, 0.0])
    mass = np.array([0.51, 0.24, 0.25, 0.0])
    assert dw.has_settled(mass, before, 0.031)
    assert not dw.has_settled(mass, before, 0.029)
