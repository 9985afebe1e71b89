import numpy as np
import pytest
from scipy import stats

from offline import density

GENERATOR = np.random.default_rng(0)
POINTS = (GENERATOR.normal(size=(4000, 2)) * [1.0, 0.3]).astype(np.float32)
AT = GENERATOR.uniform(-1.5, 1.5, size=(200, 2)).astype(np.float32) * np.array([1.0, 0.3], dtype=np.float32)
TRUTH = stats.multivariate_normal([0, 0], [1.0, 0.09]).logpdf(AT)
ESTIMATORS = {
    "knn": lambda points, at: density.knn(points, at, 100),
    "kde": density.kde,
    "pca_kde": density.pca_kde,
}
EACH = pytest.mark.parametrize("estimator", ESTIMATORS.values(), ids=list(ESTIMATORS))


@EACH
def test_finds_a_known_density_up_to_a_constant(estimator: density.Estimator) -> None:
    found = np.log(estimator(POINTS, AT))
    assert found - found.mean() == pytest.approx(TRUTH - TRUTH.mean(), abs=0.4)


@EACH
def test_who_is_asked_about_in_which_order_and_where_the_space_begins_do_not_matter(
    estimator: density.Estimator,
) -> None:
    found = estimator(POINTS, AT)
    order = GENERATOR.permutation(len(AT))
    assert estimator(POINTS, AT[order]) == pytest.approx(found[order], rel=1e-3)
    assert estimator(POINTS[::-1], AT) == pytest.approx(found, rel=1e-3)
    turned = np.array([[0.6, -0.8], [0.8, 0.6]], dtype=np.float32)
    shift = np.array([2.0, -1.0], dtype=np.float32)
    assert estimator(POINTS @ turned + shift, AT @ turned + shift) == pytest.approx(found, rel=0.02)


def test_the_kernel_estimate_is_the_papers() -> None:
    official = stats.gaussian_kde(POINTS.astype(np.float64).T)(AT.astype(np.float64).T) + 1e-4
    assert density.kde(POINTS, AT) == pytest.approx(official, rel=1e-3)


def test_all_main_components_give_the_same_but_for_the_unit_and_few_do_without_the_others() -> None:
    whole, full = density.kde(POINTS, AT) - 1e-4, density.pca_kde(POINTS, AT) - 1e-4
    ratio = whole / full
    assert ratio == pytest.approx(ratio.mean(), rel=1e-2)
    # A third axis that says next to nothing leaves the density on the two main ones alone.
    points, at = (np.pad(array, ((0, 0), (0, 1)), constant_values=5.0) for array in (POINTS, AT))
    assert density.pca_kde(points, at, dimensions=2) - 1e-4 == pytest.approx(full, rel=1e-2)


@pytest.mark.parametrize("estimator", [ESTIMATORS["knn"], ESTIMATORS["pca_kde"]], ids=["knn", "pca_kde"])
def test_survives_many_dimensions(estimator: density.Estimator) -> None:
    """A crowd and a sparse region of one sphere in 64 dimensions."""
    crowd, sparse = (GENERATOR.normal(size=64) + spread * GENERATOR.normal(size=(1000, 64)) for spread in (0.3, 0.9))
    points = np.concatenate([crowd, sparse]).astype(np.float32)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    found = estimator(points, points)
    assert np.isfinite(found).all()
    assert np.median(found[:1000]) > 3 * np.median(found[1000:])
