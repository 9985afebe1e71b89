import jax.numpy as jnp
import numpy as np
from flax import nnx

from offline.data.timelines import PAD
from offline.towers.user import UserTower


def test_gives_one_unit_vector_a_user_from_history_and_features() -> None:
    tower = UserTower(length=2, buckets=8, dimension=4, hidden=3, rngs=nnx.Rngs(0))
    items = jnp.eye(4)
    histories = jnp.array([[0, 1], [0, 1], [2, PAD]])
    vectors = tower(items, histories, jnp.array([[1], [2], [1]]))
    assert vectors.shape == (3, 1, 4)
    assert np.allclose(jnp.linalg.norm(vectors, axis=2), 1, atol=1e-5)
    assert not np.allclose(vectors[0], vectors[1])
    assert not np.allclose(vectors[0], vectors[2])
