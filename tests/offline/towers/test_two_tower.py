import jax.numpy as jnp
import numpy as np

from offline.towers.two_tower import TwoTower
from tests.offline.conftest import TRAIN


def test_scores_are_inner_products_over_the_temperature() -> None:
    model = TwoTower(num_items=3, config=TRAIN, seed=0)
    users = jnp.array([[[1.0, 0.0]], [[0.6, 0.8]]])
    scores = model.scores(users, jnp.array([[1.0, 0.0], [0.0, 1.0]]))
    assert np.allclose(scores, np.array([[1.0, 0.0], [0.6, 0.8]]) / TRAIN.temperature, rtol=1e-5)


def test_of_several_interests_the_nearest_counts() -> None:
    model = TwoTower(num_items=3, config=TRAIN, seed=0)
    users = jnp.array([[[1.0, 0.0], [0.0, 1.0]]])
    scores = model.scores(users, jnp.array([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]]))
    assert np.allclose(scores, np.array([[1.0, 1.0, -1.0]]) / TRAIN.temperature, rtol=1e-5)


def test_the_seed_decides_the_beginning() -> None:
    one, same, other = (TwoTower(3, TRAIN, seed).item.embedding.embedding[...] for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
