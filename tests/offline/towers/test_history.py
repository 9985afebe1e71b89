import jax.numpy as jnp
import numpy as np

from offline.data.timelines import PAD
from offline.towers.history import HistoryTower

ITEMS = jnp.array([[1.0, 0.0], [0.0, 1.0], [5.0, 5.0]])


def test_pools_the_items_that_are_there() -> None:
    tower = HistoryTower(length=3, dimension=2)
    tower.place[...] = jnp.log(jnp.array([3.0, 1.0, 1.0]))
    found = tower(ITEMS, jnp.array([[0, 1, PAD], [1, PAD, PAD], [0, 0, 1]]))
    assert np.allclose(found, [[0.75, 0.25], [0.0, 1.0], [0.8, 0.2]], atol=1e-6)


def test_an_empty_history_is_learned() -> None:
    tower = HistoryTower(length=2, dimension=2)
    tower.empty[...] = jnp.array([7.0, 8.0])
    assert np.allclose(tower(ITEMS, jnp.array([[PAD, PAD]])), [[7.0, 8.0]])
